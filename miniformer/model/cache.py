"""Keys and values that attention has seen: growing, in one pre-allocated block, or computed once.

All three answer to ``length`` (how many positions lie before the next one) and to ``extend``,
which takes a function that projects the new keys and values [B, H, n, D] and returns a cache.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

Projection = Callable[[], tuple[Tensor, Tensor]]


class Cache(Protocol):
    """What attention asks of its past."""

    @property
    def keys(self) -> Tensor:
        """[B, H, S, D]."""

    @property
    def values(self) -> Tensor:
        """[B, H, S, D]."""

    @property
    def length(self) -> int:
        """Positions before the next one."""

    def extend(self, project: Projection) -> "Cache":
        """Take up the next positions."""


class KeyValues(NamedTuple):
    """Keys and values [B, H, S, D], immutable: what a plain forward hands back."""

    keys: Tensor
    values: Tensor

    @property
    def length(self) -> int:
        """Positions held."""
        return self.keys.size(2)

    def extend(self, project: Projection) -> "KeyValues":
        """A new pair with the next positions behind these."""
        keys, values = project()
        return KeyValues(torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2))


class NoPast:
    """Nothing seen yet."""

    length = 0

    @staticmethod
    def extend(project: Projection) -> KeyValues:
        """The first positions."""
        return KeyValues(*project())


class StaticCache:
    """One block for ``capacity`` positions, written in place: no copy while decoding goes on."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.length = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    @property
    def keys(self) -> Tensor:
        """[B, H, length, D], a view."""
        assert self._keys is not None
        return self._keys[:, :, : self.length]

    @property
    def values(self) -> Tensor:
        """[B, H, length, D], a view."""
        assert self._values is not None
        return self._values[:, :, : self.length]

    def extend(self, project: Projection) -> "StaticCache":
        """Write the next positions behind the others."""
        keys, values = project()
        if self._keys is None or self._values is None:
            shape = (*keys.shape[:2], self.capacity, keys.size(3))
            self._keys, self._values = keys.new_empty(shape), keys.new_empty(shape)
        end = self.length + keys.size(2)
        self._keys[:, :, self.length : end] = keys
        self._values[:, :, self.length : end] = values
        self.length = end
        return self

    def select(self, rows: Tensor) -> None:
        """Keep these rows, in this order; a row may come twice."""
        if self._keys is not None and self._values is not None:
            self._keys = self._chosen(self._keys, rows)
            self._values = self._chosen(self._values, rows)

    def _chosen(self, block: Tensor, rows: Tensor) -> Tensor:
        chosen = block.new_empty(len(rows), *block.shape[1:])
        chosen[:, :, : self.length] = block[:, :, : self.length].index_select(0, rows)
        return chosen


class CrossCache:
    """The keys and values of an encoder's output, projected when they are first asked for."""

    length = 0  # the source has no past

    def __init__(self) -> None:
        self._pair: KeyValues | None = None

    @property
    def keys(self) -> Tensor:
        """[B, H, S, D]."""
        assert self._pair is not None
        return self._pair.keys

    @property
    def values(self) -> Tensor:
        """[B, H, S, D]."""
        assert self._pair is not None
        return self._pair.values

    def extend(self, project: Projection) -> "CrossCache":
        """Project on the first call only."""
        if self._pair is None:
            self._pair = KeyValues(*(part.contiguous() for part in project()))
        return self

    def select(self, rows: Tensor) -> None:
        """Keep these rows."""
        if self._pair is not None:
            self._pair = KeyValues(*(part.index_select(0, rows) for part in self._pair))
