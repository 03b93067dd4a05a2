"""The postings of one segment: which rows hold a term, and how often; a sidecar of its vectors.

``HEADER``, then the language, and without gaps, little-endian: row lengths u32 [rows] · ends of the
terms u64 [terms] · ends of their postings u64 [terms] · rows u32 [postings] · counts u16 [postings]
· the terms, UTF-8, sorted by their bytes. Every number is checked where it is used.
"""

import struct
from collections.abc import Iterable, Iterator
from contextlib import closing
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from indexes.errors import IndexCorrupt
from retrieval.analysis import DEFAULT_LANGUAGE, LANGUAGES, terms
from retrieval.inverting import Inverter

MAGIC = b"POST\x00\x01\x00\x00"
HEADER = struct.Struct("<8sIIQQQ16s")  # magic, rows, 0, terms, postings, bytes of terms, language
U16, U32, U64 = (np.dtype(name) for name in ("<u2", "<u4", "<u8"))


def postings(texts: Iterable[str], language: str = DEFAULT_LANGUAGE) -> Iterator[bytes]:
    """The file of a segment with these texts, in row order. Memory holds the different terms, and
    of the postings a part.
    """
    with closing(Inverter()) as inverter:
        for text in texts:
            inverter.add(terms(text, language))
        spelled, held = inverter.finished()
        blob = b"".join(spelled)
        rows, count = len(inverter.lengths), int(held.sum())
        name = language.encode().ljust(16, b"\0")
        yield HEADER.pack(MAGIC, rows, 0, len(spelled), count, len(blob), name)
        yield np.frombuffer(inverter.lengths, np.uint32).astype(U32).tobytes()
        yield np.cumsum([len(term) for term in spelled]).astype(U64).tobytes()
        yield np.cumsum(held).astype(U64).tobytes()
        yield from inverter.merged(U32)
        yield from inverter.merged(U16)
        yield blob


class Held(NamedTuple):
    """The rows that hold a term, ascending, and how often each does."""

    rows: npt.NDArray[np.uint32]
    counts: npt.NDArray[np.uint16]


class Postings:
    """The postings of a segment with ``rows`` rows, mapped: a question touches its own terms only.

    IndexCorrupt when the bytes are no such file.
    """

    def __init__(self, data: bytes | mmap, rows: int) -> None:
        if len(data) < HEADER.size:
            raise IndexCorrupt(f"postings of {len(data)} bytes are cut off")
        magic, held, zero, words, count, size, name = HEADER.unpack_from(data)
        self.language = name.rstrip(b"\0").decode(errors="replace")
        sizes = (4 * held, 8 * words, 8 * words, 4 * count, 2 * count, size)
        if (magic, held, zero) != (MAGIC, rows, 0) or self.language not in LANGUAGES:
            raise IndexCorrupt(f"these are not the postings of {rows} rows")
        if HEADER.size + sum(sizes) != len(data):
            raise IndexCorrupt(f"postings of {len(data)} bytes should have {sum(sizes)}")
        ends = HEADER.size + np.cumsum((0, *sizes))
        self._data = data
        self._blob = int(ends[5])
        self.lengths: npt.NDArray[Any] = np.frombuffer(data, U32, held, int(ends[0]))
        self._term_ends = np.frombuffer(data, U64, words, int(ends[1]))
        self._ends = np.frombuffer(data, U64, words, int(ends[2]))
        self._rows = np.frombuffer(data, U32, count, int(ends[3]))
        self._counts = np.frombuffer(data, U16, count, int(ends[4]))

    def held(self, term: str) -> Held | None:
        """Where a term is; None where it is nowhere."""
        wanted, low, high = term.encode(), 0, len(self._term_ends)
        while low < high:
            middle = (low + high) // 2
            if self._term(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(self._term_ends) or self._term(low) != wanted:
            return None
        first, behind = self._span(self._ends, low, len(self._rows))
        rows, counts = self._rows[first:behind], self._counts[first:behind]
        if not len(rows) or rows[-1] >= len(self.lengths) or (rows[1:] <= rows[:-1]).any():
            raise IndexCorrupt(f"the postings of {term!r} do not ascend within the segment")
        return Held(rows, counts)

    def _term(self, number: int) -> bytes:
        first, behind = self._span(self._term_ends, number, len(self._data) - self._blob)
        return self._data[self._blob + first : self._blob + behind]

    @staticmethod
    def _span(ends: npt.NDArray[np.uint64], number: int, most: int) -> tuple[int, int]:
        first = int(ends[number - 1]) if number else 0
        behind = int(ends[number])
        if not first <= behind <= most:
            raise IndexCorrupt(f"postings are cut at {first}…{behind} of {most}")
        return first, behind
