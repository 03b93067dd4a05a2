"""``.del``: the deleted rows of a segment, a new file for each commit that adds to them."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexes.growing import write_hashed
from indexes.layout import U32
from indexes.manifest import SegmentEntry


def with_dead(
    folder: Path, entry: SegmentEntry, dead: Iterable[int], generation: int
) -> SegmentEntry:
    """The entry with these rows deleted and no others; without any it stays as it is."""
    rows = np.array(sorted(dead), U32)
    if not len(rows):
        return entry
    suffix = f"{generation:08d}.del"
    path = folder / f"{entry.name}.{suffix}"
    path.unlink(missing_ok=True)  # left by a commit that was cut short
    written = write_hashed(path, [rows.tobytes()])
    files = {name: file for name, file in entry.files.items() if not name.endswith(".del")}
    return replace(entry, files={**files, suffix: written}, dead=len(rows))
