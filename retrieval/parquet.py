"""Parquet by row group: only the columns that are needed, checksums verified, memory bounded."""

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.errors import CorpusError, RowProblem
from retrieval.files import CorpusFile, looks_like
from retrieval.lines import Row
from retrieval.rows import Columns, FoundColumns

DICTIONARY_BYTES = 5_000_000  # of one column in one row group, unpacked
MANY_ROWS = 1_024
FEW_ROWS = 32
BUFFER = 2**16
MAGIC = b"PAR1"


def read_parquet(file: CorpusFile, stream: BinaryIO, columns: Columns) -> Iterator[Row]:
    """Every row, in order."""
    _check_magic(file, stream)
    try:
        metadata = pq.read_metadata(stream)
        schema = metadata.schema.to_arrow_schema()
        found, types = _choose(file, schema, columns)
        number = 0
        for group in range(metadata.num_row_groups):
            for batch in _batches(stream, metadata, group, types):
                file.rows_read = number / max(1, metadata.num_rows)
                values = {name: _values(batch.column(name)) for name in types}
                for row in range(batch.num_rows):
                    number += 1
                    yield f"{file.shown}, row {number}", _row(values, row, found)
    except (pa.ArrowException, OSError, KeyError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CorpusError(f"{file.shown}: the Parquet file is damaged: {reason}") from error


def _check_magic(file: CorpusFile, stream: BinaryIO) -> None:
    head = stream.read(4)
    if head != MAGIC:
        found = looks_like(head) if head else "empty"
        what = f"it is {found}" if found else f"it begins with {head!r}"
        raise CorpusError(f"{file.shown}: not a Parquet file: {what}")
    stream.seek(-4, 2)
    if stream.read(4) != MAGIC:
        raise CorpusError(f"{file.shown}: the Parquet file is truncated: its end is missing")
    stream.seek(0)


def _choose(
    file: CorpusFile, schema: pa.Schema, columns: Columns
) -> tuple[FoundColumns, dict[str, pa.DataType]]:
    """The columns to read and their types; CorpusError when one cannot serve."""
    try:
        found = _without_nulls(columns.find(schema.names), schema)
        types = {name: _type(schema, name) for name in (found.text, found.title) if name}
        for name, kind in types.items():
            if not _is_text(kind):
                raise RowProblem(
                    f"column {name!r} holds {kind}; expected strings; name another with "
                    + ("--text-column" if name == found.text else "--title-column")
                )
        if found.id:
            types[found.id] = _type(schema, found.id)
            if not (_is_text(types[found.id]) or pa.types.is_integer(types[found.id])):
                raise RowProblem(
                    f"column {found.id!r} holds {types[found.id]}; expected strings or whole "
                    "numbers; name another with --id-column"
                )
        metadata = _metadata(schema, found)
    except RowProblem as problem:
        raise CorpusError(f"{file.shown}: {problem}") from None
    return replace(found, metadata=list(metadata)), types | metadata


def _without_nulls(found: FoundColumns, schema: pa.Schema) -> FoundColumns:
    """An id or title column that is null throughout, and so has no type, is none."""
    kinds = {name: _type(schema, name) for name in (found.id, found.title) if name}
    named = {name for name, kind in kinds.items() if not pa.types.is_null(kind)}
    return replace(
        found,
        id=found.id if found.id in named else None,
        title=found.title if found.title in named else None,
    )


def _type(schema: pa.Schema, name: str) -> pa.DataType:
    if schema.names.count(name) > 1:
        raise RowProblem(f"there is more than one column {name!r}")
    return schema.field(name).type


def _metadata(schema: pa.Schema, found: FoundColumns) -> dict[str, pa.DataType]:
    """The metadata columns to read; one that was asked for by name must be readable."""
    if not found.strict:
        alone = [name for name in found.metadata if schema.names.count(name) == 1]
        return {n: schema.field(n).type for n in alone if _is_scalar(schema.field(n).type)}
    types = {name: _type(schema, name) for name in found.metadata}
    for name, kind in types.items():
        if not (_is_scalar(kind) or _is_texts(kind)):
            raise RowProblem(f"column {name!r} holds {kind}; expected a scalar")
    return types


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(kind) for check in checks)


def _is_texts(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(is_list) and _is_text(kind.value_type)


def _is_scalar(kind: pa.DataType) -> bool:
    checks = (
        _is_text,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_date,
        pa.types.is_timestamp,
    )
    return any(check(kind) for check in checks)


def _batches(
    stream: BinaryIO, metadata: pq.FileMetaData, group: int, types: dict[str, pa.DataType]
) -> Iterator[pa.RecordBatch]:
    """One row group in batches that stay small, whatever was written into it.

    A few bytes can stand for gigabytes where one long value repeats. Read as a dictionary it is
    decoded once; but then Arrow keeps every value of the row group, which a large group of
    distinct texts must not do: that one is read plainly, a few rows at a time.
    """
    # Arrow checks what describes a chunk as it reads it; asked for it unread, it would abort.
    first = pq.ParquetFile(stream, metadata=metadata, page_checksum_verification=True)
    next(first.iter_batches(1, row_groups=[group], columns=list(types)), None)
    leaves = [metadata.schema.column(i).path for i in range(metadata.num_columns)]
    texts = [name for name, kind in types.items() if _is_text(kind)]
    chunks = {name: metadata.row_group(group).column(leaves.index(name)) for name in texts}
    small = [n for n, c in chunks.items() if c.total_uncompressed_size <= DICTIONARY_BYTES]
    parquet = pq.ParquetFile(
        stream,
        metadata=metadata,
        read_dictionary=small,
        page_checksum_verification=True,
        buffer_size=BUFFER,
    )
    rows = MANY_ROWS if small == texts else FEW_ROWS
    yield from parquet.iter_batches(rows, row_groups=[group], columns=list(types))


def _values(column: pa.Array) -> list[object]:
    """Python values; a text that is not UTF-8 becomes a RowProblem in its place."""
    if pa.types.is_dictionary(column.type):
        used = column.indices.unique().drop_null()
        known = dict(zip(used.to_pylist(), _values(column.dictionary.take(used)), strict=True))
        return [known.get(index) for index in column.indices.to_pylist()]
    if _is_text(column.type):
        raw = column.cast(pa.string() if pa.types.is_string_view(column.type) else column.type)
        return [_decoded(value) for value in raw.cast(pa.large_binary()).to_pylist()]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        values: list[object] = column.to_pylist()
    except (OverflowError, ValueError):
        values = [_python(value) for value in column]
    return values


def _python(value: pa.Scalar) -> object:
    try:
        return value.as_py()
    except (OverflowError, ValueError):
        return RowProblem("a date that Python's calendar does not have")


def _decoded(value: bytes | None) -> object:
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError as error:
        return RowProblem(f"invalid UTF-8 at byte {error.start}")


def _row(
    values: dict[str, list[object]], row: int, found: FoundColumns
) -> tuple[dict[str, object], FoundColumns] | RowProblem:
    fields = {name: column[row] for name, column in values.items()}
    for name, value in fields.items():
        if isinstance(value, RowProblem):
            return RowProblem(f"column {name!r}: {value}")
    return fields, found
