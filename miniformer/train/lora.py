"""Low-rank updates of frozen layers (Hu et al. 2022, arXiv:2106.09685)."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class LoRALinear(nn.Module):
    """W x + b + alpha/rank · B (A x): W and b are held still, A [rank, in] and B [out, rank] learn.

    B starts at 0, so that nothing changes before the first step.
    """

    def __init__(self, linear: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.scale = alpha / rank
        self.down = nn.Parameter(linear.weight.new_empty(rank, linear.in_features))
        self.up = nn.Parameter(linear.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.down, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        update = F.linear(F.linear(x, self.down), self.up)
        return torch.add(self.linear(x), update, alpha=self.scale)

    def merge(self) -> nn.Linear:
        """The one layer that does the same."""
        merged = nn.Linear(
            self.linear.in_features, self.linear.out_features, bias=self.linear.bias is not None
        )
        with torch.no_grad():
            weight = self.linear.weight.double()
            weight += self.scale * (self.up.double() @ self.down.double())
            merged.weight.copy_(weight)
            if self.linear.bias is not None:
                merged.bias.copy_(self.linear.bias)
        return merged.to(self.linear.weight)


def add_lora(model: nn.Module, rank: int, alpha: float, targets: str) -> None:
    """Freeze a model and give every linear layer whose name ``targets`` (a regular expression)
    finds a low-rank update. ValueError when it finds none, or the rank is not below a layer's size.
    """
    model.requires_grad_(False)
    found = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and re.search(targets, name)
    ]
    if not found:
        raise ValueError(f"lora_targets {targets!r} is in no linear layer's name")
    for name, linear in found:
        if rank >= min(linear.in_features, linear.out_features):
            raise ValueError(f"lora_rank {rank} is no less than the size of {name}")
        _put(model, name, LoRALinear(linear, rank, alpha))


def merge_lora(model: nn.Module) -> None:
    """Put single layers in the places of those with updates."""
    for name, layer in lora_layers(model).items():
        _put(model, name, layer.merge())


@contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """While the context lasts the model is merged; then it goes on learning its updates."""
    layers = lora_layers(model)
    merge_lora(model)
    try:
        yield
    finally:
        for name, layer in layers.items():
            _put(model, name, layer)


def save_adapter(model: nn.Module, path: str | Path) -> None:
    """Write A and B of every layer, and their scales, as safetensors: all that was learned. A model
    without updates has no such file.
    """
    layers = lora_layers(model)
    if not layers:
        return
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tensors = {f"{n}.{part}": getattr(m, part) for n, m in layers.items() for part in PARTS}
    metadata = {name: repr(layer.scale) for name, layer in layers.items()}
    save_file({n: t.detach().contiguous() for n, t in tensors.items()}, path, metadata=metadata)


def load_adapter(model: nn.Module, path: str | Path) -> None:
    """Give a model the updates that :func:`save_adapter` wrote; ValueError for a misfit."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        scales = {name: float(scale) for name, scale in (file.metadata() or {}).items()}
    scales.pop("format", None)
    tensors = load_file(path)
    modules = dict(model.named_modules())
    for name, scale in sorted(scales.items()):
        down, up = (tensors[f"{name}.{part}"] for part in PARTS)
        linear = modules.get(name)
        fits = isinstance(linear, nn.Linear) and linear.weight.shape == (up.size(0), down.size(1))
        if not isinstance(linear, nn.Linear) or not fits:
            raise ValueError(f"{path}: the model has no {name} of {up.size(0)} × {down.size(1)}")
        layer = LoRALinear(linear, down.size(0), scale * down.size(0))
        with torch.no_grad():
            layer.down.copy_(down)
            layer.up.copy_(up)
        _put(model, name, layer)


PARTS = ("down", "up")


def lora_layers(model: nn.Module) -> dict[str, LoRALinear]:
    """The layers with updates, by name."""
    return {n: m for n, m in model.named_modules() if isinstance(m, LoRALinear)}


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
