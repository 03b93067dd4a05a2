"""Which rows of a view a filter selects: columns read once, masks kept for the next question."""

import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexes.columns import Schema, read_columns, types_of, write_columns
from indexes.errors import IndexCorrupt
from indexes.segment import COLUMNS, Segment
from indexes.where import select

if TYPE_CHECKING:
    import pyarrow as pa

KEPT = 16  # filters whose rows are remembered


class Selected(NamedTuple):
    """The live rows that a filter selects: bool over all positions, and the positions."""

    mask: npt.NDArray[np.bool_]
    positions: npt.NDArray[np.int64]


class Filters:
    """The columns of the segments of one view; safe from any thread."""

    def __init__(self, segments: Sequence[Segment], schema: Schema) -> None:
        self._segments, self._schema = segments, schema
        self._tables: dict[tuple[int, str], pa.ChunkedArray] = {}
        self._kept: OrderedDict[Any, tuple[Any, Selected]] = OrderedDict()
        self._lock = threading.Lock()

    def select(self, where: Any) -> Selected:
        """The rows of a text or a pyarrow expression; WhereError when it is no filter of these
        columns.
        """
        key = where if isinstance(where, str) else id(where)  # which the cache keeps alive
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][1]
            selection = select(where, self._schema)
            masks = [np.zeros(0, bool)]
            for number, segment in enumerate(self._segments):
                mask = selection.mask(self._table(number, selection.columns))
                masks.append(mask if segment.dead is None else mask & ~segment.dead)
            mask = np.concatenate(masks)
            found = Selected(mask, np.flatnonzero(mask))
            self._kept[key] = where, found
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return found

    def _table(self, number: int, names: Collection[str] | None) -> "pa.Table":
        """The columns of a segment, each read when it is first asked for."""
        import pyarrow as pa

        wanted = list(types_of(self._schema)) if names is None else sorted(names)
        missing = [name for name in wanted if (number, name) not in self._tables]
        if missing:
            table = self._read(self._segments[number], missing)
            for name in missing:
                self._tables[number, name] = table[name]
        return pa.table({name: self._tables[number, name] for name in wanted})

    def _read(self, segment: Segment, names: Collection[str]) -> "pa.Table":
        """Columns from their file or, where that is missing or damaged, from the payloads."""
        stored = segment.derived(COLUMNS)
        try:
            if stored is not None:
                return read_columns(stored, segment.rows, self._schema, names)
        except IndexCorrupt as error:
            segment.go_without(COLUMNS, str(error))
        payloads = (segment.payload(row) for row in range(segment.rows))
        made = write_columns(payloads, self._schema)
        return read_columns(made, segment.rows, self._schema, names)
