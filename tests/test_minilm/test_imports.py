"""What an import costs, and where a model may run."""

import os
import subprocess
import sys

import pytest
import torch

import miniformer
import miniformer.minilm
from miniformer.minilm.devices import DEVICES, DTYPES, pick_device, pick_dtype

HEAVY = ("torch", "transformers", "lightning", "faiss", "matplotlib", "tokenizers", "safetensors")
# Loading and running a model may import torch, but still none of these.
OTHERS = ("transformers", "lightning", "faiss", "matplotlib", "sentence_transformers")


def loaded_after(code, names):
    """Which of the names a fresh interpreter has imported after running some code."""
    report = f"\nimport sys; print([name for name in {names!r} if name in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code + report],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    return run.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("module", ["miniformer", "miniformer.minilm", "miniformer.weights"])
def test_an_import_alone_loads_nothing_heavy(module):
    assert loaded_after(f"import {module}; dir({module})", HEAVY) == "[]"


def test_loading_and_running_a_model_needs_torch_alone(wheel):
    code = (
        "from miniformer import MiniLMTokenizer, SentenceTransformer\n"
        f"model = SentenceTransformer.from_pretrained({str(wheel)!r})\n"
        f"batch = MiniLMTokenizer({str(wheel)!r}).encode('a text')\n"
        "assert model(batch['input_ids'], batch['attention_mask']).shape == (1, 384)"
    )
    assert loaded_after(code, OTHERS) == "[]"


@pytest.mark.parametrize("package", [miniformer, miniformer.minilm])
def test_every_public_name_is_there(package):
    assert dir(package) == sorted(package.__all__)
    for name in package.__all__:
        assert getattr(package, name).__name__ == name


@pytest.mark.parametrize("package", [miniformer, miniformer.minilm])
def test_another_name_is_an_attribute_error(package):
    with pytest.raises(AttributeError, match=f"{package.__name__}.*NoSuchModel"):
        package.NoSuchModel  # noqa: B018


@pytest.mark.parametrize("name", ["gpu", "CPU", "cuda:0", ""])
def test_an_unknown_device_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="unknown device") as caught:
        pick_device(name)
    assert repr(name) in str(caught.value)
    assert "auto, cpu, cuda, mps" in str(caught.value)


@pytest.mark.parametrize("name", ["float16", "fp32", "int8", ""])
def test_an_unknown_number_format_lists_the_known_ones(name):
    with pytest.raises(ValueError, match="unknown dtype") as caught:
        pick_dtype(name, torch.device("cpu"))
    assert repr(name) in str(caught.value)
    assert "auto, float32, bfloat16" in str(caught.value)


def is_there(device):
    return {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }[device]


@pytest.mark.parametrize("name", DEVICES)
def test_a_device_is_picked_where_it_is_there_and_refused_where_not(name):
    if is_there(name):
        assert pick_device(name) == torch.device(name)
    else:
        with pytest.raises(ValueError, match=f"'{name}' is not available.*auto or cpu"):
            pick_device(name)


def test_the_automatic_device_is_the_fastest_that_is_there():
    assert pick_device().type == next(name for name in ("cuda", "mps", "cpu") if is_there(name))


@pytest.mark.parametrize("name", DTYPES)
def test_a_named_number_format_is_taken(name):
    assert pick_dtype(name, torch.device("cpu")) == getattr(torch, name)


def test_the_automatic_number_format_follows_the_processor(monkeypatch):
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    features = torch.cpu.get_capabilities()
    in_hardware = features.get("amx_bf16") or features.get("avx512_bf16")
    expected = torch.bfloat16 if in_hardware else torch.float32
    assert pick_dtype("auto", torch.device("cpu")) == expected
    assert pick_dtype("auto", torch.device("mps")) == torch.float32


@pytest.mark.parametrize(
    ("limit", "dtype"),
    [
        ("avx512_core_vnni", torch.float32),  # oneDNN would emulate it
        ("AVX2", torch.float32),
        ("AVX512_CORE_AMX", torch.bfloat16),
        ("ALL", torch.bfloat16),
    ],
)
def test_what_onednn_may_not_use_is_not_chosen(monkeypatch, limit, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert pick_dtype("auto", torch.device("cpu")) == dtype
