"""Ways to tell a stack where its tokens stand. Each has three hooks, most of which do nothing."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miniformer.config.model_config import TransformerConfig
from miniformer.model.tables import row


class Position(nn.Module):
    """No positions at all; the parent of those that a configuration names.

    ``max_length`` is how many positions there are (None: any number), ``causal`` whether the stack
    only looks back. One object serves all layers of a stack.
    """

    max_length: int | None = None

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__()

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add what belongs to ``positions`` [B or 1, L] to embeddings [B, L, d_model]."""
        return x

    def rotate(self, x: Tensor, start: int) -> Tensor:
        """Turn queries or keys [B, H, L, D] that stand at start, start + 1, …"""
        return x

    def bias(self, queries: int, keys: int) -> Tensor | None:
        """What to add to the scores of the last ``queries`` of ``keys`` positions: [1, H, L, S]."""
        return None


class LearnedPosition(Position):
    """A trained vector a position; ``position_offset`` rows at the top stay unused."""

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__(config, causal=causal)
        self.max_length = config.max_seq_len
        self.offset = config.position_offset
        self.table = nn.Embedding(config.max_seq_len + self.offset, config.d_model)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add the rows of the table."""
        added: Tensor = x + self.table(positions + self.offset)
        return added


class SinusoidalPosition(Position):
    """Sines and cosines of falling frequency (Vaswani et al. 2017, section 3.5)."""

    table: Tensor

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__(config, causal=causal)
        self.max_length = config.max_seq_len
        width = config.d_model
        places = torch.arange(config.max_seq_len)[:, None]
        rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))
        table = torch.zeros(config.max_seq_len, width)
        table[:, 0::2] = torch.sin(places * rates)
        table[:, 1::2] = torch.cos(places * rates)[:, : width // 2]
        self.register_buffer("table", table, persistent=False)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add the rows of the table."""
        return x + self.table[positions]


class RotaryPosition(Position):
    """Turn pairs of each head by an angle that grows with the position, so that a score depends on
    the distance alone (Su et al. 2021, arXiv:2104.09864). The first ``rotary_pct`` of a head is
    turned (an even number of dimensions), the first half of it paired with the second.
    """

    cosines: Tensor
    sines: Tensor

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__(config, causal=causal)
        self.max_length = config.max_seq_len
        part = config.rotary_pct or float(config.position == "rotary")
        self.width = 2 * (int(config.width_of_head * part) // 2)
        exponents = torch.arange(0, self.width, 2) / max(self.width, 1)
        angles = torch.arange(config.max_seq_len)[:, None] * config.rotary_base**-exponents
        self.register_buffer("cosines", angles.cos(), persistent=False)
        self.register_buffer("sines", angles.sin(), persistent=False)

    def rotate(self, x: Tensor, start: int) -> Tensor:
        """Turn the first ``width`` dimensions of each head."""
        stretch = slice(start, start + x.size(2))
        cosines, sines = self.cosines[stretch], self.sines[stretch]  # [L, width / 2]
        turned, kept = x[..., : self.width], x[..., self.width :]
        left, right = turned.float().chunk(2, dim=-1)
        pairs = [left * cosines - right * sines, right * cosines + left * sines]
        return torch.cat([*(part.to(x.dtype) for part in pairs), kept], dim=-1)


class RelativePosition(Position):
    """A learned bias a head and bucket of distance (Raffel et al. 2020, section 2.1)."""

    def __init__(self, config: TransformerConfig, *, causal: bool) -> None:
        super().__init__(config, causal=causal)
        self.causal = causal
        self.max_distance = config.relative_max_distance
        self.table = nn.Embedding(config.relative_buckets, config.n_heads)

    def bias(self, queries: int, keys: int) -> Tensor:
        """[1, H, queries, keys]: the rows of the table by distance."""
        device = self.table.weight.device
        places = torch.arange(keys, device=device)
        buckets = self.buckets(places - places[keys - queries :, None])
        return F.embedding(buckets, self.table.weight).permute(2, 0, 1)[None]

    def buckets(self, distances: Tensor) -> Tensor:
        """Bucket of key position minus query position: one a distance when near, then as the
        logarithm. A causal stack has no buckets for the future, others give it half of them.
        """
        count = self.table.num_embeddings
        if self.causal:
            shift = torch.zeros_like(distances)
            distances = -distances.clamp(max=0)
        else:
            count //= 2
            shift = (distances > 0).long() * count
            distances = distances.abs()
        exact = count // 2
        rise = torch.log(distances.clamp(min=1).float() / exact)
        far = exact + (rise / math.log(self.max_distance / exact) * (count - exact)).long()
        return shift + torch.where(distances < exact, distances, far.clamp(max=count - 1))


POSITIONS: dict[str, Callable[..., Position]] = {
    "none": Position,
    "learned": LearnedPosition,
    "sinusoidal": SinusoidalPosition,
    "rotary": RotaryPosition,
    "relative": RelativePosition,
}


def make_position(config: TransformerConfig, *, causal: bool) -> Position:
    """The configuration's positions for one stack."""
    return row(POSITIONS, config.position_kind, "position")(config, causal=causal)
