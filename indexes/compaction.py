"""Which segments to merge, and merging them: live rows go into a new one, in order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexes import build
from indexes.extending import can_grow
from indexes.kinds import kind_of
from indexes.layout import id_of
from indexes.manifest import Content, SegmentEntry
from indexes.segment import GRAPH, Segment

MOST_SEGMENTS = 8
MOST_DEAD = 0.25  # of a segment's rows
TAIL, TAIL_SHARE = 2_048, 32  # rows behind a graph: so many, or one in so many of its own
MOST_BEHIND = 2  # segments behind a graph
BLOCK = 4_096  # rows copied at once

Run = tuple[int, int]


def runs_to_merge(content: Content, *, everything: bool = False) -> list[Run]:
    """Runs of neighbours, first and behind the last, each to become one segment.

    A segment with many dead rows is written anew. Where there are too many segments the last ones
    are merged, as far back as each is no longer than all behind it together: a row is then copied
    once for every doubling of the index, whatever the number of commits. A graph is searched in the
    time of its logarithm, and a second one takes as long again: it grows by what comes after it,
    whenever that is as much as is still scored in no time.
    """
    segments = content.segments
    if everything:
        worn = len(segments) > 1 or any(segment.dead for segment in segments)
        return [(0, len(segments))] if worn else []
    begin = len(segments)
    graphs = [n for n in range(begin) if GRAPH in segments[n].files] if _grows(content) else []
    if graphs:
        begin = _behind_graph(segments, graphs[-1])
    elif sum(segment.rows < build.SEGMENT_ROWS for segment in segments) > MOST_SEGMENTS:
        begin = _beginning_of_tail(segments)
    alone = [n for n in range(begin) if segments[n].dead > MOST_DEAD * segments[n].rows]
    runs = [(n, n + 1) for n in alone]
    return [*runs, (begin, len(segments))] if begin < len(segments) else runs


def _grows(content: Content) -> bool:
    return content.ann is not None and can_grow(kind_of(content.ann["kind"]))


def _behind_graph(segments: Sequence[SegmentEntry], graph: int) -> int:
    """From which segment on to merge: the last one with a graph, one after it, or none."""
    live = [segment.rows - segment.dead for segment in segments]
    behind = sum(live[graph + 1 :])
    if behind > max(TAIL, live[graph] // TAIL_SHARE):
        return graph if behind + live[graph] <= build.SEGMENT_ROWS else graph + 1
    few = len(segments) - graph <= MOST_BEHIND + 1
    return len(segments) if few else max(graph + 1, _beginning_of_tail(segments))


def _beginning_of_tail(segments: Sequence[SegmentEntry]) -> int:
    live = [segment.rows - segment.dead for segment in segments]
    begin = len(segments) - 2
    while begin > 0 and live[begin - 1] <= min(sum(live[begin:]), build.SEGMENT_ROWS - 1):
        begin -= 1
    return begin


def merge(
    folder: Path, content: Content, segments: Sequence[SegmentEntry], generation: int
) -> tuple[SegmentEntry, ...]:
    """The live rows of these segments, in new ones; nothing that is there is touched."""
    merged = build.Build(folder, content.dim, content.dtype)
    try:
        for entry in segments:
            _copy(Segment(folder, entry, content.dim, content.dtype), merged)
        return merged.close(generation)
    finally:
        merged.abandon()


def _copy(segment: Segment, merged: build.Build) -> None:
    live = np.arange(segment.rows) if segment.dead is None else np.flatnonzero(~segment.dead)
    for start in range(0, len(live), BLOCK):
        rows = live[start : start + BLOCK]
        payloads = [segment.payload(int(row)).removesuffix(b"\n") for row in rows]
        vectors = segment.vectors[rows].astype(np.float32)
        merged.append(vectors, [id_of(payload) for payload in payloads], payloads)
