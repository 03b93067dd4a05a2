"""The blocks of the inference form: linear maps over packed tokens, attention within each text.

Tokens of many texts stand end to end as [T, hidden], without padding, so that a linear map, a norm
or an activation costs what the tokens cost. Only attention sees where a text begins.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miniformer.minilm.devices import pick_dtype
from miniformer.minilm.model_components import SelfAttention, TransformerLayer
from miniformer.model.feedforward import ACTIVATIONS, Activation

Module = TypeVar("Module", bound=nn.Module)

# Without a gradient to keep, an activation may overwrite its input: the widest tensor then costs no
# fresh pages of memory. Keys are the readable model's own.
IN_PLACE: Mapping[Activation, Activation] = {
    ACTIVATIONS["gelu"]: torch.ops.aten.gelu_,
    ACTIVATIONS["gelu_new"]: partial(torch.ops.aten.gelu_, approximate="tanh"),
    ACTIVATIONS["relu"]: torch.relu_,
    ACTIVATIONS["silu"]: partial(F.silu, inplace=True),
}
# The same inside oneDNN's product: its name of the function, and of the way to compute it.
POST_OPS: Mapping[Activation, tuple[str, str]] = {
    ACTIVATIONS["gelu"]: ("gelu", "none"),
    ACTIVATIONS["gelu_new"]: ("gelu", "tanh"),
    ACTIVATIONS["relu"]: ("relu", ""),
    ACTIVATIONS["silu"]: ("swish", ""),
}
NO_POST_OP = ("none", "")
ROWS_EXPECTED = 2_048  # oneDNN chooses a layout for a number of rows; others work too


@dataclass(frozen=True)
class Group:
    """Texts of one length that stand end to end: where their tokens are, how many texts, how long.

    Equal lengths need no mask, so that attention computes nothing that is thrown away.
    """

    tokens: slice
    texts: int
    length: int


class FusedLinear(Protocol):
    """x · Wᵀ + b, with what follows it."""

    def __call__(self, x: Tensor, scratch: Tensor) -> Tensor:
        """Map [T, in] to [T, out] and activate; ``scratch`` may be used for the result."""

    def onto(self, x: Tensor, residual: Tensor) -> Tensor:
        """Map [T, in] to [T, out] and add it to ``residual``, which may be overwritten."""


MakeLinear = Callable[[Sequence[nn.Linear], Activation | None], FusedLinear]


def stacked(linears: Sequence[nn.Linear]) -> tuple[Tensor, Tensor]:
    """Weight [sum of outs, in] and bias [sum of outs] of maps of one input; one is not copied."""
    weights = [linear.weight.detach() for linear in linears]
    biases = [linear.bias.detach() for linear in linears]
    if len(linears) == 1:
        return weights[0], biases[0]
    return torch.cat(weights), torch.cat(biases)


class BlasLinear:
    """Linear maps of one input as one product of the matrix library, written where it is told."""

    def __init__(self, linears: Sequence[nn.Linear], activation: Activation | None = None) -> None:
        weight, self._bias = stacked(linears)
        self._weight = weight.T
        self._activation = IN_PLACE.get(activation, activation) if activation else None

    def __call__(self, x: Tensor, scratch: Tensor) -> Tensor:
        """Map [T, in] to [T, out] and activate, in ``scratch``."""
        out = within(scratch, len(x), len(self._bias))
        torch.addmm(self._bias, x, self._weight, out=out)
        return self._activation(out) if self._activation else out

    def onto(self, x: Tensor, residual: Tensor) -> Tensor:
        """Add the map of [T, in] to ``residual`` [T, out], in place."""
        return residual.add_(self._bias).addmm_(x, self._weight)


class OneDnnLinear:
    """Linear maps of one input in oneDNN's own layout; what follows happens inside the product."""

    def __init__(self, linears: Sequence[nn.Linear], activation: Activation | None = None) -> None:
        weight, self._bias = stacked(linears)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS_EXPECTED)
        self._post_op = POST_OPS.get(activation, NO_POST_OP) if activation else NO_POST_OP
        self._activation = activation if self._post_op == NO_POST_OP else None

    def __call__(self, x: Tensor, scratch: Tensor) -> Tensor:
        """Map [T, in] to a new [T, out] and activate."""
        name, algorithm = self._post_op
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, name, [], algorithm
        )
        return self._activation(out) if self._activation else out

    def onto(self, x: Tensor, residual: Tensor) -> Tensor:
        """Add the map of [T, in] to ``residual`` as a new [T, out], rounded once."""
        total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x, residual, self._weight, self._bias, "add"
        )
        return total


