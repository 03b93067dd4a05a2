"""x · Wᵀ + b for inference on a CPU: by the matrix library, by oneDNN, or as the length asks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miniformer.minilm.devices import pick_dtype
from miniformer.model.feedforward import ACTIVATIONS, Activation

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
# Up to so many tokens, a question rather than a corpus, weights that are laid out already win; with
# some hundreds of tokens both ways take the same. See benchmarks/RESULTS.md.
FEW = 128


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


class LinearByLength:
    """Linear maps of one input: by the matrix library, but few tokens by oneDNN.

    The matrix library copies the weights into a layout of its own for every product; a second copy
    that is laid out already is made for the first few tokens that come.
    """

    def __init__(self, linears: Sequence[nn.Linear], activation: Activation | None = None) -> None:
        self._parts = linears, activation
        self._many = BlasLinear(linears, activation)

    @cached_property
    def _few(self) -> OneDnnLinear:
        return OneDnnLinear(*self._parts)

    def _for(self, x: Tensor) -> FusedLinear:
        return self._few if len(x) <= FEW else self._many

    def __call__(self, x: Tensor, scratch: Tensor) -> Tensor:
        """Map [T, in] to [T, out] and activate."""
        return self._for(x)(x, scratch)

    def onto(self, x: Tensor, residual: Tensor) -> Tensor:
        """Add the map of [T, in] to ``residual``, which may be overwritten."""
        return self._for(x).onto(x, residual)


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
BY_LENGTH = Kernels(
    LinearByLength, multiple=lambda tokens: 8 if tokens <= FEW else 1, contiguous=False
)
ONE_DNN = Kernels(OneDnnLinear, multiple=_eighth, contiguous=True)
# bfloat16 is worth oneDNN's layout; many tokens of float32 are faster by the matrix library, which
# also writes in place.
KERNELS: Mapping[torch.dtype, Kernels] = {torch.float32: BY_LENGTH, torch.bfloat16: ONE_DNN}


def pick_format(name: str) -> tuple[torch.dtype, Kernels]:
    """The named number format on this CPU and how it is computed; ``auto`` is bfloat16 where it is
    multiplied in hardware, also by oneDNN (``ONEDNN_MAX_CPU_ISA`` can forbid it that).

    ValueError lists the known names.
    """
    dtype = pick_dtype(name, torch.device("cpu"))
    kernels = KERNELS[dtype]
    if kernels is BLAS or _has_layout(dtype):
        return dtype, kernels
    return (torch.float32 if name == "auto" else dtype), BLAS


def _has_layout(dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies the format: asked for, since the processor's flags say too much."""
    try:
        torch.ops.mkldnn._reorder_linear_weight(torch.zeros(16, 16, dtype=dtype), ROWS_EXPECTED)
    except (RuntimeError, AttributeError):  # the processor, or a build without oneDNN
        return False
    return True


def within(scratch: Tensor, rows: int, columns: int) -> Tensor:
    """A matrix at the beginning of a flat tensor."""
    return scratch[: rows * columns].view(rows, columns)
