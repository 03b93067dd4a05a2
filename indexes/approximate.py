"""Search through the segments' ``.ann`` files: what they propose is scored from the vectors."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from indexes.ann import Ann, Mask, load
from indexes.certificate import DEPTH, Certificate
from indexes.errors import IndexCorrupt
from indexes.exact import Positions, Scores, top_k
from indexes.kinds import Kind, kind_of
from indexes.layout import Vectors
from indexes.segment import GRAPH, Segment

AT_ONCE = 64  # queries whose candidates are scored together
KNOB_COST = 30  # rows that are scored in the time that one step of a knob takes


class Promise:
    """What a manifest says of its ``.ann`` files: their kind, and the certificate of its knob."""

    def __init__(self, record: Mapping[str, Any]) -> None:
        """ValueError for a record that cannot be."""
        fields = dict(record)
        name = fields.pop("kind", None)
        if not isinstance(name, str) or (kind := kind_of(name)).factory is None:
            raise ValueError(f"{name!r} is no kind that has files")
        self.kind: Kind = kind
        self.certificate = Certificate.from_json(fields)


class Approximate:
    """The best rows of some segments, by what their files propose; safe from any thread.

    A segment without such a file, or with a damaged one, is searched exactly.
    """

    def __init__(self, folder: Path, segments: Sequence[Segment], promise: Promise) -> None:
        self._folder = folder
        self._segments = list(segments)
        self._promise = promise
        self._loaded: dict[int, Ann | None] = {}
        self._loading = threading.Lock()
        self._bounds = np.cumsum([0, *(segment.rows for segment in segments)])

    def few(self, rows: int) -> float:
        """Up to how many of the rows a filter may leave for scoring them all to be faster."""
        return float(np.sqrt(float(KNOB_COST * self._promise.certificate.knob * rows)))

    def search(
        self, queries: Vectors, k: int, selected: Mask | None = None
    ) -> tuple[Scores, Positions, Mask]:
        """Scores and positions [n, k], and which queries [n] have fewer than ``k`` of them.

        ``queries`` are unit rows; ``selected`` [rows] are the live rows that a filter leaves, at
        least k. IndexCorrupt as :meth:`Ann.candidates`.
        """
        knob = self._knob(selected)
        found, plain = [], []
        for number, segment in enumerate(self._segments):
            first = int(self._bounds[number])
            allowed = None if selected is None else selected[first : first + segment.rows]
            if allowed is None and segment.dead is not None:
                allowed = ~segment.dead
            if (ann := self._ann(number)) is None:
                plain.append((segment.vectors, None if allowed is None else ~allowed, first))
                continue
            rows = ann.candidates(queries, max(k, DEPTH), knob=knob, allowed=allowed)
            found.append(
                (scored(segment.vectors, queries, rows), np.where(rows < 0, -1, rows + first))
            )
        if plain:
            found.append(_exactly(plain, queries, k))
        return _merged(found, k)

    def _knob(self, selected: Mask | None) -> int:
        """The certified setting, raised where a filter leaves fewer neighbours to find."""
        knob = self._promise.certificate.knob
        if selected is None or not knob:
            return knob
        share = max(int(selected.sum()), 1) / len(selected)
        # A graph meets its neighbours one by one; of lists, those further off have ever fewer.
        scale = share if self._promise.kind.knob == "efSearch" else np.sqrt(share)
        return min(int(np.ceil(knob / scale)), max(self._promise.kind.knobs))

    def _ann(self, number: int) -> Ann | None:
        with self._loading:
            if number not in self._loaded:
                segment = self._segments[number]
                self._loaded[number] = open_ann(self._folder, segment, self._promise.kind)
            return self._loaded[number]


def open_ann(folder: Path, segment: Segment, kind: Kind) -> Ann | None:
    """The index in a segment's file; None where it has none, or only a damaged one."""
    data = segment.derived(GRAPH)
    if data is None:
        return None
    path = folder / f"{segment.entry.name}.{GRAPH}"
    try:
        return load(kind.knob, data, segment.vectors, path=path)
    except IndexCorrupt as error:
        segment.go_without(GRAPH, str(error))
        return None


def scored(vectors: Vectors, queries: Vectors, rows: Positions) -> Scores:
    """The cosine of each query with its rows [n, m], -inf where a row is -1; inf if damaged.

    Summed as :func:`indexes.exact.top_k` sums them: equal rows have equal scores.
    """
    scores = np.empty(rows.shape, np.float32)
    exact = queries.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):  # of damaged rows; the score tells
        for start in range(0, len(rows), AT_ONCE):
            part = slice(start, start + AT_ONCE)
            sums = (vectors[rows[part]] * exact[part, None]).sum(axis=-1)
            scores[part] = np.where(np.isfinite(sums), sums.clip(-1, 1), np.inf)
    scores[rows < 0] = -np.inf
    return scores


def _exactly(
    plain: Sequence[tuple[Vectors, Mask | None, int]], queries: Vectors, k: int
) -> tuple[Scores, Positions]:
    """The best rows of the segments without a file, scored one and all."""
    parts = [(vectors, dead) for vectors, dead, _ in plain]
    live = sum(len(vectors) - (0 if dead is None else int(dead.sum())) for vectors, dead in parts)
    scores, places = top_k(parts, queries, min(k, live))
    bounds = np.cumsum([0, *(len(vectors) for vectors, _ in parts)])
    own = np.searchsorted(bounds, places, side="right") - 1
    shift = np.array([first for _, _, first in plain]) - bounds[:-1]
    return scores, places + shift[own]


def _merged(found: Sequence[tuple[Scores, Positions]], k: int) -> tuple[Scores, Positions, Mask]:
    scores = np.concatenate([scores for scores, _ in found], axis=1)
    positions = np.concatenate([positions for _, positions in found], axis=1)
    order = np.lexsort((positions, -scores), axis=1)[:, :k]
    scores = np.take_along_axis(scores, order, axis=1)
    positions = np.take_along_axis(positions, order, axis=1)
    missing = k - positions.shape[1]
    if missing > 0:  # of every query
        scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
        positions = np.pad(positions, ((0, 0), (0, missing)), constant_values=-1)
    return scores, positions, positions.min(axis=1) < 0
