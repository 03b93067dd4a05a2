"""One immutable run of rows, mapped read-only."""

import hashlib
import logging
import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexes.durable import open_plain
from indexes.errors import IndexCorrupt
from indexes.layout import U32, VECTORS, Vectors, id_of, key_of, row_crc, row_table, rows_bytes
from indexes.manifest import SegmentEntry

COLUMNS, GRAPH = "cols.parquet", "ann"
TRUTH = ("vec", "docs", "rows", "del")
log = logging.getLogger(__name__)


def is_derived(suffix: str) -> bool:
    """Whether a segment's file can be made again from its rows."""
    return suffix.rpartition(".")[2] not in TRUTH


class Segment:
    """The files of one entry of the manifest.

    Opening checks every file's size and the deleted rows' hash, whatever the number of rows.
    IndexCorrupt names the file that does not fit, FileNotFoundError one that is not there; a
    missing derived file only if ``whole``, else it is gone without.
    """

    def __init__(
        self,
        folder: Path,
        entry: SegmentEntry,
        dim: int,
        dtype: str = "float32",
        *,
        whole: bool = False,
    ) -> None:
        self.entry = entry
        self.rows = entry.rows
        self._folder = folder
        truth = {suffix: f.bytes for suffix, f in entry.files.items() if not is_derived(suffix)}
        self._maps = {suffix: self._map(suffix, size) for suffix, size in truth.items()}
        self._derived: dict[str, mmap.mmap | bytes | None] = {}
        self._confirmed: set[str] = set()
        for suffix in entry.files.keys() - truth.keys():
            try:
                self._derived[suffix] = self._map(suffix, entry.files[suffix].bytes)
            except (FileNotFoundError, IndexCorrupt) as error:
                if whole and isinstance(error, FileNotFoundError):
                    raise
                self.go_without(suffix, str(error))
        n = entry.rows
        stored = VECTORS[dtype]
        self._require("vec", n * dim * stored.itemsize)
        self._require("rows", rows_bytes(n))
        self._require("docs", None)
        self.vectors: Vectors = np.frombuffer(self._maps["vec"], stored).reshape(n, dim)
        table = row_table(self._maps["rows"], n)
        self._offsets, self.keys, self._crcs, self.key_rows = table
        self.dead = self._read_dead()

    def _path(self, suffix: str) -> Path:
        return self._folder / f"{self.entry.name}.{suffix}"

    def _map(self, suffix: str, size: int) -> mmap.mmap | bytes:
        path = self._path(suffix)
        with open_plain(path, "rb") as file:
            found = os.fstat(file.fileno()).st_size
            if found != size:
                raise IndexCorrupt(
                    f"{path} is damaged: it has {found} bytes, the manifest says {size}"
                )
            return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""

    def _require(self, suffix: str, size: int | None) -> None:
        stated = self.entry.files.get(suffix)
        if stated is None or (size is not None and stated.bytes != size):
            raise IndexCorrupt(
                f"{self._path(suffix)} does not fit its {self.rows} rows: "
                f"{stated and stated.bytes} bytes, expected {size}"
            )

    def _read_dead(self) -> npt.NDArray[np.bool_] | None:
        suffix = self.entry.deletions
        if suffix is None:
            return None
        self._check_hash(suffix)
        self._require(suffix, self.entry.dead * U32.itemsize)
        rows = np.frombuffer(self._maps[suffix], U32)
        if len(np.unique(rows)) != self.entry.dead or (len(rows) and rows.max() >= self.rows):
            raise IndexCorrupt(f"{self._path(suffix)} does not fit its segment")
        dead = np.zeros(self.rows, bool)
        dead[rows] = True
        return dead

    def _check_hash(self, suffix: str) -> None:
        content = self._derived[suffix] if is_derived(suffix) else self._maps[suffix]
        if hashlib.sha256(content or b"").hexdigest() != self.entry.files[suffix].sha256:
            raise IndexCorrupt(
                f"{self._path(suffix)} is damaged: its content does not match its checksum; "
                "restore it from a copy or build the index again"
            )

    def check_every_byte(self) -> None:
        """Hash every file; IndexCorrupt names the first that has changed or is missing."""
        for suffix in self.entry.files:
            if is_derived(suffix) and self._derived[suffix] is None:
                raise IndexCorrupt(f"{self._path(suffix)} is missing or damaged")
            self._check_hash(suffix)

    def derived(self, suffix: str) -> mmap.mmap | bytes | None:
        """The bytes of a derived file, once their checksum has been confirmed; None where there is
        no such file, or only a damaged one.
        """
        if self._derived.get(suffix) is not None and suffix not in self._confirmed:
            try:
                self._check_hash(suffix)
                self._confirmed.add(suffix)
            except IndexCorrupt as error:
                self.go_without(suffix, str(error))
        return self._derived.get(suffix)

    def go_without(self, suffix: str, reason: str) -> None:
        """Leave a damaged derived file alone from now on, with a warning."""
        self._derived[suffix] = None
        log.warning("%s; going on without it", reason)

    def payload(self, row: int) -> bytes:
        """A row's payload, once its checksum (which covers the vector too) has been confirmed."""
        start, stop = int(self._offsets[row]), int(self._offsets[row + 1])
        payload = self._maps["docs"][start:stop]
        if start >= stop or row_crc(payload, self.vectors[row].tobytes()) != self._crcs[row]:
            self.check_every_byte()  # which names the damaged file, where the manifest knows it
            raise IndexCorrupt(f"{self._path('rows')}: row {row} does not match its checksum")
        return payload

    def find(self, row_id: str) -> int | None:
        """The live row with this id, the last where a build still holds several."""
        rows = [row for row in self.rows_of(np.uint64(key_of(row_id))) if self._is_live(row)]
        return next((row for row in reversed(rows) if self.id(row) == row_id), None)

    def rows_of(self, key: np.uint64) -> list[int]:
        """The rows with a key, ascending: two ids may share one."""
        low, high = (int(np.searchsorted(self.keys, key, side)) for side in ("left", "right"))
        rows: list[int] = sorted(self.key_rows[low:high].tolist())
        return [row for row in rows if row < self.rows]

    def id(self, row: int) -> str:
        """A row's id."""
        try:
            return id_of(self.payload(row))
        except ValueError as error:
            raise IndexCorrupt(f"{self._path('docs')}: row {row} is {error}") from None

    def _is_live(self, row: int) -> bool:
        return self.dead is None or not self.dead[row]
