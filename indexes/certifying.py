"""The ``.ann`` files of an index's larger segments, and the recall that is promised with them."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexes.ann import Ann, Mask
from indexes.approximate import open_ann
from indexes.certificate import DEPTH, Rows, Search, Trials, hold_back
from indexes.errors import RetrievalError
from indexes.exact import gather, top_k
from indexes.growing import write_hashed
from indexes.kinds import EXACT_BELOW, TRAIN_ROWS, Kind, build, choose, kind_of, threads
from indexes.layout import Vectors
from indexes.manifest import Content, SegmentEntry
from indexes.segment import GRAPH, Segment

SEED = 0  # the same rows give the same files
log = logging.getLogger(__name__)


def with_ann(folder: Path, content: Content) -> Content:
    """The content with the files of its kind, those that it lacks written now, and what they keep.

    A kind that cannot be built here is left out, with a warning: everything is found without it.
    """
    name = content.ann["kind"] if content.kind == "auto" and content.ann else None
    kind = kind_of(name or choose(content.kind, content.rows))
    if content.ann and content.ann["kind"] != kind.name:
        content = _without(content)
    large = [n for n, entry in enumerate(content.segments) if entry.rows >= EXACT_BELOW]
    if kind.factory is None or not large:
        return _without(content)
    missing = [n for n in large if GRAPH not in content.segments[n].files]
    if not missing and content.ann:
        return content
    try:
        with threads(1):
            return _Certified(folder, content, kind).build(missing or large)
    except (RetrievalError, RuntimeError, MemoryError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1:] or ["no memory for it"]
        log.warning(
            "%s: kind %s is left out: %s", folder, kind.name, reason[0].rpartition("failed: ")[2]
        )
        return _without(content)


def _without(content: Content) -> Content:
    segments = [
        replace(entry, files={s: file for s, file in entry.files.items() if s != GRAPH})
        for entry in content.segments
    ]
    return replace(content, ann=None, segments=tuple(segments))


class _Certified:
    """Builds the files of some segments and tries them, together with those that are there.

    The queries are rows of the new files, which show themselves to a trial before they know them.
    """

    def __init__(self, folder: Path, content: Content, kind: Kind) -> None:
        self._folder, self._content, self._kind = folder, content, kind
        self._segments = [
            Segment(folder, entry, content.dim, content.dtype) for entry in content.segments
        ]
        self._parts = [(segment.vectors, segment.dead) for segment in self._segments]
        self._bounds = np.cumsum([0, *(segment.rows for segment in self._segments)])

    def build(self, numbers: Sequence[int]) -> Content:
        """The content with the files of these segments, and with a certificate."""
        held = hold_back(np.concatenate([self._live(n) for n in numbers]), SEED)
        queries = gather(self._parts, held).astype(np.float32)
        trials = Trials(queries, self._truth(queries, held), self._kind.knobs, self._content.recall)
        sample = self._sample()
        entries = list(self._content.segments)
        for number, segment in enumerate(self._segments):
            first = int(self._bounds[number])
            own = held[(held >= first) & (held < first + segment.rows)] - first
            if number in numbers:
                entries[number] = self._written(segment, sample, own, first, trials)
            else:
                trials.run(self._search(segment), first, segment.rows)
        ann = {"kind": self._kind.name, **trials.certificate().to_json()}
        return replace(self._content, segments=tuple(entries), ann=ann)

    def _live(self, number: int) -> Rows:
        segment = self._segments[number]
        live = np.arange(segment.rows) if segment.dead is None else np.flatnonzero(~segment.dead)
        rows: Rows = live + self._bounds[number]
        return rows

    def _sample(self) -> Vectors:
        live = np.concatenate([self._live(n) for n in range(len(self._segments))])
        count = min(TRAIN_ROWS, len(live))
        rows = np.sort(np.random.default_rng(SEED).choice(live, count, replace=False))
        return gather(self._parts, rows).astype(np.float32)

    def _truth(self, queries: Vectors, held: Rows) -> Rows:
        """The nearest live rows to each query that are no queries themselves."""
        gone = np.zeros(self._bounds[-1], bool)
        gone[held] = True
        parts, live = [], 0
        for segment, first in zip(self._segments, self._bounds, strict=False):
            dead = gone[first : first + segment.rows]
            dead = dead if segment.dead is None else dead | segment.dead
            parts.append((segment.vectors, dead))
            live += segment.rows - int(dead.sum())
        return top_k(parts, queries, min(DEPTH, live))[1]

    def _search(self, segment: Segment) -> Search:
        """Search of a segment that is there already, through its file where it has one."""
        dead = segment.dead
        ann = open_ann(self._folder, segment, self._kind)
        if ann is not None:
            return _through(ann, dead)
        k = min(DEPTH, segment.rows - segment.entry.dead)
        return lambda queries, _: top_k([(segment.vectors, dead)], queries, k)[1]

    def _written(
        self, segment: Segment, sample: Vectors, held: Rows, first: int, trials: Trials
    ) -> SegmentEntry:
        def trial(ann: Ann) -> None:
            trials.run(_through(ann, segment.dead), first, segment.rows)

        data = build(
            self._kind.name, segment.vectors, train=sample, seed=SEED, held=held, trial=trial
        )
        path = self._folder / f"{segment.entry.name}.{GRAPH}"
        path.unlink(missing_ok=True)  # left by a commit that was cut short
        return replace(
            segment.entry, files={**segment.entry.files, GRAPH: write_hashed(path, [data])}
        )


def _through(ann: Ann, dead: Mask | None) -> Search:
    allowed = None if dead is None else ~dead
    return lambda queries, knob: ann.candidates(queries, DEPTH, knob=knob, allowed=allowed)
