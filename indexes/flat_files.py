"""Flat FAISS files, which hold the vectors as they are: written and read a block at a time."""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from indexes.errors import IndexCorrupt, VectorError
from indexes.layout import Vectors

FLOAT = np.dtype("<f4")
# The first four bytes of the files that can hold every vector as it was given.
FLAT = (b"IxFI", b"IxF2", b"IxFl", b"IxMp", b"IxM2")
EXPECTED = (
    "only IndexFlatIP, IndexFlatL2, and IndexIDMap over one of them, hold the vectors as they were "
    "given: write such a one"
)


def write_flat(file: IO[bytes], dim: int, rows: int, blocks: Iterable[Vectors]) -> None:
    """Write what ``faiss.write_index`` writes of an IndexFlatIP of ``rows`` rows [n, dim], without
    holding them. ValueError when the blocks have another number of rows.
    """
    file.write(_head(dim, rows))
    written = 0
    for block in blocks:
        file.write(np.ascontiguousarray(block, FLOAT).tobytes())
        written += len(block)
    if written != rows:
        raise ValueError(f"{written} rows were given, {rows} announced")


def _head(dim: int, rows: int) -> bytes:
    """What stands before the vectors: that of an index without rows, and their number put in."""
    import faiss

    one = faiss.IndexFlatIP(dim)
    empty: bytes = faiss.serialize_index(one).tobytes()
    one.add(np.ones((1, dim), FLOAT))
    full = faiss.serialize_index(one).tobytes()
    if full != _with_rows(empty, dim, 1) + np.ones(dim, FLOAT).tobytes():
        raise VectorError(f"FAISS {faiss.__version__} has another file format than is known here")
    return _with_rows(empty, dim, rows)


def _with_rows(empty: bytes, dim: int, rows: int) -> bytes:
    # "IxFI", dim u32, rows u64, …, the number of floats that follow u64
    return empty[:8] + struct.pack("<Q", rows) + empty[16:-8] + struct.pack("<Q", rows * dim)


class FlatFile:
    """The rows of a flat FAISS file, or of an IndexIDMap over one, mapped: ``dim``, ``rows``, and
    ``numbers`` int64 [rows], the ids that an IndexIDMap gives them, else None.

    IndexCorrupt for a file that FAISS cannot read, VectorError for an index of another kind.
    """

    def __init__(self, path: Path) -> None:
        import faiss

        _check_kind(path)
        self._outer = _read(path)
        mapped = isinstance(self._outer, faiss.IndexIDMap)
        flat = faiss.downcast_index(self._outer.index) if mapped else self._outer
        if not isinstance(flat, faiss.IndexFlat):
            raise VectorError(f"{path} is an {type(flat).__name__} with numbers; {EXPECTED}")
        self._flat = flat
        self.dim, self.rows = int(flat.d), int(flat.ntotal)
        self.numbers: npt.NDArray[np.int64] | None = None
        # FAISS takes a mapped file that ends within its last number; we must not.
        empty: faiss.Index = faiss.IndexFlat(self.dim, flat.metric_type)
        if mapped:
            self.numbers = faiss.vector_to_array(self._outer.id_map)
            empty = faiss.IndexIDMap(empty)
        row = self.dim * FLOAT.itemsize + 8 * mapped
        size = len(faiss.serialize_index(empty)) + self.rows * row
        found = (self._outer.d, self._outer.ntotal, path.stat().st_size)
        if found != (self.dim, self.rows, size):
            raise IndexCorrupt(
                f"{path} is damaged: width, rows and bytes are {found}, "
                f"expected {(self.dim, self.rows, size)}"
            )

    def block(self, start: int, stop: int) -> Vectors:
        """Rows ``start`` … ``stop``, fewer at the end: float32 [n, dim]."""
        count = min(stop, self.rows) - start
        return np.asarray(self._flat.reconstruct_n(start, count), np.float32)


def _check_kind(path: Path) -> None:
    # FAISS would first read whatever it is, however large, and only then could we see it.
    with path.open("rb") as file:
        kind = file.read(4)
    if kind not in FLAT:
        raise VectorError(f"{path} is no flat FAISS file (it begins with {kind!r}); {EXPECTED}")


def _read(path: Path) -> Any:
    import faiss

    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except (RuntimeError, MemoryError, TypeError, UnicodeError) as error:
        reason = " ".join(str(error).rpartition("Error: ")[2].split())
        raise IndexCorrupt(f"{path} cannot be read by FAISS: {reason}") from None
