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

LOOK_AHEAD = 1_000  # rows without any text that are read before the column is called missing
BOM = b"\xef\xbb\xbf"


def read_jsonl(file: CorpusFile, stream: BinaryIO, columns: Columns) -> Iterator[Row]:
    """One JSON object a line; blank lines do not count as rows."""
    unseen = columns.asked()
    has_text, rows, names = False, 0, []
    for where, line in _lines(file, stream):
        if isinstance(line, bytes) and not line.strip():
            continue
        try:
            fields = _object(line)
            names = list(fields)
            found = columns.found_in(names)
            if not has_text and found.text not in fields and found.title not in fields:
                columns.find(names)  # the row has neither: say what was expected
            has_text = has_text or found.text in fields
            unseen.difference_update(names)
            rows += 1
            if rows == LOOK_AHEAD and not has_text:
                break
            yield where, (fields, found)
        except RowProblem as problem:
            yield where, problem
    if rows and (unseen or not has_text):
        _require(file, columns, [name for name in names if name not in unseen])


def _require(file: CorpusFile, columns: Columns, names: list[str]) -> FoundColumns:
    """The columns of a file; CorpusError when one that is needed is not there."""
    try:
        return columns.find(names)
    except RowProblem as problem:
        raise CorpusError(f"{file.shown}: {problem}") from None


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
        record = json.loads(line.rstrip(b"\r\n").decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise RowProblem(f"invalid UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        raise RowProblem(f"not a JSON object: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise RowProblem("JSON nested too deeply") from None
    except _NotJson as error:
        raise RowProblem(f"not a JSON object: {error}") from None
    except ValueError:  # Python's own limit
        raise RowProblem("not a JSON object: a number of more than 4,300 digits") from None
    if not isinstance(record, dict):
        raise RowProblem(f"not a JSON object: found {type(record).__name__}")
    return record


class _NotJson(ValueError):
    """What the parser takes and JSON does not."""


def _refuse_constant(name: str) -> Any:
    raise _NotJson(f"{name} is not JSON")


def _read_separated(
    file: CorpusFile, stream: BinaryIO, columns: Columns, delimiter: str
) -> Iterator[Row]:
    """A header line, then a row each; quoted fields may hold line ends. An empty field is null."""
    # The module's own limit is 128 KiB a field, for the whole process; it is only ever raised.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_TEXT))
    too_long: list[RowProblem] = []
    rows = csv.reader(_decoded(file, stream, too_long), delimiter=delimiter, strict=True)
    header = None
    while True:
        where = f"{file.shown}, line {rows.line_num + 1}"
        try:
            values = next(rows, None)
        except csv.Error as error:
            yield where, RowProblem(f"cannot be split into fields: {error}")
            continue
        if too_long:
            yield where, too_long.pop()
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
    return _require(file, columns, header)


def _decoded(file: CorpusFile, stream: BinaryIO, too_long: list[RowProblem]) -> Iterator[str]:
    """Lines as text; invalid UTF-8 becomes surrogates, which the row's own check then reports, and
    a line over the cap becomes an empty one beside its problem.
    """
    for _, line in _lines(file, stream):
        if isinstance(line, RowProblem):
            too_long.append(line)
            yield "\n"
        else:
            yield line.decode(errors="surrogateescape")


read_csv = partial(_read_separated, delimiter=",")
read_tsv = partial(_read_separated, delimiter="\t")
