"""Position-wise feed-forward networks, and the activations by the names that configurations use."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from miniformer.model.dropout import Dropout
from miniformer.model.tables import row

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: dict[str, Activation] = {
    "gelu": F.gelu,  # the exact form with erf, which BERT was trained with
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}

# Gated linear units (Shazeer 2020, arXiv:2002.05202) and what their gate is.
GATES: dict[str, str] = {
    "swiglu": "silu",
    "geglu": "gelu",
    "geglu_new": "gelu_new",
    "reglu": "relu",
}


def activation(name: str) -> Activation:
    """Look an activation up; ValueError lists the known names."""
    return row(ACTIVATIONS, name, "activation")


class Gated:
    """act(a) · b of a tensor [..., 2·d_ff] that holds a and b side by side: [..., d_ff]."""

    def __init__(self, gate: Activation) -> None:
        self.gate = gate

    def __call__(self, x: Tensor) -> Tensor:
        """Gate one half by the other."""
        gated, passed = x.chunk(2, dim=-1)
        return self.gate(gated) * passed


class FeedForward(nn.Module):
    """Widen, activate, narrow: [B, L, d_model] to [B, L, d_model] (Vaswani et al. 2017, eq. 2).

    ``activation`` is a row of ``ACTIVATIONS`` or of ``GATES``; a gated one makes ``linear1`` twice
    as wide. ValueError for an unknown name or a size below 1.
    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        dropout: float = 0.1,
        activation: str = "gelu",
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        if d_model < 1 or d_ff < 1:
            raise ValueError(f"d_model and d_ff must be at least 1, got {d_model} and {d_ff}")
        gated = activation in GATES
        act = row(ACTIVATIONS, GATES.get(activation, activation), "activation", also=GATES)
        self.linear1 = nn.Linear(d_model, 2 * d_ff if gated else d_ff, bias=bias)
        self.linear2 = nn.Linear(d_ff, d_model, bias=bias)
        self.activation: Activation = Gated(act) if gated else act
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map each position of [..., d_model] by itself."""
        narrowed: Tensor = self.linear2(self.dropout(self.activation(self.linear1(x))))
        return narrowed


FEEDFORWARDS: dict[str, Callable[..., nn.Module]] = {"mlp": FeedForward}
