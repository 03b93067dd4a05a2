"""What a manifest says, held against the bytes on disk: file by file and row by row."""

import hashlib
import mmap
import os
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexes.durable import open_plain
from indexes.errors import IndexCorrupt, RetrievalError
from indexes.layout import (
    U32,
    VECTORS,
    Keys,
    Rows,
    RowTable,
    Vectors,
    id_of,
    key_of,
    row_crc,
    row_table,
    rows_bytes,
)
from indexes.manifest import Content, SegmentEntry

SMALL = 64 * 2**20  # bytes; a file up to this size is always hashed
BLOCK = 16_384  # rows whose lengths are computed at once
# How far from 1 the length of a stored row may be.
UNIT = {"float32": 1e-3, "float16": 2e-3}
CHECKED = ("vec", "docs", "rows")  # the files that a row and its checksum lie in

Judge = Callable[[bytes], str | None]


class Problem(NamedTuple):
    """What is wrong: with which file, by its name in the folder, and with which of its rows, from
    0; None where it is not about one row.
    """

    file: str
    row: int | None
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what if self.row is None else f'row {self.row} {self.what}'}"


class SegmentAudit:
    """The files of one segment, opened: nothing about them needs to be right. ``missing`` tells
    that one was not there, as when a commit has just removed it.
    """

    def __init__(self, folder: Path, entry: SegmentEntry, content: Content) -> None:
        self.missing = False
        self._entry = entry
        self._dim, self._dtype = content.dim, content.dtype
        self._maps: dict[str, mmap.mmap | bytes] = {}
        self._unopened: list[Problem] = []
        for suffix, file in entry.files.items():
            path = folder / f"{entry.name}.{suffix}"
            try:
                self._maps[suffix] = _mapped(path, file.bytes)
            except FileNotFoundError:
                self.missing = True
                self._unopened.append(self.problem(suffix, "is missing"))
            except RetrievalError as error:
                self._unopened.append(self.problem(suffix, without_path(error, path)))

    def problem(self, suffix: str, what: str, row: int | None = None) -> Problem:
        """Something that is wrong with one of the files."""
        return Problem(f"{self._entry.name}.{suffix}", row, what)

    def problems(self, judge: Judge, *, full: bool) -> Iterator[Problem]:
        """All that is wrong with this segment by itself; ``judge`` says what is wrong with a live
        row's payload, None where nothing is. Unless ``full`` only small files are hashed.
        """
        yield from self._unopened
        yield from self._unfit()
        for suffix, raw in self._maps.items():
            if (full or len(raw) <= SMALL) and not self._holds(suffix):
                yield self.problem(suffix, "is damaged: it does not match its checksum")
        if self._deleted is None:
            yield self.problem(str(self._entry.deletions), "does not fit its segment")
        if self.readable:
            yield from self._key_problems()
            yield from self._row_problems(judge)

    def _unfit(self) -> Iterator[Problem]:
        """Files whose stated size does not go with the number of rows."""
        n, deletions = self._entry.rows, self._entry.deletions
        width = self._dim * VECTORS[self._dtype].itemsize
        needed: dict[str, int | None] = {"vec": n * width, "rows": rows_bytes(n), "docs": None}
        if deletions:
            needed[deletions] = self._entry.dead * U32.itemsize
        for suffix, size in needed.items():
            stated = self._entry.files.get(suffix)
            if stated is None:
                yield self.problem(suffix, "is not in the manifest")
            elif size is not None and stated.bytes != size:
                what = f"has {stated.bytes} bytes in the manifest, its {n} rows need {size}"
                yield self.problem(suffix, what)

    def _holds(self, suffix: str) -> bool:
        digest = hashlib.sha256(self._maps[suffix]).hexdigest()
        return digest == self._entry.files[suffix].sha256

    @cached_property
    def _damaged(self) -> list[str]:
        """The files to blame for a row that does not match its checksum."""
        return [suffix for suffix in CHECKED if not self._holds(suffix)] or ["rows"]

    @cached_property
    def readable(self) -> bool:
        """Whether there are rows to look at: the files are there, of the right size."""
        unfit = {problem.file.split(".", 1)[1] for problem in self._unfit()}
        return all(suffix in self._maps and suffix not in unfit for suffix in CHECKED)

    @cached_property
    def _deleted(self) -> Rows | None:
        """The deleted rows; None where their file makes no sense."""
        raw = self._maps.get(str(self._entry.deletions), b"")
        rows = np.frombuffer(raw, U32, len(raw) // U32.itemsize)
        ascending = (rows[1:] > rows[:-1]).all() and (rows < self._entry.rows).all()
        return rows if ascending else None

    @cached_property
    def _live(self) -> npt.NDArray[np.bool_]:
        live = np.ones(self._entry.rows, bool)
        live[self._deleted if self._deleted is not None else []] = False
        return live

    @cached_property
    def _table(self) -> RowTable:
        return row_table(self._maps["rows"], self._entry.rows)

    @cached_property
    def keys(self) -> Keys | None:
        """The key of each row, u64 [rows]; None where the table of keys is not one of all rows."""
        rows, n = self._table.key_rows, self._entry.rows
        if n and (rows.max() >= n or np.bincount(rows).max() > 1):
            return None
        by_row = np.empty(n, np.uint64)
        by_row[rows] = self._table.keys
        return by_row

    def _key_problems(self) -> Iterator[Problem]:
        keys = self._table.keys
        if (keys[1:] < keys[:-1]).any():
            yield self.problem("rows", "has a table of keys that is not sorted")
        if self.keys is None:
            absent = np.setdiff1d(np.arange(self._entry.rows), self._table.key_rows)
            yield self.problem("rows", "is not in the table of keys", int(absent[0]))

    def _row_problems(self, judge: Judge) -> Iterator[Problem]:
        offsets, crcs = self._table.offsets, self._table.crcs
        bad = np.flatnonzero(offsets[1:] <= offsets[:-1])
        if len(bad):
            yield self.problem("rows", "has an end that is not behind its beginning", int(bad[0]))
        elif offsets[0] != 0 or offsets[-1] != len(self._maps["docs"]):
            yield self.problem("rows", "has offsets that do not span the .docs file")
        else:
            for start in range(0, len(crcs), BLOCK):
                block = slice(start, start + BLOCK)
                with np.errstate(all="ignore"):  # a length that is no number is a problem below
                    lengths = np.linalg.norm(self._vectors[block].astype(np.float64), axis=1)
                for row, (length, crc) in enumerate(zip(lengths, crcs[block], strict=True), start):
                    yield from self._row(row, float(length), int(crc), judge)

    @cached_property
    def _vectors(self) -> Vectors:
        raw: Vectors = np.frombuffer(self._maps["vec"], VECTORS[self._dtype])
        return raw.reshape(self._entry.rows, self._dim)

    def _row(self, row: int, length: float, crc: int, judge: Judge) -> Iterator[Problem]:
        payload = self._payload(row)
        if row_crc(payload, self._vectors[row].tobytes()) != crc:
            what = "does not match its checksum"
            yield from (self.problem(suffix, what, row) for suffix in self._damaged)
            return
        if not abs(length - 1) <= UNIT[self._dtype]:
            yield self.problem("vec", f"has a vector of length {length:.4g}, expected 1", row)
        row_id = self.id(row)
        if row_id is None:
            yield self.problem("docs", 'is not a JSON object with a text "id"', row)
            return
        if self.keys is not None and key_of(row_id) != self.keys[row]:
            yield self.problem("rows", f"has the id {row_id[:80]!r}, but not its key", row)
        if self.is_live(row) and (why := judge(payload)):
            yield self.problem("docs", why, row)

    def _payload(self, row: int) -> bytes:
        return self._maps["docs"][int(self._table.offsets[row]) : int(self._table.offsets[row + 1])]

    def id(self, row: int) -> str | None:
        """A row's id; None where it has none that UTF-8 can hold."""
        try:
            return id_of(self._payload(row)).encode().decode()
        except ValueError:
            return None

    def is_live(self, row: int) -> bool:
        """Whether a row has not been deleted."""
        return bool(self._live[row])


def _mapped(path: Path, size: int) -> mmap.mmap | bytes:
    with open_plain(path, "rb") as file:
        found = os.fstat(file.fileno()).st_size
        if found != size:
            raise IndexCorrupt(f"{path} has {found} bytes, the manifest says {size}")
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""


def without_path(error: Exception, path: Path) -> str:
    """What an error says of a file, without the name that goes before it."""
    return str(error).removeprefix(f"{path} ")
