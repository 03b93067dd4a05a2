"""Corpus files, or any iterable, to Documents one by one, with what is skipped counted."""

import json
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, Protocol, cast, runtime_checkable

from retrieval.documents import Document
from retrieval.errors import CorpusError
from retrieval.files import TEXT_FORMATS, CorpusFile, expand
from retrieval.lines import Row, read_csv, read_jsonl, read_tsv
from retrieval.outcomes import Outcome, from_rows, of_documents
from retrieval.rows import Columns, RowReader
from retrieval.text_files import read_text

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
    **dict.fromkeys(TEXT_FORMATS, _unpacking(read_text)),
}


@runtime_checkable
class ArrowStream(Protocol):
    """A table, or batches of one: of Arrow, pandas, polars, DuckDB, …"""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The rows in Arrow's C format."""


Source = str | Path | Sequence[str | Path] | ArrowStream | Iterable[Document]


class Corpus:
    """Documents in order, read once. ``where`` is the place of the latest, for messages, and
    ``vector`` what stands in its vector column; ``rows`` counts all rows so far and ``skipped``
    those with neither text nor title, and bad ones where they may be skipped. Every bad row goes
    to the file ``rejects``, as a JSON line: file, row, reason.
    """

    def __init__(
        self,
        outcomes: Iterable[Outcome],
        *,
        on_error: OnError = "raise",
        files: Sequence[CorpusFile] = (),
        fraction: Callable[[], float | None] = lambda: None,
        rejects: str | Path | None = None,
    ) -> None:
        if on_error not in ON_ERROR:
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        self.files = files
        self.where = ""
        self.vector: Any = None
        self.rows = 0
        self.skipped = 0
        self.fraction = fraction
        self._outcomes = outcomes
        self._on_error = on_error
        self._rejected = 0
        self._rejects_path = rejects
        self._rejects: IO[str] | None = None

    def __iter__(self) -> Iterator[Document]:
        with self._open_rejects() as self._rejects:
            for where, outcome, vector in self._outcomes:
                self.where, self.vector = where, vector
                self.rows += 1
                if isinstance(outcome, Document):
                    yield outcome
                elif outcome is None:
                    self.skipped += 1
                else:
                    self.reject(str(outcome))

    def _open_rejects(self) -> IO[str] | nullcontext[None]:
        if self._rejects_path is None:
            return nullcontext()
        path = Path(self._rejects_path)
        read = [file.name for file in self.files if not file.is_stdin]
        if path.exists() and any(path.samefile(name) for name in read):
            raise CorpusError(f"{path} is read here; give the rejected rows another file")
        try:
            return open(path, "w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise CorpusError(f"{path} cannot be written: {error.strerror}") from None

    def reject(self, reason: str) -> None:
        """Report the latest row as bad: CorpusError, or counted as skipped."""
        if self._rejects is not None:
            file, _, place = self.where.rpartition(", ")
            record = {"file": file or None, "row": int(place.split()[-1]), "reason": reason}
            self._rejects.write(json.dumps(record, ensure_ascii=False) + "\n")
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
    rejects: str | Path | None = None,
) -> Corpus:
    """The documents of files, globs, folders, or ``-`` for JSON lines on standard input.

    The format goes by the extension (``READERS``, each also ``.gz`` or ``.zst``), the columns by
    name or as given; the names of a folder's folders (``year=2020``) are columns too. A row without
    an id gets one made from its content; a file of text or Markdown is one document, with the
    columns id (its path in the folder that is given), title (its first heading, or its name) and
    text. Of a folder the Parquet files are read, or where there are none, the text files.
    CorpusError names file and row.
    """
    given = [paths] if isinstance(paths, (str, Path)) else paths
    columns = Columns(text_column, id_column, title_column, metadata_columns)
    return open_corpus(given, columns, on_error=on_error, rejects=rejects)


def open_corpus(
    source: Source,
    columns: Columns,
    *,
    on_error: OnError = "raise",
    rejects: str | Path | None = None,
) -> Corpus:
    """:func:`read_corpus` of whatever holds documents; Documents themselves have no columns."""
    if isinstance(source, (str, Path)):
        source = [source]
    if isinstance(source, ArrowStream):
        from retrieval.arrow import read_stream  # pyarrow costs 0.2 s, and only here

        rows = read_stream(source, columns)
        return Corpus(from_rows(rows, RowReader()), on_error=on_error, rejects=rejects)
    if isinstance(source, (list, tuple)) and all(isinstance(item, (str, Path)) for item in source):
        reading = _Reading(expand(source, tuple(READERS)), columns)
        return Corpus(
            reading,
            on_error=on_error,
            files=reading.files,
            fraction=reading.fraction,
            rejects=rejects,
        )
    return from_documents(cast(Iterable[Document], source), on_error=on_error, rejects=rejects)


def from_documents(
    documents: Iterable[Document],
    *,
    on_error: OnError = "raise",
    rejects: str | Path | None = None,
) -> Corpus:
    """Documents that somebody else made, checked one by one."""
    return Corpus(of_documents(documents), on_error=on_error, rejects=rejects)


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
                    yield from from_rows(READERS[file.format](file, stored, self._columns), rows)
            except (OSError, EOFError, zlib.error) as error:  # gzip's own errors among them
                raise CorpusError(f"{file.shown}: cannot be read: {error}") from error
            self._now = None
            self._bytes_before += file.size
