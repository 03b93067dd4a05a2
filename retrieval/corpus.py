"""Corpus files, or any iterable, to Documents one by one, with what is skipped counted."""

import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Literal

from retrieval.documents import Document
from retrieval.errors import CorpusError, RowProblem
from retrieval.files import CorpusFile, expand
from retrieval.lines import Row, read_csv, read_jsonl, read_tsv
from retrieval.rows import Columns, RowReader, check_document

logger = logging.getLogger(__name__)

OnError = Literal["raise", "skip"]
ON_ERROR = ("raise", "skip")
TOLD = 10  # skipped rows that are named in the log; more would drown everything else
Reader = Callable[[CorpusFile, BinaryIO, Columns], Iterator[Row]]


def _read_parquet(file: CorpusFile, stream: BinaryIO, columns: Columns) -> Iterator[Row]:
    from retrieval.parquet import read_parquet  # pyarrow costs 0.2 s, and only here

    plain = file.seekable(stream)
    try:
        yield from read_parquet(file, plain, columns)
    finally:
        if plain is not stream:
            plain.close()


def _unpacking(read: Reader) -> Reader:
    return lambda file, stream, columns: read(file, file.unpacked(stream), columns)


READERS: Mapping[str, Reader] = {
    ".parquet": _read_parquet,
    ".jsonl": _unpacking(read_jsonl),
    ".ndjson": _unpacking(read_jsonl),
    ".csv": _unpacking(read_csv),
    ".tsv": _unpacking(read_tsv),
}

Outcome = tuple[str, Document | RowProblem | None]


class Corpus:
    """Documents in order, read once. ``where`` is the place of the latest, for messages;
    ``skipped`` counts rows with neither text nor title, and bad rows where they may be skipped.
    """

    def __init__(
        self,
        outcomes: Iterable[Outcome],
        *,
        on_error: OnError = "raise",
        files: Sequence[CorpusFile] = (),
        fraction: Callable[[], float | None] = lambda: None,
    ) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        self.files = files
        self.where = ""
        self.skipped = 0
        self.fraction = fraction
        self._outcomes = outcomes
        self._on_error = on_error
        self._rejected = 0

    def __iter__(self) -> Iterator[Document]:
        for where, outcome in self._outcomes:
            self.where = where
            if isinstance(outcome, Document):
                yield outcome
            elif outcome is None:
                self.skipped += 1
            else:
                self.reject(str(outcome))

    def reject(self, reason: str) -> None:
        """Report the latest row as bad: CorpusError, or counted as skipped."""
        if self._on_error == "raise":
            raise CorpusError(f"{self.where}: {reason}; mend it, or pass --on-error skip")
        self.skipped += 1
        self._rejected += 1
        level = logging.WARNING if self._rejected <= TOLD else logging.DEBUG
        logger.log(level, "skipped %s: %s", self.where, reason)


def read_corpus(
    paths: str | Path | Sequence[str | Path],
    *,
    text_column: str | None = None,
    id_column: str | None = None,
    title_column: str | None = None,
    metadata_columns: Sequence[str] | None = None,
    on_error: OnError = "raise",
) -> Corpus:
    """The documents of files, globs, or ``-`` for JSON lines on standard input.

    The format goes by the extension (``READERS``, each also ``.gz``), the columns by name or as
    given. A row without an id gets one made from its content. CorpusError names file and row.
    """
    given = [paths] if isinstance(paths, (str, Path)) else paths
    columns = Columns(text_column, id_column, title_column, metadata_columns)
    reading = _Reading(expand(given, tuple(READERS)), columns)
    return Corpus(reading, on_error=on_error, files=reading.files, fraction=reading.fraction)


def from_documents(documents: Iterable[Document], *, on_error: OnError = "raise") -> Corpus:
    """Documents that somebody else made, checked one by one."""
    return Corpus(_checked(documents), on_error=on_error)


def _checked(documents: Iterable[Document]) -> Iterator[Outcome]:
    for number, document in enumerate(documents, start=1):
        where = f"document {number}"
        if not isinstance(document, Document):
            yield where, RowProblem(f"expected a Document, got {type(document).__name__}")
            continue
        try:
            check_document(document)
        except RowProblem as problem:
            yield where, problem
            continue
        yield where, document if document.full_text.strip() else None


class _Reading:
    """The rows of several files, one file after the other."""

    def __init__(self, files: Sequence[CorpusFile], columns: Columns) -> None:
        self.files = files
        self._columns = columns
        self._bytes_before = 0
        self._now: tuple[CorpusFile, BinaryIO] | None = None

    def fraction(self) -> float | None:
        """How much of the files has been read; None when a pipe is among them."""
        if any(not file.size for file in self.files):
            return None
        if self._now is None:
            return 1.0 if self._bytes_before else 0.0
        file, stored = self._now
        share = stored.tell() / max(1, file.size) if file.rows_read is None else file.rows_read
        total = sum(file.size for file in self.files)
        return min(1.0, (self._bytes_before + share * file.size) / max(1, total))

    def __iter__(self) -> Iterator[Outcome]:
        rows = RowReader()
        for file in self.files:
            try:
                with file.open() as stored:
                    self._now = (file, stored)
                    yield from self._outcomes(file, stored, rows)
            except (OSError, EOFError, zlib.error) as error:  # gzip's own errors among them
                raise CorpusError(f"{file.shown}: cannot be read: {error}") from error
            self._now = None
            self._bytes_before += file.size

    def _outcomes(self, file: CorpusFile, stored: BinaryIO, rows: RowReader) -> Iterator[Outcome]:
        for where, row in READERS[file.format](file, stored, self._columns):
            if isinstance(row, RowProblem):
                yield where, row
                continue
            try:
                yield where, rows.document(*row)
            except RowProblem as problem:
                yield where, problem
