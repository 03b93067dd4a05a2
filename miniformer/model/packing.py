"""Weights laid out for inference on a CPU: float32, bfloat16 or int8, converted once.

Decoding reads every weight for every token, so its speed is that of the memory: smaller weights,
in the order in which the kernels read them, are faster ones.
"""

import warnings
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from miniformer.model.feedforward import ACTIVATIONS, Activation, FeedForward
from miniformer.model.tables import row

Model = TypeVar("Model", bound=nn.Module)

ROWS_EXPECTED = 8  # oneDNN chooses a layout for a number of rows; others work too
INT8_TOP = 127


class PackedLinear(nn.Module):
    """A linear layer in oneDNN's own layout, of float32 or bfloat16; no parameters, no gradient."""

    packed = True

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach()
        self.out_features = linear.out_features
        self.bias = None if linear.bias is None else linear.bias.detach()
        # Where the processor cannot multiply bfloat16 there is no layout for it, only emulation.
        self.laid_out = (
            weight.dtype != torch.bfloat16 or torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
        reorder = torch.ops.mkldnn._reorder_linear_weight
        self.weight = reorder(weight, ROWS_EXPECTED) if self.laid_out else weight

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        if not self.laid_out:
            return nn.functional.linear(x, self.weight, self.bias)
        y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return y


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, one scale an output; the input is quantised as it comes.

    float32 in and out. The input's scale is that of the whole tensor, so that a row's result
    depends, within the rounding, on the rows beside it.
    """

    packed = True

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny) / INT8_TOP
        zeros = torch.zeros(len(scales), dtype=torch.int64)
        bias = None if linear.bias is None else linear.bias.detach().float()
        self.out_features = linear.out_features
        with warnings.catch_warnings():
            # These tensors are announced to go some day; the plain ones have no such kernel yet.
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor", UserWarning)
            quantised = torch.quantize_per_channel(weight, scales, zeros, 0, torch.qint8)
            self.weight = torch.ops.quantized.linear_prepack(quantised, bias)
        # Without VNNI the kernel adds pairs of products in 16 bits: one bit less keeps them whole.
        capabilities = torch.cpu.get_capabilities()
        self.reduce_range = not (capabilities.get("avx512_vnni") or capabilities.get("avx_vnni"))

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        y: Tensor = torch.ops.quantized.linear_dynamic(x, self.weight, self.reduce_range)
        return y


# precision -> what a linear layer becomes, and the format of everything else.
PRECISIONS: dict[str, tuple[Callable[[nn.Linear], nn.Module], torch.dtype]] = {
    "float32": (PackedLinear, torch.float32),
    "bfloat16": (PackedLinear, torch.bfloat16),
    "int8": (Int8Linear, torch.float32),
}

# Without a gradient to keep, an activation may overwrite its input: a wide one is then not paid
# for with fresh pages of memory.
IN_PLACE: dict[Activation, Activation] = {
    ACTIVATIONS["relu"]: torch.relu_,
    ACTIVATIONS["gelu"]: torch.ops.aten.gelu_,
}


def pack(model: Model, precision: str = "float32") -> Model:
    """Convert every linear layer of ``model`` in place, for inference on a CPU; returns it.

    ``float32`` gives the same results within rounding, ``bfloat16`` and ``int8`` are smaller and
    less exact. A packed model is in eval mode, and cannot be trained, saved, moved or copied.
    ValueError for an unknown precision, a model elsewhere than on the CPU, or a packed one.
    """
    make, dtype = row(PRECISIONS, precision, "precision")
    if any(getattr(module, "packed", False) for module in model.modules()):
        raise ValueError("the model is packed already; load it again")
    elsewhere = {p.device.type for p in model.parameters()} - {"cpu"}
    if elsewhere:
        raise ValueError(f"weights are packed for the CPU; the model is on {sorted(elsewhere)}")
    model.to(dtype).eval().requires_grad_(False)
    for module in list(model.modules()):
        if isinstance(module, FeedForward):
            module.activation = IN_PLACE.get(module.activation, module.activation)
        for name, child in list(module.named_children()):
            if type(child) is nn.Linear:
                setattr(module, name, make(child))
    return model
