"""Files that can be made again from the rows: written with a segment, and not missed for long."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from indexes.columns import write_columns
from indexes.durable import open_plain
from indexes.errors import IndexCorrupt
from indexes.growing import write_hashed
from indexes.manifest import Content, SegmentEntry
from indexes.segment import COLUMNS

log = logging.getLogger(__name__)


def _columns(folder: Path, entry: SegmentEntry, content: Content) -> Iterable[bytes]:
    with open_plain(folder / f"{entry.name}.docs", "rb") as payloads:  # not mapped: pages add up
        yield write_columns(payloads, content.schema)


# What follows the segment's name -> its bytes.
DERIVED: Mapping[str, Callable[[Path, SegmentEntry, Content], Iterable[bytes]]] = {
    COLUMNS: _columns
}


def with_derived(folder: Path, entry: SegmentEntry, content: Content) -> SegmentEntry:
    """The entry with every derived file, those that it lacks written now. One that cannot be made
    is left out, with a warning: rows are found without it.
    """
    files = dict(entry.files)
    for suffix in DERIVED.keys() - files.keys():
        path = folder / f"{entry.name}.{suffix}"
        path.unlink(missing_ok=True)  # left by a commit that was cut short
        try:
            files[suffix] = write_hashed(path, DERIVED[suffix](folder, entry, content))
        except IndexCorrupt as error:
            log.warning("%s is left out: %s", path, error)
    return replace(entry, files=files)
