"""The one segment that still grows: appended to, checkpointed, cut back, closed."""

import hashlib
import secrets
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np

from indexes.durable import open_plain, sync_file, sync_folder, write_new
from indexes.errors import IndexCorrupt
from indexes.keys import KeyTable
from indexes.layout import U32, U64, VECTORS, Vectors, id_of, key_of, row_crc
from indexes.manifest import FileEntry, SegmentEntry

KINDS = ("vec", "docs")
HASH_CHUNK = 2**20


class GrowingSegment:
    """Rows go to ``.vec`` and ``.docs`` at once; what finds them again is kept in memory until
    :meth:`close` (24 bytes a row).
    """

    def __init__(self, folder: Path, name: str, dim: int, dtype: str, mode: str) -> None:
        self.name = name
        self._stored = VECTORS[dtype]
        self._folder = folder
        self._dim = dim
        self._hashes = {kind: hashlib.sha256() for kind in KINDS}
        self._offsets = array("Q", [0])
        self._crcs = array("I")
        self._keys = KeyTable()
        self._files: dict[str, IO[bytes]] = {}
        try:
            for kind in KINDS:
                self._files[kind] = open_plain(self._path(kind), mode)
        except (OSError, IndexCorrupt):
            self.abandon()
            raise

    @classmethod
    def create(cls, folder: Path, number: int, dim: int, dtype: str) -> "GrowingSegment":
        """Begin an empty segment under a name that was never used before."""
        segment = cls(folder, f"{number:08d}-{secrets.token_hex(4)}", dim, dtype, "x+b")
        try:
            sync_folder(folder)
        except OSError:
            segment.abandon()
            raise
        return segment

    @classmethod
    def reopen(
        cls, folder: Path, entry: SegmentEntry, dim: int, dtype: str, rows: int | None = None
    ) -> "GrowingSegment":
        """Take up a checkpoint, or its first ``rows`` rows; :meth:`cut_tail` comes next.

        What the checkpoint covers is hashed again: IndexCorrupt when it has changed.
        """
        segment = cls(folder, entry.name, dim, dtype, "r+b")
        try:
            segment._read_back(entry, entry.rows if rows is None else rows)
        except BaseException:
            segment.abandon()
            raise
        return segment

    def _read_back(self, entry: SegmentEntry, rows: int) -> None:
        for kind, file in self._files.items():
            recorded = entry.files[kind]
            if _sha256(file, recorded.bytes) != recorded.sha256:
                raise IndexCorrupt(
                    f"{self._path(kind)} is damaged: its content does not match its checksum"
                )
            file.seek(0)
        for _ in range(rows):
            vector = self._files["vec"].read(self._dim * self._stored.itemsize)
            line = self._files["docs"].readline()
            try:
                row_id = id_of(line)
            except ValueError as error:
                raise IndexCorrupt(f"{self._path('docs')}: a row is {error}") from None
            self._remember(vector, row_id, line)

    def cut_tail(self) -> None:
        """Cut off what was written after the rows of this object."""
        for file, size in zip(self._files.values(), self._sizes(), strict=True):
            file.truncate(size)
            file.seek(size)

    def _path(self, suffix: str) -> Path:
        return self._folder / f"{self.name}.{suffix}"

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self._crcs)

    def _sizes(self) -> tuple[int, int]:
        return self.rows * self._dim * self._stored.itemsize, self._offsets[-1]

    def append(self, vectors: Vectors, ids: Sequence[str], payloads: Sequence[bytes]) -> None:
        """Add rows: float32 [n, dim], and an id and a payload each."""
        raw = [vector.tobytes() for vector in vectors.astype(self._stored)]
        lines = [payload + b"\n" for payload in payloads]
        self._files["vec"].write(b"".join(raw))
        self._files["docs"].write(b"".join(lines))
        for vector, row_id, line in zip(raw, ids, lines, strict=True):
            self._remember(vector, row_id, line)

    def _remember(self, vector: bytes, row_id: str, line: bytes) -> None:
        self._keys.add(key_of(row_id), self.rows)
        self._hashes["vec"].update(vector)
        self._hashes["docs"].update(line)
        self._crcs.append(row_crc(line, vector))
        self._offsets.append(self._offsets[-1] + len(line))

    def find(self, row_id: str) -> int | None:
        """The latest row with this id."""
        rows = self._keys.rows(key_of(row_id))
        return next((row for row in rows if id_of(self.payload(row)) == row_id), None)

    def payload(self, row: int) -> bytes:
        """A row's payload, with its line end."""
        file = self._files["docs"]
        file.seek(self._offsets[row])
        line = file.read(self._offsets[row + 1] - self._offsets[row])
        file.seek(self._offsets[-1])
        return line

    def checkpoint(self) -> SegmentEntry:
        """Wait until the disk holds every row so far, and describe them."""
        for file in self._files.values():
            sync_file(file)
        return self.entry()

    def entry(self) -> SegmentEntry:
        """Describe the rows of this object, wherever its files end."""
        sizes = zip(KINDS, self._sizes(), strict=True)
        files = {kind: FileEntry(size, self._hashes[kind].hexdigest()) for kind, size in sizes}
        return SegmentEntry(self.name, self.rows, files)

    def close(self) -> SegmentEntry:
        """Write what finds the rows again, and describe the finished segment."""
        entry = self.checkpoint()
        self.abandon()
        keys, key_rows = self._keys.sorted()
        parts = (
            (np.frombuffer(self._offsets, np.uint64), U64),
            (keys, U64),
            (np.frombuffer(self._crcs, np.uint32), U32),
            (key_rows, U32),
        )
        path = self._path("rows")
        path.unlink(missing_ok=True)  # left by a close that was cut short
        written = write_hashed(path, (part.astype(kind).tobytes() for part, kind in parts))
        sync_folder(self._folder)  # the next checkpoint names the file
        return SegmentEntry(self.name, self.rows, {**entry.files, "rows": written})

    def abandon(self) -> None:
        """Close the files and leave them as they are."""
        for file in self._files.values():
            with suppress(OSError):  # what a full disk has not taken goes with the next cut
                file.close()


def _sha256(file: IO[bytes], size: int) -> str:
    """The hash of the first ``size`` bytes."""
    digest = hashlib.sha256()
    while size > 0 and (chunk := file.read(min(size, HASH_CHUNK))):
        digest.update(chunk)
        size -= len(chunk)
    return digest.hexdigest()


def write_hashed(path: Path, chunks: Iterable[bytes]) -> FileEntry:
    """Write a new file and describe it."""
    digest = hashlib.sha256()
    sizes = []

    def hashed() -> Iterator[bytes]:
        for chunk in chunks:
            digest.update(chunk)
            sizes.append(len(chunk))
            yield chunk

    write_new(path, hashed())
    return FileEntry(sum(sizes), digest.hexdigest())
