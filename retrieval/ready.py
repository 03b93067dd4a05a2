"""Vectors that somebody has already made: a matrix or a file, row by row, each checked."""

import tokenize
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from indexes.errors import IndexCorrupt, VectorError
from indexes.flat_files import FlatFile
from retrieval.documents import Document
from retrieval.encoding import Vectors
from retrieval.errors import RowProblem

EXACT = 1e-6  # a row so near to unit length is kept bit for bit
UNIT = 1e-3  # one farther from it was not meant to be of unit length
BLOCK = 1_024  # rows read at once
Given = str | Path | npt.NDArray[np.floating[Any]]


class Rows(Protocol):
    """Vectors that lie in a file."""

    dim: int
    rows: int
    numbers: npt.NDArray[np.int64] | None

    def block(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows ``start`` … ``stop``, fewer at the end: [n, dim]."""


class Matrix:
    """The rows of an array of floats [n, dim]; VectorError for an array of another form."""

    numbers: npt.NDArray[np.int64] | None = None

    def __init__(self, array: Any, name: str) -> None:
        if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind != "f":
            found = f"{getattr(array, 'dtype', type(array).__name__)} {list(np.shape(array))}"
            raise VectorError(f"{name} holds {found}; expected float16, 32 or 64 of [n, dim]")
        self._array = array
        self.rows, self.dim = array.shape

    def block(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows ``start`` … ``stop``, fewer at the end: [n, dim]."""
        return self._array[start:stop]


def _mapped(path: Path) -> Matrix:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (ValueError, OSError, SyntaxError, tokenize.TokenError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise IndexCorrupt(f"{path} cannot be read as .npy: {reason}") from None
    return Matrix(array, str(path))


# Files of vectors, by their first byte.
FORMATS: Mapping[bytes, Callable[[Path], Rows]] = {b"\x93": _mapped, b"I": FlatFile}


def _open(given: Given) -> Rows:
    if not isinstance(given, (str, Path)):
        return Matrix(given, "the array")
    path = Path(given)
    if not path.is_file():
        raise VectorError(f"{path}: no such file of vectors")
    with path.open("rb") as file:
        head = file.read(1)
    if head not in FORMATS:
        raise VectorError(f"{path} begins with {head!r}; expected a .npy matrix or a FAISS file")
    return FORMATS[head](path)


class RowVectors:
    """The vector of each row of a corpus, asked for in order."""

    def __init__(self, given: Given) -> None:
        self.name = str(given) if isinstance(given, (str, Path)) else "the array"
        self._file = _open(given)
        self.dim, self.rows = self._file.dim, self._file.rows
        self._first = 0
        self._block = self._file.block(0, 0)

    def of(self, row: int, document: Document) -> npt.NDArray[Any]:
        """The vector of the row, which is this document; VectorError when there is none."""
        if row >= self.rows:
            raise VectorError(
                f"{self.name} holds {self.rows:,} vectors, but there are more rows; "
                "give one for each row, those without text too"
            )
        if not self._first <= row < self._first + len(self._block):
            self._first, self._block = row, self._file.block(row, row + BLOCK)
        numbers = self._file.numbers
        if numbers is not None and str(numbers[row]) not in (document.id, str(row)):
            raise VectorError(
                f"{self.name} gives vector {row} the number {numbers[row]}, but row {row + 1} is "
                f"the document {document.id!r}; bring them into one order"
            )
        vector: npt.NDArray[Any] = self._block[row - self._first]
        return vector

    def check_end(self, rows: int) -> None:
        """VectorError unless the corpus has a row for each vector."""
        if rows != self.rows:
            raise VectorError(
                f"{self.name} holds {self.rows:,} vectors for {rows:,} rows; "
                "give one for each row, those without text too"
            )


def unit(vector: Any, dim: int) -> tuple[Vectors, bool]:
    """Float32 [dim] of unit length, and whether it had another; RowProblem for what is no vector of
    this width with a direction.
    """
    try:
        row = np.asarray(vector, np.float64)
    except (ValueError, TypeError, OverflowError):
        row = np.empty(())
    if vector is None or row.ndim != 1:
        found = "missing" if vector is None else f"no list of numbers but {type(vector).__name__}"
        raise RowProblem(f"the vector is {found}")
    if len(row) != dim:
        raise RowProblem(f"the vector has {len(row)} numbers; the model makes {dim}")
    length = float(np.linalg.norm(row))
    if not length or not np.isfinite(length):
        raise RowProblem(f"the vector is {'not finite' if length else 'zero'}")
    if abs(length - 1) > EXACT:
        row = row / length
    return row.astype(np.float32), abs(length - 1) > UNIT
