"""The ``.ann`` files of an index's larger segments, and the recall that is promised with them."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from indexes.ann import Ann
from indexes.approximate import open_ann
from indexes.certificate import DEPTH, HELD_SHARE, Rows, Search, Trials, hold_back
from indexes.errors import RetrievalError
from indexes.exact import gather, top_k
from indexes.extending import can_grow, extend
from indexes.growing import write_hashed
from indexes.kinds import EXACT_BELOW, TRAIN_ROWS, Kind, build, choose, kind_of, threads
from indexes.layout import Mask, Vectors
from indexes.manifest import Content, SegmentEntry
from indexes.segment import GRAPH, Segment

SEED = 0  # the same rows give the same files
SLOWER = 2  # times the setting of its knob that a graph may need before it is built anew
log = logging.getLogger(__name__)


Grown: TypeAlias = Mapping[str, SegmentEntry]


def with_ann(folder: Path, content: Content, grown: Grown) -> Content:
    """The content with the files of its kind, those that it lacks written now, and what they keep.

    ``grown`` says for the name of a segment which one its first rows were, the live ones of it: a
    graph goes on from there, unless it has become so much slower that a new one is due. A kind
    that cannot be built here is left out, with a warning: everything is found without it.
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
            return _built(folder, content, kind, missing or large, grown)
    except (RetrievalError, RuntimeError, MemoryError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1:] or ["no memory for it"]
        log.warning(
            "%s: kind %s is left out: %s", folder, kind.name, reason[0].rpartition("failed: ")[2]
        )
        return _without(content)


def _built(
    folder: Path, content: Content, kind: Kind, numbers: Sequence[int], grown: Grown
) -> Content:
    if content.ann and can_grow(kind) and any(content.segments[n].name in grown for n in numbers):
        built = _Certified(folder, content, kind, grown).build(numbers)
        if built.ann and built.ann["reached"] and built.ann["knob"] <= SLOWER * content.ann["knob"]:
            return built
    return _Certified(folder, content, kind, {}).build(numbers)


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

    def __init__(self, folder: Path, content: Content, kind: Kind, grown: Grown) -> None:
        self._folder, self._content, self._kind = folder, content, kind
        self._grown = grown
        self._segments = [
            Segment(folder, entry, content.dim, content.dtype) for entry in content.segments
        ]
        self._parts = [(segment.vectors, segment.dead) for segment in self._segments]
        self._bounds = np.cumsum([0, *(segment.rows for segment in self._segments)])

    def build(self, numbers: Sequence[int]) -> Content:
        """The content with the files of these segments, and with a certificate."""
        held = self._held(numbers)
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

    def _held(self, numbers: Sequence[int]) -> Rows:
        """What to ask for: any of the rows, or of a graph that goes on those that are new to it."""
        new, share = [], HELD_SHARE
        for number in numbers:
            rows = self._live(number)
            if before := self._grown.get(self._segments[number].entry.name):
                rows, share = rows[before.rows - before.dead :], 1
            new.append(rows)
        return hold_back(np.concatenate(new), SEED, share)

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

        name = self._kind.name
        if (before := self._before(segment)) is not None:
            data = extend(name, *before, segment.vectors, trial=trial)
        else:
            data = build(name, segment.vectors, train=sample, seed=SEED, held=held, trial=trial)
        path = self._folder / f"{segment.entry.name}.{GRAPH}"
        path.unlink(missing_ok=True)  # left by a commit that was cut short
        return replace(
            segment.entry, files={**segment.entry.files, GRAPH: write_hashed(path, [data])}
        )

    def _before(self, segment: Segment) -> tuple[Ann, Mask] | None:
        """The graph that a segment's goes on from, and which of its rows are still there."""
        entry = self._grown.get(segment.entry.name)
        if entry is None:
            return None
        merged = Segment(self._folder, entry, self._content.dim, self._content.dtype)
        ann = open_ann(self._folder, merged, self._kind)
        if ann is None:
            return None
        return ann, np.ones(merged.rows, bool) if merged.dead is None else ~merged.dead


def _through(ann: Ann, dead: Mask | None) -> Search:
    allowed = None if dead is None else ~dead
    return lambda queries, knob: ann.candidates(queries, DEPTH, knob=knob, allowed=allowed)
