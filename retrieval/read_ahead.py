"""The documents of a corpus, the first of which can be looked at before any is given out."""

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from retrieval.corpus import Corpus
from retrieval.documents import Document
from retrieval.errors import RowProblem
from retrieval.schema import Schema

BYTES = 64 * 2**20  # of text that are read ahead, whatever the number of documents


class _Read(NamedTuple):
    """A document, where it stands, and how much of the corpus had been read with it."""

    document: Document
    where: str
    fraction: float | None


class ReadAhead:
    """The documents of ``corpus`` that fit ``schema``, in order; the others are rejected there.

    Wherever the reading is, ``corpus.where`` and :meth:`fraction` are those of the document that
    was given out last.
    """

    def __init__(self, corpus: Corpus, schema: Schema) -> None:
        self.corpus, self.schema = corpus, schema
        self._kept: deque[_Read] = deque()
        self._fraction: float | None = None
        self._ahead = False
        self._rest = self._read()

    def first(self, count: int) -> list[Document]:
        """The first documents, ``count`` or as many as :data:`BYTES` hold; they are kept."""
        held = 0
        for document in self._rest:
            self._kept.append(_Read(document, self.corpus.where, self.corpus.fraction()))
            held += len(document.text)
            if len(self._kept) >= count or held >= BYTES:
                break
        return [read.document for read in self._kept]

    def fraction(self) -> float | None:
        """How much of the corpus has been given out; None where that is not known."""
        return self._fraction if self._ahead else self.corpus.fraction()

    def __iter__(self) -> Iterator[Document]:
        self._ahead = True
        while self._kept:
            document, self.corpus.where, self._fraction = self._kept.popleft()
            yield document
        self._ahead = False
        yield from self._rest

    def _read(self) -> Iterator[Document]:
        for document in self.corpus:
            try:
                self.schema.observe(document.metadata)
            except RowProblem as problem:
                self.corpus.reject(str(problem))
                continue
            yield document
