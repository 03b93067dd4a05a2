"""The published rows under a change: what they hold, and which of them it takes away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from indexes.columns import Schema
from indexes.deletions import with_dead
from indexes.filtering import Filters
from indexes.layout import Vectors
from indexes.manifest import Content, SegmentEntry
from indexes.segment import Segment

Place = tuple[int, int]  # a segment, and a row in it


class Standing:
    """The segments of ``content``, opened once; the deaths of this change are kept beside them."""

    def __init__(self, folder: Path, content: Content) -> None:
        self._folder = folder
        self._segments = [
            Segment(folder, entry, content.dim, content.dtype) for entry in content.segments
        ]
        self._dead: list[set[int]] = [set() for _ in self._segments]
        self._seen: dict[int, np.ndarray[tuple[int], np.dtype[np.bool_]]] = {}

    def __len__(self) -> int:
        """How many rows are live, those that this change takes away not counted."""
        rows = sum(segment.rows - segment.entry.dead for segment in self._segments)
        return rows - sum(map(len, self._dead))

    def find(self, row_id: str) -> Place | None:
        """Where the live row with this id is."""
        for number in reversed(range(len(self._segments))):
            row = self._segments[number].find(row_id)
            if row is not None and row not in self._dead[number]:
                return number, row
        return None

    def payload(self, place: Place) -> bytes:
        """The payload of a row, with its line end."""
        return self._segments[place[0]].payload(place[1])

    def vector(self, place: Place) -> Vectors:
        """The vector of a row, float32 [dim]."""
        vector: Vectors = self._segments[place[0]].vectors[place[1]].astype(np.float32)
        return vector

    def kill(self, place: Place) -> None:
        """Take a row away."""
        self._dead[place[0]].add(place[1])

    def kill_where(self, where: Any, schema: Schema) -> int:
        """Take away the rows that a filter selects; how many."""
        before = sum(map(len, self._dead))
        first = 0
        mask = Filters(self._segments, schema).select(where).mask
        for segment, dead in zip(self._segments, self._dead, strict=True):
            dead.update(np.flatnonzero(mask[first : first + segment.rows]).tolist())
            first += segment.rows
        return sum(map(len, self._dead)) - before

    def see(self, place: Place) -> None:
        """Note that a row is still wanted."""
        number, row = place
        if number not in self._seen:
            self._seen[number] = np.zeros(self._segments[number].rows, bool)
        self._seen[number][row] = True

    def unseen(self) -> Iterator[Place]:
        """The live rows that nothing has seen."""
        for number, segment in enumerate(self._segments):
            gone = np.zeros(segment.rows, bool) if segment.dead is None else segment.dead.copy()
            gone[list(self._dead[number])] = True
            gone |= self._seen.get(number, np.zeros(segment.rows, bool))
            yield from ((number, int(row)) for row in np.flatnonzero(~gone))

    @property
    def changed(self) -> bool:
        """Whether any row has been taken away."""
        return any(self._dead)

    def entries(self, generation: int) -> tuple[SegmentEntry, ...]:
        """The segments as they stand after the change; one without live rows is gone."""
        entries = []
        for segment, dead in zip(self._segments, self._dead, strict=True):
            entry = segment.entry
            if dead:
                before = [] if segment.dead is None else np.flatnonzero(segment.dead).tolist()
                entry = with_dead(self._folder, entry, {*before, *dead}, generation)
            if entry.dead < entry.rows:
                entries.append(entry)
        return tuple(entries)
