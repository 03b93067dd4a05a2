"""Arrow columns as rows of plain Python values: which types serve, and what a value becomes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from retrieval.errors import CorpusError, RowProblem
from retrieval.lines import Row
from retrieval.rows import Columns, FoundColumns

ROWS = 1_024  # turned into Python values at once


def read_stream(source: Any, columns: Columns) -> Iterator[Row]:
    """Every row of whatever has ``__arrow_c_stream__``: a table or a stream of batches of Arrow,
    pandas, polars, DuckDB, …
    """
    try:
        reader = pa.RecordBatchReader.from_stream(source)
        found, types = choose("the table", reader.schema, columns)
        number = 0
        for batch in reader:
            for start in range(0, batch.num_rows, ROWS):
                part = batch.slice(start, ROWS)
                for row in plain_rows(part, found, types):
                    number += 1
                    yield f"the table, row {number}", row
    except (pa.ArrowException, OSError, TypeError) as error:
        raise CorpusError(f"the table cannot be read: {' '.join(str(error).split())}") from error


def plain_rows(
    batch: pa.RecordBatch,
    found: FoundColumns,
    types: Mapping[str, pa.DataType],
    fixed: Mapping[str, object] | None = None,
) -> Iterator[tuple[dict[str, object], FoundColumns] | RowProblem]:
    """The rows of a batch; ``fixed`` are values that every row has beside its own."""
    values = {name: _values(name, batch.column(name), found) for name in types}
    for row in range(batch.num_rows):
        yield _row(values, row, found, fixed or {})


def choose(
    shown: str, schema: pa.Schema, columns: Columns
) -> tuple[FoundColumns, dict[str, pa.DataType]]:
    """The columns to read and their types; CorpusError when one cannot serve."""
    try:
        found = _without_nulls(columns.find(schema.names), schema)
        named = (found.text, found.title, found.id, found.vector)
        types = {
            name: _serving(schema, name, role)
            for name, role in zip(named, ROLES, strict=True)
            if name
        }
        metadata = _metadata(schema, found)
    except RowProblem as problem:
        raise CorpusError(f"{shown}: {problem}") from None
    return replace(found, metadata=list(metadata)), types | metadata


def _serving(schema: pa.Schema, name: str, role: str) -> pa.DataType:
    """The type of a column, which must be one that can serve in its role."""
    kind = _type(schema, name)
    fits, expected = ROLES[role]
    if not fits(kind):
        raise RowProblem(
            f"column {name!r} holds {kind}; expected {expected}; name another with --{role}-column"
        )
    return kind


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
        kinds = {name: schema.field(name).type for name in alone}
        return {n: k for n, k in kinds.items() if _is_scalar(k) or (found.lists and _is_texts(k))}
    types = {name: _type(schema, name) for name in found.metadata}
    for name, kind in types.items():
        if not (_is_scalar(kind) or _is_texts(kind)):
            raise RowProblem(f"column {name!r} holds {kind}; expected a scalar")
    return types


def is_text(kind: pa.DataType) -> bool:
    """Whether the values are strings, however they are stored."""
    if pa.types.is_dictionary(kind):
        return is_text(kind.value_type)
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(check(kind) for check in checks)


def _is_texts(kind: pa.DataType) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(is_list) and is_text(kind.value_type)


def _is_vector(kind: pa.DataType) -> bool:
    checks = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(check(kind) for check in checks) and pa.types.is_floating(kind.value_type)


def _is_scalar(kind: pa.DataType) -> bool:
    checks = (
        is_text,
        pa.types.is_boolean,
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_decimal,
        pa.types.is_date,
        pa.types.is_timestamp,
    )
    return any(check(kind) for check in checks)


# What may serve as what, in the order of :func:`choose`.
ROLES: Mapping[str, tuple[Callable[[pa.DataType], bool], str]] = {
    "text": (is_text, "strings"),
    "title": (is_text, "strings"),
    "id": (lambda kind: is_text(kind) or pa.types.is_integer(kind), "strings or whole numbers"),
    "vector": (_is_vector, "lists of float16, float32 or float64"),
}


def _values(name: str, column: pa.Array, found: FoundColumns) -> list[Any]:
    """A column's values, those of the vectors as arrays."""
    if name == found.vector:
        rows = (scalar.values for scalar in column)
        return [None if row is None else row.to_numpy(zero_copy_only=False) for row in rows]
    return _plain(column)


def _plain(column: pa.Array) -> list[Any]:
    """Python values; a text that is not UTF-8 becomes a RowProblem in its place."""
    if pa.types.is_dictionary(column.type):
        used = column.indices.unique().drop_null()
        entries = column.dictionary
        if pa.types.is_string_view(entries.type):  # which Arrow cannot take from
            entries = entries.cast(pa.large_string())
        known = dict(zip(used.to_pylist(), _plain(entries.take(used)), strict=True))
        return [known.get(index) for index in column.indices.to_pylist()]
    if is_text(column.type):
        raw = column.cast(pa.string() if pa.types.is_string_view(column.type) else column.type)
        return [_decoded(value) for value in raw.cast(pa.large_binary()).to_pylist()]
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    try:
        values: list[Any] = column.to_pylist()
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
    values: Mapping[str, list[Any]], row: int, found: FoundColumns, fixed: Mapping[str, object]
) -> tuple[dict[str, object], FoundColumns] | RowProblem:
    fields = {name: column[row] for name, column in values.items()}
    for name, value in fields.items():
        if isinstance(value, RowProblem):
            return RowProblem(f"column {name!r}: {value}")
    return {**fields, **fixed}, found
