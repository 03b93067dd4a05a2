"""Files that can be made again from the rows: written with a segment, and not missed for long."""

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from indexes.certifying import with_ann
from indexes.columns import write_columns
from indexes.durable import open_plain
from indexes.errors import IndexCorrupt
from indexes.growing import write_hashed
from indexes.manifest import Content, SegmentEntry
from indexes.segment import COLUMNS, DERIVED

log = logging.getLogger(__name__)


def with_every_file(folder: Path, content: Content, *, ann: bool = True) -> Content:
    """The content with all derived files: the columns and, with ``ann``, those of its kind."""
    whole = tuple(with_columns(folder, entry, content) for entry in content.segments)
    content = replace(content, segments=whole)
    return with_ann(folder, content) if ann else content


def without(content: Content, names: Collection[str]) -> Content:
    """The content without those of the files ``names`` that can be made again."""
    segments = []
    for entry in content.segments:
        bad = {suffix for suffix in DERIVED if f"{entry.name}.{suffix}" in names}
        kept = {suffix: file for suffix, file in entry.files.items() if suffix not in bad}
        segments.append(replace(entry, files=kept))
    return replace(content, segments=tuple(segments))


def with_columns(folder: Path, entry: SegmentEntry, content: Content) -> SegmentEntry:
    """The entry with its columns, written now where it lacks them. Where they cannot be made they
    are left out, with a warning: rows are found without them.
    """
    if COLUMNS in entry.files:
        return entry
    path = folder / f"{entry.name}.{COLUMNS}"
    path.unlink(missing_ok=True)  # left by a commit that was cut short
    try:
        with open_plain(
            folder / f"{entry.name}.docs", "rb"
        ) as payloads:  # not mapped: pages add up
            written = write_hashed(path, [write_columns(payloads, content.schema)])
    except IndexCorrupt as error:
        log.warning("%s is left out: %s", path, error)
        return entry
    return replace(entry, files={**entry.files, COLUMNS: written})
