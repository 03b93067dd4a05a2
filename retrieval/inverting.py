"""From the terms of each row to the rows of each term, in memory that the number of rows does not
set: runs of postings are sorted by themselves, set aside, and merged term by term.
"""

from array import array
from collections import Counter
from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

RUN = 2**20  # postings that are sorted at once
IN_MEMORY = 64 * 2**20  # bytes of runs; beyond that they lie in a temporary file
MOST = 0xFFFF  # of one term in one row that are counted
ROWS, COUNTS = np.dtype("<u4"), np.dtype("<u2")
Numbers = npt.NDArray[np.int64]


class _Run(NamedTuple):
    """Consecutive rows: the numbers of their terms by spelling, how many postings each has, and
    where the rows and the counts of these lie in the file.
    """

    terms: npt.NDArray[np.uint32]
    sizes: npt.NDArray[np.uint32]
    places: dict[np.dtype[np.unsignedinteger], int]


class Inverter:
    """Takes rows one by one. ``lengths`` are the terms of each, repeated ones counted."""

    def __init__(self) -> None:
        self.lengths = array("I")
        self._numbers: dict[str, int] = {}  # of the terms, as they come
        self._runs: list[_Run] = []
        self._file = SpooledTemporaryFile(IN_MEMORY)
        self._begin()

    def _begin(self) -> None:
        self._terms, self._rows, self._counts = array("I"), array("I"), array("H")

    def add(self, terms: list[str]) -> None:
        """Take the terms of the next row."""
        held = Counter(terms)
        numbers = self._numbers
        self._terms.extend(numbers.setdefault(term, len(numbers)) for term in held)
        self._rows.extend([len(self.lengths)] * len(held))
        self._counts.extend(min(count, MOST) for count in held.values())
        self.lengths.append(len(terms))
        if len(self._terms) >= RUN:
            self._set_aside(list(numbers))

    def _set_aside(self, names: list[str]) -> None:
        distinct, each, sizes = np.unique(
            np.frombuffer(self._terms, np.uint32), return_inverse=True, return_counts=True
        )
        by_spelling = sorted(range(len(distinct)), key=lambda at: names[distinct[at]].encode())
        rank = np.empty(len(distinct), np.uint32)
        rank[by_spelling] = np.arange(len(distinct))
        order = np.argsort(rank[each], kind="stable")  # rows ascend within a term
        places = {}
        for form, values in ((ROWS, self._rows), (COUNTS, self._counts)):
            places[form] = self._file.tell()
            native = np.frombuffer(values, form.newbyteorder("="))
            self._file.write(native[order].astype(form).tobytes())
        self._runs.append(_Run(distinct[by_spelling], sizes[by_spelling].astype(np.uint32), places))
        self._begin()

    def finished(self) -> tuple[list[bytes], Numbers]:
        """The terms, sorted by their bytes, and how many postings each has."""
        names = list(self._numbers)
        if len(self._terms):
            self._set_aside(names)
        spelled = sorted((name.encode(), number) for name, number in self._numbers.items())
        order = np.array([number for _, number in spelled], np.int64)
        self._place = np.empty(len(names), np.int64)
        self._place[order] = np.arange(len(names))
        self._sizes = np.zeros(len(names), np.int64)
        for run in self._runs:
            self._sizes[self._place[run.terms]] += run.sizes
        return [name for name, _ in spelled], self._sizes

    def merged(self, form: np.dtype[np.unsignedinteger]) -> Iterator[bytes]:
        """The rows or the counts of all postings, term by term, once all is finished."""
        ends = np.cumsum(self._sizes)
        low = 0
        while low < len(ends):
            before = int(ends[low - 1]) if low else 0
            high = max(low + 1, int(np.searchsorted(ends, before + RUN, "right")))
            pieces = [self._piece(run, low, high, form) for run in self._runs]
            terms = np.concatenate([terms for terms, _ in pieces])
            values = np.concatenate([values for _, values in pieces])
            yield values[np.argsort(terms, kind="stable")].tobytes()
            low = high

    def _piece(
        self, run: _Run, low: int, high: int, form: np.dtype[np.unsignedinteger]
    ) -> tuple[Numbers, npt.NDArray[np.unsignedinteger]]:
        places = self._place[run.terms]  # ascending
        first, behind = np.searchsorted(places, (low, high))
        sizes = run.sizes[first:behind]
        self._file.seek(run.places[form] + form.itemsize * int(run.sizes[:first].sum()))
        values = np.frombuffer(self._file.read(form.itemsize * int(sizes.sum())), form)
        return np.repeat(places[first:behind], sizes), values

    def close(self) -> None:
        """Let go of what was set aside."""
        self._file.close()
