"""A snapshot of one generation: opened without a lock, never changed, safe from any thread."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from indexes.approximate import Approximate
from indexes.errors import IndexCorrupt, VectorError
from indexes.exact import Parts, Positions, Scores, gather, top_k
from indexes.filtering import Filters, Selected
from indexes.forks import Process
from indexes.layout import Mask, Vectors
from indexes.manifest import Content, Manifest, published, read_manifest
from indexes.promise import Promise
from indexes.segment import Segment

if TYPE_CHECKING:
    import mmap

    import faiss
    import pyarrow.compute as pc

FEW = 4_096  # rows that are picked out to be searched, rather than passed over in a search of all
ATTEMPTS = 5  # a commit may remove old files between our reading the manifest and opening them

Verify = Literal["auto", "full"]


class Sidecar(NamedTuple):
    """The bytes of one, None where it is missing or damaged; the rows of its segment, which of
    them are deleted, and the payload of a row.
    """

    data: "mmap.mmap | bytes | None"
    rows: int
    dead: Mask | None
    payload: Callable[[int], bytes]


class View:
    """The published rows of an index folder.

    ``verify="auto"`` checks the manifest, every size, the deleted rows and each row it returns;
    ``"full"`` also reads every byte. Rows are named by position: 0 … through the segments in
    order, deleted rows counted. Errors: IndexNotFound, IndexUnfinished, IndexTooNew, IndexCorrupt.
    """

    def __init__(self, folder: str | Path, *, verify: Verify = "auto") -> None:
        if verify not in ("auto", "full"):
            raise ValueError(f"verify must be 'auto' or 'full', got {verify!r}")
        self.folder = Path(folder)
        self.manifest, self.content, self._segments = self._open()
        if verify == "full":
            for segment in self._segments:
                segment.check_every_byte()
        self._bounds = np.cumsum([0, *(segment.rows for segment in self._segments)])
        self._process = Process()
        self._filters = Filters(self._segments, self.content.schema)
        ann = self.content.ann  # None where every row is scored anyway
        self._ann = Approximate(self.folder, self._segments, Promise(ann)) if ann else None
        self._parts = [(segment.vectors, segment.dead) for segment in self._segments]

    def _open(self) -> tuple[Manifest, Content, list[Segment]]:
        manifest = read_manifest(self.folder)
        whole = True
        for _ in range(ATTEMPTS):
            content = published(self.folder, manifest)
            try:
                given = content.dim, content.dtype
                opened = [Segment(self.folder, s, *given, whole=whole) for s in content.segments]
                return manifest, content, opened
            except FileNotFoundError as error:
                newer = read_manifest(self.folder)
                changed = newer.generation != manifest.generation
                if not changed and not whole:
                    raise IndexCorrupt(f"{error.filename} is missing") from None
                manifest, whole = newer, changed
        raise IndexCorrupt(f"{self.folder} kept changing while it was opened; try again")

    def __len__(self) -> int:
        """How many rows are live."""
        return self.content.rows

    def search(
        self,
        queries: Vectors,
        k: int,
        *,
        where: "str | pc.Expression | None" = None,
        exact: bool = False,
    ) -> tuple[Scores, Positions]:
        """The nearest live rows: cosines in [-1, 1] and positions, both [n, min(k, rows)].

        ``queries`` is float32 [n, dim], scaled to unit length here. ``where`` leaves only the rows
        that a filter selects (see :mod:`indexes.where`). An index of a kind that is not flat finds
        the nearest with the recall that it certifies (``content.ann``), with ``exact`` always.
        VectorError when the width differs or a row is zero or not finite; ValueError when k < 1;
        WhereError for what is no filter; IndexCorrupt when a stored vector is no longer finite.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        self._process.check()
        queries = unit_rows(queries, self.content.dim)
        ann = None if exact else self._ann
        if where is not None:
            scores, positions = self._search_selected(queries, k, self._filters.select(where), ann)
        else:
            k = min(k, len(self))
            scores, positions = self._search_parts(queries, k, self._parts, ann)
        for position in positions[np.isinf(scores)]:
            self.payload(int(position))  # where its checksum no longer holds the file is named
            raise IndexCorrupt(f"{self.folder}: the vector of row {position} is not finite")
        return scores, positions

    def _search_selected(
        self, queries: Vectors, k: int, selected: Selected, ann: Approximate | None
    ) -> tuple[Scores, Positions]:
        k, few = min(k, len(selected.positions)), FEW
        if k == 0:
            return top_k([], queries, 0)
        if ann is not None:
            few = max(few, int(ann.few(len(selected.mask))))
        if len(selected.positions) <= few:
            rows = gather(self._parts, selected.positions)
            scores, places = top_k([(rows, None)], queries, k)
            return scores, selected.positions[places]
        parts = [
            (vectors, ~selected.mask[first : first + len(vectors)])
            for (vectors, _), first in zip(self._parts, self._bounds, strict=False)
        ]
        return self._search_parts(queries, k, parts, ann, selected.mask)

    def _search_parts(
        self,
        queries: Vectors,
        k: int,
        parts: Parts,
        ann: Approximate | None,
        mask: Mask | None = None,
    ) -> tuple[Scores, Positions]:
        """The best rows of the parts; ``mask`` says the same as the parts do."""
        if ann is None or k == 0 or not len(queries):
            return top_k(parts, queries, k)
        scores, positions = ann.search(queries, k, mask)
        short = positions.min(axis=1) < 0
        if short.any():  # too few came back: a graph was cut off from what a filter selects
            scores[short], positions[short] = top_k(parts, queries[short], k)
        return scores, positions

    def mask(self, where: "str | pc.Expression") -> Mask:
        """Which of all rows, deleted ones counted, a filter selects: bool [rows]."""
        return self._filters.select(where).mask

    def select(self, where: "str | pc.Expression") -> Positions:
        """The positions of the live rows that a filter selects, ascending."""
        return self._filters.select(where).positions

    def sidecars(self, name: str) -> list[Sidecar]:
        """What stands beside each segment under this name: see :mod:`indexes.derived`."""
        return [Sidecar(s.derived(name), s.rows, s.dead, s.payload) for s in self._segments]

    def payload(self, position: int) -> bytes:
        """The payload of one row; IndexCorrupt when its checksum does not hold."""
        segment = int(np.searchsorted(self._bounds, position, side="right")) - 1
        return self._segments[segment].payload(position - int(self._bounds[segment]))

    def find(self, row_id: str) -> int | None:
        """The position of the live row with this id, the newest segment first."""
        for first, segment in reversed(list(zip(self._bounds, self._segments, strict=False))):
            row = segment.find(row_id)
            if row is not None:
                position: int = int(first) + row
                return position
        return None

    def positions(self) -> Positions:
        """The positions of the live rows, ascending."""
        dead = [s.dead if s.dead is not None else np.zeros(s.rows, bool) for s in self._segments]
        return np.flatnonzero(~np.concatenate([*dead, np.zeros(0, bool)]))

    def vectors(self, positions: Positions) -> Vectors:
        """The vectors float32 [n, dim] of rows at ascending positions."""
        return gather(self._parts, positions).astype(np.float32)

    def to_faiss(self) -> "faiss.IndexFlatIP":
        """A FAISS index over the live rows; its ids count through :meth:`positions`."""
        import faiss

        self._process.check()
        index: faiss.IndexFlatIP = faiss.IndexFlatIP(self.content.dim)
        for vectors, dead in self._parts:
            live = vectors if dead is None else vectors[~dead]
            index.add(np.ascontiguousarray(live, np.float32))
        return index


def unit_rows(vectors: Vectors | Sequence[Sequence[float]], dim: int) -> Vectors:
    """Float32 rows [n, dim] scaled to unit length; VectorError names the first bad row."""
    with np.errstate(over="ignore"):  # what overflows is infinite, and refused below
        rows = np.asarray(vectors, np.float32)
    if rows.ndim != 2 or rows.shape[1] != dim:
        raise VectorError(f"expected vectors of shape [n, {dim}], got {list(rows.shape)}")
    lengths = np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
    if len(bad):
        what = "is zero" if lengths[bad[0]] == 0 else "is not finite"
        raise VectorError(f"vector {bad[0]} {what}; a vector must have a direction")
    unit: Vectors = (rows / lengths).astype(np.float32)
    return unit
