"""JSON lines and separated values, read as bytes: a bad row is reported by its line."""

import csv
import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, BinaryIO

from retrieval.errors import CorpusError, RowProblem
from retrieval.files import CorpusFile, looks_like
from retrieval.rows import MAX_TEXT, Columns, FoundColumns

Row = tuple[str, "tuple[Mapping[str, object], FoundColumns] | RowProblem"]

BOM = b"\xef\xbb\xbf"


def read_jsonl(file: CorpusFile, stream: BinaryIO, columns: Columns) -> Iterator[Row]:
    """One JSON object a line; blank lines do not count as rows."""
    checked = False
    for where, line in _lines(file, stream):
        if isinstance(line, bytes) and not line.strip():
            continue
        try:
            fields = _object(line)
            names = list(fields)
            if not checked and columns.found_in(names).title not in fields:
                columns.find(names)  # the first row has neither: say what was expected
            checked = True
            yield where, (fields, columns.found_in(names))
        except RowProblem as problem:
            yield where, problem


def _lines(file: CorpusFile, stream: BinaryIO) -> Iterator[tuple[str, bytes | RowProblem]]:
    """Every line with its place; one over the cap comes as a problem and is not kept in memory."""
    number = 0
    while line := stream.readline(MAX_TEXT + 1):
        number += 1
        where = f"{file.shown}, line {number}"
        if number == 1:
            _check_head(file, line)
            line = line.removeprefix(BOM)
        if len(line) <= MAX_TEXT or line.endswith(b"\n"):
            yield where, line
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(MAX_TEXT)
        yield where, RowProblem(f"the line is longer than {MAX_TEXT} bytes; split the document")


def _check_head(file: CorpusFile, head: bytes) -> None:
    found = looks_like(head)
    if found is not None:
        raise CorpusError(
            f"{file.shown}: this is {found}, not text lines in UTF-8; "
            "give it the extension of what it is, or convert it"
        )


def _object(line: bytes | RowProblem) -> dict[str, object]:
    if isinstance(line, RowProblem):
        raise line
    try:
        record = json.loads(line.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise RowProblem(f"invalid UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise RowProblem(f"not a JSON object: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise RowProblem("JSON nested too deeply") from None
    except ValueError as error:  # a number beyond what Python reads
        raise RowProblem(f"not a JSON object: {error}") from None
    if not isinstance(record, dict):
        raise RowProblem(f"not a JSON object: found {type(record).__name__}")
    return record


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _read_separated(
    file: CorpusFile, stream: BinaryIO, columns: Columns, delimiter: str
) -> Iterator[Row]:
    """A header line, then a row each; quoted fields may hold line ends. An empty field is null."""
    # The module's own limit is 128 KiB a field, for the whole process; it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_TEXT))
    rows = csv.reader(_decoded(file, stream), delimiter=delimiter, strict=True)
    header = None
    while True:
        where = f"{file.shown}, line {rows.line_num + 1}"
        try:
            values = next(rows, None)
        except csv.Error as error:
            yield where, RowProblem(f"cannot be split into fields: {error}")
            continue
        if values is None:
            return
        if header is None:
            header = values
            found = _header_columns(file, header, columns)
        elif len(values) == len(header):
            yield where, (dict(zip(header, (v or None for v in values), strict=True)), found)
        elif values:
            yield where, RowProblem(f"{len(values)} fields; the header has {len(header)}")


def _header_columns(file: CorpusFile, header: list[str], columns: Columns) -> FoundColumns:
    repeated = {name for name in header if header.count(name) > 1}
    if repeated:
        raise CorpusError(f"{file.shown}: the header repeats {', '.join(sorted(repeated))}")
    try:
        return columns.find(header)
    except RowProblem as problem:
        raise CorpusError(f"{file.shown}: {problem}") from None


def _decoded(file: CorpusFile, stream: BinaryIO) -> Iterator[str]:
    """Lines as text; invalid UTF-8 becomes surrogates, which the row's own check then reports."""
    for where, line in _lines(file, stream):
        if isinstance(line, RowProblem):
            raise CorpusError(f"{where}: {line}")
        yield line.decode(errors="surrogateescape")


read_csv = partial(_read_separated, delimiter=",")
read_tsv = partial(_read_separated, delimiter="\t")
