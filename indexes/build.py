"""The rows of an unpublished build, in order: closed segments and one that grows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexes.deletions import with_dead
from indexes.errors import IndexCorrupt
from indexes.growing import GrowingSegment
from indexes.layout import Vectors
from indexes.manifest import NAME, SegmentEntry
from indexes.segment import Segment

SEGMENT_ROWS = 1_000_000


class Build:
    """A list of rows that outgrows memory."""

    def __init__(
        self, folder: Path, dim: int, dtype: str, entries: Sequence[SegmentEntry] = ()
    ) -> None:
        self._folder = folder
        self._dim, self._dtype = dim, dtype
        self._killed: set[int] = set()
        self._closed: list[Segment] = []
        self._growing: GrowingSegment | None = None
        try:
            for entry in entries:
                self._reopen(entry)
        except BaseException as error:
            self.abandon()
            if isinstance(error, FileNotFoundError):
                raise IndexCorrupt(f"{error.filename} is missing") from None
            raise

    def _reopen(self, entry: SegmentEntry) -> None:
        if "rows" in entry.files:
            self._closed.append(self._opened(entry))
            self._closed[-1].check_every_byte()
        elif self._growing is not None:
            raise IndexCorrupt(f"{self._folder / NAME} names two segments that still grow")
        else:
            self._growing = GrowingSegment.reopen(self._folder, entry, self._dim, self._dtype)
            self._growing.cut_tail()

    def _opened(self, entry: SegmentEntry) -> Segment:
        return Segment(self._folder, entry, self._dim, self._dtype)

    def __len__(self) -> int:
        return self._closed_rows + (self._growing.rows if self._growing else 0)

    @property
    def _closed_rows(self) -> int:
        return sum(segment.rows for segment in self._closed)

    def payload(self, position: int) -> bytes:
        """The payload of a row."""
        for segment in self._closed:
            if position < segment.rows:
                return segment.payload(position)
            position -= segment.rows
        if self._growing is None:
            raise IndexError(position)
        return self._growing.payload(position)

    def find(self, row_id: str) -> int | None:
        """The position of the latest row with this id."""
        row = self._growing.find(row_id) if self._growing else None
        first = self._closed_rows
        for segment in reversed(self._closed):
            if row is not None:
                break
            first -= segment.rows
            row = segment.find(row_id)
        return None if row is None or first + row in self._killed else first + row

    def kill(self, position: int) -> None:
        """Leave out a row, and those with its id before it."""
        self._killed.add(position)

    def append(self, vectors: Vectors, ids: Sequence[str], payloads: Sequence[bytes]) -> None:
        """Add rows: float32 [n, dim], and an id and a payload each."""
        if self._growing is None:
            number = len(self._closed) + 1
            self._growing = GrowingSegment.create(self._folder, number, self._dim, self._dtype)
        self._growing.append(vectors, ids, payloads)
        if self._growing.rows >= SEGMENT_ROWS:
            self._close_growing()

    def _close_growing(self) -> None:
        if self._growing is not None:
            self._closed.append(self._opened(self._growing.close()))
            self._growing = None

    def checkpoint(self) -> tuple[SegmentEntry, ...]:
        """Wait until the disk holds every row so far, and describe the segments."""
        growing = (self._growing.checkpoint(),) if self._growing else ()
        return (*(segment.entry for segment in self._closed), *growing)

    def close(self, generation: int) -> tuple[SegmentEntry, ...]:
        """Finish every segment; of rows with one id only the last stays live. Who names them in a
        manifest waits for the folder first.
        """
        self._close_growing()
        entries, first = [], 0
        for at, segment in enumerate(self._closed):
            dead = _replaced_within(segment)
            dead |= {p - first for p in self._killed if 0 <= p - first < segment.rows}
            for newer in self._closed[at + 1 :]:
                dead |= _replaced_by(segment, newer)
            entries.append(with_dead(self._folder, segment.entry, dead, generation))
            first += segment.rows
        return tuple(entries)

    def abandon(self) -> None:
        """Close the files and leave them as they are."""
        if self._growing is not None:
            self._growing.abandon()


def _ids(segment: Segment, key: np.uint64) -> dict[str, list[int]]:
    """The rows with a key, by id."""
    found: dict[str, list[int]] = {}
    for row in segment.rows_of(key):
        found.setdefault(segment.id(row), []).append(row)
    return found


def _replaced_within(segment: Segment) -> set[int]:
    """The rows whose id comes again later in the same segment."""
    repeated = np.unique(segment.keys[1:][segment.keys[1:] == segment.keys[:-1]])
    return {row for key in repeated for rows in _ids(segment, key).values() for row in rows[:-1]}


def _replaced_by(segment: Segment, newer: Segment) -> set[int]:
    """The rows whose id comes again in a newer segment."""
    shared = np.intersect1d(segment.keys, newer.keys)
    return {
        row
        for key in shared
        for row_id, rows in _ids(segment, key).items()
        if row_id in _ids(newer, key)
        for row in rows
    }