@dataclass(frozen=True)
class Kernels:
    """How a number format is computed."""

    linear: MakeLinear
    multiple: Callable[[int], int]
    """Tokens of a pass → what their number is rounded up to a multiple of."""
    contiguous: bool
    """Whether queries, keys and values are copied together before attention."""


def _eighth(tokens: int) -> int:
    """A power of 2 of at least 8, between a sixteenth and an eighth of the tokens.

    oneDNN builds and keeps a kernel for every shape it meets; this leaves 8 for each doubling.
    """
    return max(8, 1 << max(0, tokens.bit_length() - 4))


BLAS = Kernels(BlasLinear, multiple=lambda tokens: 1, contiguous=False)
ONE_DNN = Kernels(OneDnnLinear, multiple=_eighth, contiguous=True)
# bfloat16 is worth oneDNN's layout; float32 is faster by the matrix library, which also writes in
# place.
KERNELS: Mapping[torch.dtype, Kernels] = {torch.float32: BLAS, torch.bfloat16: ONE_DNN}


def pick_format(name: str) -> tuple[torch.dtype, Kernels]:
    """The named number format on this CPU and how it is computed; ``auto`` is bfloat16 where it is
    multiplied in hardware, also by oneDNN (``ONEDNN_MAX_CPU_ISA`` can forbid it that).

    ValueError lists the known names.
    """
    dtype = pick_dtype(name, torch.device("cpu"))
    kernels = KERNELS[dtype]
    if kernels is not ONE_DNN or _has_layout(dtype):
        return dtype, kernels
    return (torch.float32 if name == "auto" else dtype), BLAS


def _has_layout(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies the format: asked for, since the processor's flags say too much."""
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(16, 16, dtype=dtype), ROWS_EXPECTED)
    except (RuntimeError, AttributeError):  # the processor, or a build without oneDNN
        return False
    return True


class FusedLayer:
    """A layer of the readable model over packed tokens: the same arithmetic, fewer passes."""

    def __init__(self, layer: TransformerLayer, dtype: torch.dtype, kernels: Kernels) -> None:
        attention: SelfAttention = layer.attention.self
        self._heads = attention.num_attention_heads
        self._contiguous = kernels.contiguous

        def linear(*linears: nn.Linear, activation: Activation | None = None) -> FusedLinear:
            return kernels.linear([in_format(one, dtype) for one in linears], activation)

        self._qkv = linear(attention.query, attention.key, attention.value)
        self._mixed = linear(layer.attention.output.dense)
        self._mixed_norm = in_format(layer.attention.output.LayerNorm, dtype)
        self._widen = linear(layer.intermediate.dense, activation=layer.intermediate.activation)
        self._narrow = linear(layer.output.dense)
        self._norm = in_format(layer.output.LayerNorm, dtype)
        self.widest = max(3 * attention.query.out_features, layer.intermediate.dense.out_features)

    def __call__(
        self, hidden: Tensor, groups: Sequence[Group], mixed: Tensor, scratch: Tensor
    ) -> Tensor:
        """Map [T, hidden], which may be overwritten, to a new [T, hidden].

        ``mixed`` [T, hidden] and ``scratch`` (flat, T times ``widest``) are room to work in.
        """
        self._attend(self._qkv(hidden, scratch), groups, mixed)
        attended = self._mixed_norm(self._mixed.onto(mixed, hidden))
        wide = self._widen(attended, scratch)
        out: Tensor = self._norm(self._narrow.onto(wide, attended))
        return out

    def _attend(self, qkv: Tensor, groups: Sequence[Group], mixed: Tensor) -> None:
        """Each text within itself: [T, 3 · hidden] to ``mixed`` [T, hidden]."""
        for group in groups:
            by_head = (group.texts, group.length, 3, self._heads, -1)
            split = qkv[group.tokens].view(by_head).permute(2, 0, 3, 1, 4)  # [3, N, H, L, D]
            if self._contiguous:
                split = split.contiguous()
            out = F.scaled_dot_product_attention(split[0], split[1], split[2])  # [N, H, L, D]
            by_text = out.transpose(1, 2)
            mixed[group.tokens].view(by_text.shape).copy_(by_text)


def in_format(module: Module, dtype: torch.dtype) -> Module:
    """The module itself where its weights are of the format, else a converted copy."""
    if all(weight.dtype == dtype for weight in module.parameters()):
        return module
    return deepcopy(module).to(dtype)


def within(scratch: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix at the beginning of a flat tensor."""
    return scratch[: rows * columns].view(rows, columns)
