"""Which rows have a key, while a segment grows: 12 bytes a row, in sorted runs that merge."""

from collections.abc import Iterator

import numpy as np

from indexes.layout import Keys, Rows

RECENT = 4_096  # keys kept in a dict before they become a run


class KeyTable:
    """A multimap from 64-bit key to row; rows are added in ascending order."""

    def __init__(self) -> None:
        self._recent: dict[int, list[int]] = {}
        self._runs: list[tuple[Keys, Rows]] = []

    def add(self, key: int, row: int) -> None:
        """Remember that a row has a key."""
        self._recent.setdefault(key, []).append(row)
        if len(self._recent) >= RECENT:
            self._runs.append(self._sorted_recent())
            self._recent = {}
            # A run at most half as long as the one before it keeps their number logarithmic.
            while len(self._runs) > 1 and 2 * len(self._runs[-1][0]) > len(self._runs[-2][0]):
                self._runs[-2:] = [_merged(self._runs[-2:])]

    def rows(self, key: int) -> Iterator[int]:
        """The rows with a key, the latest first."""
        yield from reversed(self._recent.get(key, ()))
        wanted = np.uint64(key)
        for keys, rows in reversed(self._runs):
            low, high = np.searchsorted(keys, [wanted]), np.searchsorted(keys, [wanted], "right")
            yield from (int(row) for row in sorted(rows[low[0] : high[0]], reverse=True))

    def sorted(self) -> tuple[Keys, Rows]:
        """Every key, ascending, and its row beside it."""
        return _merged([*self._runs, self._sorted_recent()])

    def _sorted_recent(self) -> tuple[Keys, Rows]:
        pairs = [(key, row) for key, rows in self._recent.items() for row in rows]
        keys = np.array([key for key, _ in pairs], np.uint64)
        return _merged([(keys, np.array([row for _, row in pairs], np.uint32))])


def _merged(runs: list[tuple[Keys, Rows]]) -> tuple[Keys, Rows]:
    keys = np.concatenate([keys for keys, _ in runs])
    rows = np.concatenate([rows for _, rows in runs])
    order = np.lexsort((rows, keys))
    return keys[order], rows[order]
