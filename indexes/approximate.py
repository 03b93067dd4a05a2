"""Search through the segments' ``.ann`` files: what they propose is scored from the vectors."""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from indexes.ann import Ann, load
from indexes.certificate import DEPTH
from indexes.errors import IndexCorrupt
from indexes.exact import MARGIN, Positions, Scores, top_k
from indexes.kinds import Kind
from indexes.layout import Mask, Vectors
from indexes.promise import Promise
from indexes.segment import GRAPH, Segment

GROUP = 1_024  # queries that are taken through all segments together
AT_ONCE = 64  # queries whose candidates are scored together
TAIL = 16_384  # rows without a file that are compared with what the others gave, all at once
KNOB_COST = 10  # rows that are scored in the time that one step of a knob takes
# A knob rises with 1 / share ** this where a filter leaves a share of the rows. Measured on 99,000
# embeddings: 10 % of them are then found with a recall of 0.959, as all are (0.984 with 1).
RISES = {"efSearch": 0.75, "nprobe": 0.5}


Found: TypeAlias = tuple[Scores, Positions]


class Plain(NamedTuple):
    """A segment without a file: its vectors, which rows may be found, its first position."""

    vectors: Vectors
    allowed: Mask | None
    first: int


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

    def search(self, queries: Vectors, k: int, selected: Mask | None = None) -> Found:
        """Scores and positions [n, k], best first; -inf and -1 where there are fewer.

        ``queries`` are unit rows; ``selected`` [rows] are the live rows that a filter leaves, at
        least k. IndexCorrupt as :meth:`Ann.candidates`.
        """
        groups = [
            self._search(queries[start : start + GROUP], k, selected)
            for start in range(0, len(queries), GROUP)
        ]
        scores, positions = zip(*groups, strict=True)
        return np.concatenate(scores), np.concatenate(positions)

    def _search(self, queries: Vectors, k: int, selected: Mask | None) -> Found:
        knob = self._knob(selected)
        found, plain = [_none(len(queries))], []
        for number, segment in enumerate(self._segments):
            first = int(self._bounds[number])
            allowed = None if selected is None else selected[first : first + segment.rows]
            if allowed is None and segment.dead is not None:
                allowed = ~segment.dead
            if (ann := self._ann(number)) is None:
                plain.append(Plain(segment.vectors, allowed, first))
                continue
            rows = ann.candidates(queries, max(k, DEPTH), knob=knob, allowed=allowed)
            scores = scored(segment.vectors, queries, rows)
            found.append((scores, np.where(rows < 0, -1, rows + first)))
        best = _merged(found, k)
        return best if not plain else _merged([best, _rest(plain, queries, k, best[0])], k)

    def _knob(self, selected: Mask | None) -> int:
        """The certified setting, raised where a filter leaves fewer neighbours to find."""
        knob = self._promise.certificate.knob
        if selected is None or not knob:
            return knob
        share = max(int(selected.sum()), 1) / len(selected)
        rise = share ** -RISES[str(self._promise.kind.knob)]
        return min(int(np.ceil(knob * rise)), max(self._promise.kind.knobs))

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


def _rest(plain: Sequence[Plain], queries: Vectors, k: int, best: Scores) -> Found:
    """The best rows of segments without a file: those that come up to the ``k`` best so far."""
    rows = sum(len(part.vectors) for part in plain)
    floors = best[:, -1] - np.float32(MARGIN)
    if rows > TAIL or not np.isfinite(floors).all():
        return _exactly(plain, queries, k)
    found = [_none(len(queries))]
    for vectors, allowed, first in plain:
        products = queries @ np.asarray(vectors, np.float32).T
        near = ~(products < floors[:, None])  # damaged ones too
        if allowed is not None:
            near &= allowed
        # As wide as the longest line: a row that is near to one query is rarely near to many.
        places = np.full((len(queries), int(near.sum(axis=1).max(initial=0))), -1)
        lines, columns = np.nonzero(near)
        at = np.arange(len(lines)) - np.searchsorted(lines, lines)
        places[lines, at] = columns
        found.append((scored(vectors, queries, places), np.where(places < 0, -1, places + first)))
    return _concatenated(found)


def _exactly(plain: Sequence[Plain], queries: Vectors, k: int) -> Found:
    parts = [(vectors, None if rows is None else ~rows) for vectors, rows, _ in plain]
    live = sum(len(vectors) - (0 if dead is None else int(dead.sum())) for vectors, dead in parts)
    scores, places = top_k(parts, queries, min(k, live))
    bounds = np.cumsum([0, *(len(vectors) for vectors, _ in parts)])
    own = np.searchsorted(bounds, places, side="right") - 1
    shift = np.array([part.first for part in plain]) - bounds[:-1]
    return scores, places + shift[own]


def _none(queries: int) -> Found:
    return np.empty((queries, 0), np.float32), np.empty((queries, 0), np.int64)


def _concatenated(found: Sequence[Found]) -> Found:
    scores, positions = zip(*found, strict=True)
    return np.concatenate(scores, axis=1), np.concatenate(positions, axis=1)


def _merged(found: Sequence[Found], k: int) -> Found:
    scores, positions = _concatenated(found)
    order = np.lexsort((positions, -scores), axis=1)[:, :k]
    scores = np.take_along_axis(scores, order, axis=1)
    positions = np.take_along_axis(positions, order, axis=1)
    missing = max(0, k - positions.shape[1])  # of every query
    scores = np.pad(scores, ((0, 0), (0, missing)), constant_values=-np.inf)
    return scores, np.pad(positions, ((0, 0), (0, missing)), constant_values=-1)
