"""Files that can be made again from the rows: written with a segment, and not missed for long.

Whoever owns an index may have sidecars made for every segment, at commits and at compactions. The
content names them with their settings, ``sidecars={"lexical": {"language": "english"}}``; a writer
is given what makes their bytes: ``make(settings, payloads)``, of all rows in order, deleted ones
too, a line each. They are committed, checked and dropped with their segment, and never read here.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from indexes.certifying import Grown, with_ann
from indexes.columns import write_columns
from indexes.durable import open_plain
from indexes.errors import IndexCorrupt
from indexes.growing import write_hashed
from indexes.manifest import Content, SegmentEntry
from indexes.segment import COLUMNS, is_derived

Sidecar: TypeAlias = Callable[[Mapping[str, Any], Iterable[bytes]], Iterable[bytes]]
log = logging.getLogger(__name__)


def with_every_file(
    folder: Path,
    content: Content,
    sidecars: Mapping[str, Sidecar],
    grown: Grown | None = None,
) -> Content:
    """The content with all derived files: the columns, the sidecars that it names as far as they
    are given, and unless ``grown`` is None those of its kind: see :func:`with_ann`.
    """
    makers: dict[str, Callable[[Iterable[bytes]], Iterable[bytes]]] = {
        COLUMNS: lambda payloads: [write_columns(payloads, content.schema)]
    }
    for name, settings in content.sidecars.items():
        if name in sidecars:
            makers[name] = partial(sidecars[name], settings)
    segments = []
    for entry in content.segments:
        for suffix, make in makers.items():
            entry = _with(folder, entry, suffix, make)
        segments.append(entry)
    content = replace(content, segments=tuple(segments))
    return content if grown is None else with_ann(folder, content, grown)


def without(content: Content, names: Collection[str]) -> Content:
    """The content without those of the files ``names`` that can be made again."""
    segments = []
    for entry in content.segments:
        kept = {
            suffix: file
            for suffix, file in entry.files.items()
            if not (is_derived(suffix) and f"{entry.name}.{suffix}" in names)
        }
        segments.append(replace(entry, files=kept))
    return replace(content, segments=tuple(segments))


def _with(
    folder: Path,
    entry: SegmentEntry,
    suffix: str,
    make: Callable[[Iterable[bytes]], Iterable[bytes]],
) -> SegmentEntry:
    """The entry with a file of its payloads, made now where it lacks it; where it cannot be made
    it is left out, with a warning: rows are found without it.
    """
    if suffix in entry.files:
        return entry
    path = folder / f"{entry.name}.{suffix}"
    path.unlink(missing_ok=True)  # left by a commit that was cut short
    try:
        with open_plain(
            folder / f"{entry.name}.docs", "rb"
        ) as payloads:  # not mapped: pages add up
            written = write_hashed(path, make(payloads))
    except IndexCorrupt as error:
        log.warning("%s is left out: %s", path, error)
        return entry
    return replace(entry, files={**entry.files, suffix: written})
