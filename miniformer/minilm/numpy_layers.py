"""The blocks of a BERT encoder in float32 NumPy: activations, linear maps, norms, tables.

Tokens are columns. The matrix library copies the right operand of a product into a layout of its
own; with W · x that is a few tokens, with x · Wᵀ all the weights.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from miniformer.weights import MappedTensor

Floats = npt.NDArray[np.float32]
Activation = Callable[[Floats], Floats]

# The upper tail of the normal distribution is exp(-a²/2) · P(a)/Q(a) for a ≥ 0: Cody's form of erfc
# (Math. Comp. 23, 1969), lowest power first. A minimax fit of our own, in double, to
# a · tail(a): off by less than 2.1e-10. Every coefficient is positive, so nothing cancels.
TAIL_P = (0.49999998, 0.30726925, 0.0909176, 0.010822824)
TAIL_Q = (1.0, 1.4124223, 0.80879142, 0.2266928, 0.02718941)


def gelu(x: Floats) -> Floats:
    """The exact GELU, x · Φ(x) (Hendrycks & Gimpel 2016), to 1e-7 · max(1, abs(x)).

    Written max(x, 0) − abs(x) · tail(abs(x)), which unlike 1 + erf loses no digits below 0.
    """
    a = np.abs(x)
    tail = np.square(a)
    tail *= np.float32(-0.5)
    np.exp(tail, out=tail)
    tail *= a
    tail *= _polynomial(TAIL_P, a)
    tail /= _polynomial(TAIL_Q, a)
    return np.subtract(np.maximum(x, 0, out=a), tail, out=a)


def _polynomial(coefficients: Sequence[float], x: Floats) -> Floats:
    """Horner's scheme, the lowest power first."""
    total = x * np.float32(coefficients[-1])
    for coefficient in coefficients[-2:0:-1]:
        total += np.float32(coefficient)
        total *= x
    total += np.float32(coefficients[0])
    return total


def _gelu_new(x: Floats) -> Floats:
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x**3)
    opened: Floats = np.float32(0.5) * x * (1 + np.tanh(inner))
    return opened


def _silu(x: Floats) -> Floats:
    # x · sigmoid(x), by the exponential that cannot overflow
    decay = np.exp(-np.abs(x))
    opened: Floats = x * np.where(x > 0, np.float32(1), decay) / (1 + decay)
    return opened


def _relu(x: Floats) -> Floats:
    return np.maximum(x, 0)


# By the names of config.json and of sentence-transformers' Dense, as far as the torch model goes.
ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": gelu,
    "gelu_new": _gelu_new,
    "relu": _relu,
    "silu": _silu,
}
DENSE_ACTIVATIONS: Mapping[str, Activation] = {
    "Identity": np.asarray,
    "Tanh": np.tanh,
    "ReLU": _relu,
    "GELU": gelu,
}


def _from_bfloat16(halves: npt.NDArray[Any]) -> Floats:
    return (halves.astype(np.uint32) << 16).view(np.float32)


def _from_float(numbers: npt.NDArray[Any]) -> Floats:
    return np.asarray(numbers, np.float32)  # no copy where they are float32


# Safetensors' number formats: how the bytes are viewed, and how they become float32.
FORMATS: Mapping[str, tuple[str, Callable[[npt.NDArray[Any]], Floats]]] = {
    "F64": ("<f8", _from_float),
    "F32": ("<f4", _from_float),
    "F16": ("<f2", _from_float),
    "BF16": ("<u2", _from_bfloat16),
}


class Table:
    """A matrix in a file, of which rows are asked for: only these are read and made float32."""

    def __init__(self, tensor: MappedTensor) -> None:
        dtype, self._to_float32 = FORMATS[tensor.format]
        self._rows = np.frombuffer(tensor.data, dtype).reshape(tensor.shape)

    def __getitem__(self, rows: Any) -> Floats:
        return self._to_float32(self._rows[rows])


@dataclass(frozen=True)
class Linear:
    """A weight [out, in] and a bias [out, 1]."""

    weight: Floats
    bias: Floats | None

    def __call__(self, x: Floats) -> Floats:
        """Map [in, n] to [out, n]."""
        y: Floats = self.weight @ x
        if self.bias is not None:
            y += self.bias
        return y


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalisation (Ba et al. 2016, arXiv:1607.06450), weight and bias [hidden, 1]."""

    weight: Floats
    bias: Floats
    eps: float

    def __call__(self, x: Floats) -> Floats:
        """Bring each column of [hidden, n] to mean 0 and variance 1, then scale and shift it."""
        x = x - x.mean(0)
        variance = np.square(x).mean(0)
        x *= 1 / np.sqrt(variance + np.float32(self.eps))
        x *= self.weight
        x += self.bias
        return x
