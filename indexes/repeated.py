"""Ids that more than one live row has, in an index of any size: sorted keys, then the few ids."""

from collections.abc import Iterator, Sequence

import numpy as np

from indexes.audit import Problem, SegmentAudit
from indexes.layout import Keys


def repeated_ids(audits: Sequence[SegmentAudit]) -> Iterator[Problem]:
    """Live rows with the id of a live row before them, in the same segment or another."""
    first: dict[str, Problem] = {}
    for number, row in _shared_keys([a.keys if a.readable else None for a in audits]):
        audit = audits[number]
        row_id = audit.id(row) if audit.is_live(row) else None
        if row_id is not None:
            here = audit.problem("docs", f"has the id {row_id[:80]!r}", row)
            before = first.setdefault(row_id, here)
            if before is not here:
                yield here._replace(what=f"{here.what} of row {before.row} of {before.file} too")


def _shared_keys(tables: Sequence[Keys | None]) -> Iterator[tuple[int, int]]:
    """The segments and rows whose key another row has too, those with one key in order."""
    known = [(number, keys) for number, keys in enumerate(tables) if keys is not None]
    every = np.concatenate([np.zeros(0, np.uint64), *(keys for _, keys in known)])
    order = np.argsort(every, kind="stable")
    same = every[order][1:] == every[order][:-1]
    bounds = np.cumsum([0, *(len(keys) for _, keys in known)])
    shared = np.zeros(len(order), bool)
    shared[1:] |= same
    shared[:-1] |= same
    for at in order[shared]:
        which = int(np.searchsorted(bounds, at, side="right")) - 1
        yield known[which][0], int(at - bounds[which])
