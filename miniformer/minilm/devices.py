"""Where to compute and in which number format, by name or as the machine allows."""

import os

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
DEVICES = ("cpu", "cuda", "mps")
# Values of ONEDNN_MAX_CPU_ISA with which oneDNN has no bfloat16 products, or only emulates them.
WITHOUT_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI")


def pick_device(name: str = "auto") -> torch.device:
    """The named device; ``auto`` is CUDA, else Apple's MPS, else the CPU.

    ValueError for an unknown name or a device that this machine does not have.
    """
    present = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(device for device, is_there in present.items() if is_there))
    if name not in DEVICES:
        raise ValueError(f"unknown device {name!r}; known: auto, {', '.join(DEVICES)}")
    if not present[name]:
        raise ValueError(f"device {name!r} is not available on this machine; use auto or cpu")
    return torch.device(name)


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """The named format; ``auto`` is bfloat16 where the device multiplies it in hardware.

    ValueError lists the known names.
    """
    if name == "auto":
        return torch.bfloat16 if _has_bfloat16(device) else torch.float32
    if name not in DTYPES:
        raise ValueError(f"unknown dtype {name!r}; known: auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def _has_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        features = torch.cpu.get_capabilities()
        if os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper() in WITHOUT_BFLOAT16:
            return False
        return bool(features.get("amx_bf16") or features.get("avx512_bf16"))
    return False
