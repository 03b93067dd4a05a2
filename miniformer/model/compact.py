"""Model folders that leave out what a base model has, with int8 weights: small enough to ship."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

SCALE = ".scale"  # behind the name of an int8 tensor: the factor of each of its rows
INT8_TOP = 127
SMALL = 4_096  # numbers; what has fewer stays as it is, at half precision


def compacted(tensors: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors without those that ``base`` has alike, matrices as int8 with a scale a row, the rest
    as float16.
    """
    small = {}
    for name, tensor in tensors.items():
        if name in base and torch.equal(base[name], tensor):
            continue
        if tensor.dim() == 2 and tensor.numel() > SMALL:
            scale = tensor.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / INT8_TOP
            small[name] = (tensor / scale).round().to(torch.int8)
            small[name + SCALE] = scale.half()
        else:
            small[name] = tensor.half()
    return small


def expanded(tensors: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`compacted`, within the rounding: float32 tensors, and those of ``base``."""
    whole = dict(base)
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            whole[name] = tensor.float() * tensors[name + SCALE].float()
        elif not name.endswith(SCALE):
            whole[name] = tensor.float()
    return whole


def check_base(described: dict[str, Any], sha256: str, where: Path) -> None:
    """ValueError when the base that a folder was made from is another than the one that is here."""
    wanted = described["sha256"]
    if sha256 != wanted:
        raise ValueError(
            f"{where} was made from {described['name']} with sha256 {wanted[:12]}…, but the "
            f"{described['name']} that is here has {sha256[:12]}…"
        )
