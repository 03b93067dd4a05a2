"""Which segments to merge, and merging them: live rows go into a new one, in order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexes import build
from indexes.layout import id_of
from indexes.manifest import Content, SegmentEntry
from indexes.segment import Segment

MOST_SEGMENTS = 8
MOST_DEAD = 0.25  # of a segment's rows
BLOCK = 4_096  # rows copied at once

Run = tuple[int, int]


def runs_to_merge(segments: Sequence[SegmentEntry], *, everything: bool = False) -> list[Run]:
    """Runs of neighbours, first and behind the last, each to become one segment.

    A segment with many dead rows is written anew. Where there are too many segments the last ones
    are merged, as far back as each is no longer than all behind it together: a row is then copied
    once for every doubling of the index, whatever the number of commits.
    """
    if everything:
        worn = len(segments) > 1 or any(segment.dead for segment in segments)
        return [(0, len(segments))] if worn else []
    begin = len(segments)
    if sum(segment.rows < build.SEGMENT_ROWS for segment in segments) > MOST_SEGMENTS:
        begin = _beginning_of_tail(segments)
    alone = [n for n in range(begin) if segments[n].dead > MOST_DEAD * segments[n].rows]
    runs = [(n, n + 1) for n in alone]
    return [*runs, (begin, len(segments))] if begin < len(segments) else runs


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
