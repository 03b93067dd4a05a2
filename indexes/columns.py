"""``.cols.parquet``: the id, the title and the metadata of a segment's rows, as columns.

They serve filters and are derived: payloads are the truth. Row groups of at most BLOCK_ROWS rows,
not compressed, so that what they decode to is bounded by the file; texts are dictionaries.
"""

import io
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, timezone
from mmap import mmap
from typing import TYPE_CHECKING, Any, NamedTuple

from indexes.errors import IndexCorrupt, WhereError
from indexes.footer import read_footer

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Schema = Sequence[Mapping[str, str]]  # {"name", "type"} of each column, as the manifest holds it
Row = Mapping[str, Any]

BLOCK_ROWS = 8_192
BLOCK_BYTES = 8 * 2**20  # of payloads; whichever of the two comes first closes a block
# List items that a file may hold beside ITEMS_A_ROW for each row and 8 for each of its bytes:
# items that differ take at least a bit each, the same one over and over takes none.
SPARE_ITEMS = 2**22
ITEMS_A_ROW = 512


def instant(text: str) -> datetime:
    """An ISO date or time as columns hold it: without a zone; one that has a zone is moved to UTC.

    ValueError or OverflowError when it is none.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        return moment
    return moment.astimezone(timezone.utc).replace(tzinfo=None)


def _texts(items: list[object]) -> list[object]:
    if not all(isinstance(item, str) for item in items):
        raise TypeError("not every item is a text")
    return items


class ColumnType(NamedTuple):
    """How a payload's JSON becomes a value of the column."""

    json: tuple[type, ...]
    value: Callable[[Any], Any] = lambda value: value


TYPES: Mapping[str, ColumnType] = {
    "bool": ColumnType((bool,)),
    "int64": ColumnType((int,)),
    "double": ColumnType((int, float), float),
    "string": ColumnType((str,)),
    "timestamp[us]": ColumnType((str,), instant),
    "date32[day]": ColumnType((str,), date.fromisoformat),
    "list<item: string>": ColumnType((list,), _texts),
}


def types_of(schema: Schema) -> dict[str, str]:
    """The type of each column, by name: the document's own ``id`` and ``title`` first.

    They win over metadata of the same name, which no filter can see.
    """
    own = {"id": "string", "title": "string"}
    try:
        given = {str(entry["name"]): str(entry["type"]) for entry in schema}
    except (KeyError, TypeError) as error:
        raise IndexCorrupt(f"the schema is not a list of names and types: {error!r}") from None
    return {**own, **given, **own}


def _arrow_schema(types: Mapping[str, str]) -> "pa.Schema":
    """The columns as the file holds them; IndexCorrupt for a type that there is none for."""
    import pyarrow as pa

    made = (pa.bool_(), pa.int64(), pa.float64(), pa.string(), pa.timestamp("us"), pa.date32())
    arrow = dict(zip(TYPES, (*made, pa.list_(pa.string())), strict=True))
    for name, kind in types.items():
        if kind not in arrow:
            raise IndexCorrupt(
                f"column {name!r} has the unknown type {kind!r}; known: {', '.join(TYPES)}"
            )
    return pa.schema([(name, arrow[kind]) for name, kind in types.items()])


def write_columns(payloads: Iterable[bytes], schema: Schema) -> bytes:
    """The file of a segment with these payloads, in row order; what a row lacks is null.

    Payloads are held a block at a time. IndexCorrupt when one does not fit the schema.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = types_of(schema)
    fields = _arrow_schema(types)
    file = io.BytesIO()
    with pq.ParquetWriter(
        file, fields, compression="none", store_schema=False, write_page_checksum=True
    ) as writer:
        for first, rows in _blocks(payloads):
            values = [_values(name, kind, rows, first) for name, kind in types.items()]
            try:
                writer.write_table(pa.table(values, fields))
            except (pa.ArrowException, ValueError, OverflowError) as error:
                last = first + len(rows) - 1
                raise IndexCorrupt(f"rows {first}…{last} do not fit the schema: {error}") from None
    return file.getvalue()


def _blocks(payloads: Iterable[bytes]) -> Iterator[tuple[int, list[Row]]]:
    """The rows in runs, each with the number of its first."""
    first, held = 0, 0
    rows: list[Row] = []
    for payload in payloads:
        rows.append(_row(payload, first + len(rows)))
        held += len(payload)
        if len(rows) >= BLOCK_ROWS or held >= BLOCK_BYTES:
            yield first, rows
            first, held, rows = first + len(rows), 0, []
    if rows:
        yield first, rows


def _row(payload: bytes, number: int) -> Row:
    try:
        record = json.loads(payload)
        own = {"id": record["id"], "title": record.get("title") or None}
        return {**(record.get("metadata") or {}), **own}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IndexCorrupt(f"row {number} is not a document's JSON object: {error!r}") from None


def _values(name: str, kind: str, rows: Sequence[Row], first: int) -> list[Any]:
    allowed, made = TYPES[kind]
    values: list[Any] = []
    for number, row in enumerate(rows, first):
        value = row.get(name)
        try:
            # By its very type: true is an int to Python, and 1.5 would be cut to 1.
            if value is not None and type(value) not in allowed:
                raise TypeError(f"it is {type(value).__name__}")
            values.append(None if value is None else made(value))
        except (ValueError, TypeError, OverflowError) as error:
            raise IndexCorrupt(f"row {number}: {name!r} is not {kind}: {error}") from None
    return values


def read_columns(
    data: bytes | mmap, rows: int, schema: Schema, names: Collection[str] | None = None
) -> "pa.Table":
    """The columns with these names (all, when None) of a file that may be anybody's: [rows].

    Texts come as dictionaries, alone and in lists, so that the memory is bounded by the file's
    size, its rows and its list items. A column that the file lacks is null; whole numbers become
    floats where the schema says so. IndexCorrupt for all that does not fit; that the bytes are
    those that were written is for the manifest's checksum to say. WhereError for a name that the
    schema lacks.
    """
    import pyarrow as pa

    types = types_of(schema)
    for name in names or ():
        if name not in types:
            raise WhereError(f"there is no column {name!r}; the columns are: {', '.join(types)}")
    wanted = {name: types[name] for name in (types if names is None else names)}
    try:
        fields = {field.name: _folded(field.type) for field in _arrow_schema(wanted)}
        table = _read(data, rows, fields)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise IndexCorrupt(f"the columns cannot be read: {reason!r}") from None
    return table


def _folded(kind: "pa.DataType") -> "pa.DataType":
    """The type, with a dictionary in the place of texts."""
    import pyarrow as pa

    if pa.types.is_list(kind):
        return pa.list_(_folded(kind.value_type))
    return pa.dictionary(pa.int32(), kind) if kind == pa.string() else kind


def _read(data: bytes | mmap, rows: int, fields: "Mapping[str, pa.DataType]") -> "pa.Table":
    import pyarrow as pa

    file = _open(data, rows)
    found = file.schema_arrow
    present = [name for name in fields if found.get_all_field_indices(name)]
    for name in present:
        kinds = (found.field(name).type, fields[name])
        if kinds[0] != kinds[1] and kinds != (pa.int64(), pa.float64()):
            raise IndexCorrupt(f"column {name!r} is {str(kinds[0])!r}, expected {str(kinds[1])!r}")
    groups = range(file.num_row_groups if present else 0)
    parts = [file.read_row_group(at, present, use_threads=False) for at in groups]
    table = pa.concat_tables([found.empty_table().select(present), *parts])
    if present and len(table) != rows:
        raise IndexCorrupt(f"the columns have {len(table)} rows, the segment has {rows}")
    columns = {name: pa.nulls(rows, kind) for name, kind in fields.items()}
    for name in present:
        whole = table[name].type == pa.int64() != fields[name]
        columns[name] = table[name].cast(pa.float64(), safe=False) if whole else table[name]
    return pa.table(columns)


def _open(data: bytes | mmap, rows: int) -> "pq.ParquetFile":
    """The file, once its own account of its size has been checked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    account = read_footer(data)
    if account.rows != rows:
        raise IndexCorrupt(f"the columns have {account.rows} rows, the segment has {rows}")
    meta = pq.read_metadata(pa.BufferReader(data))
    leaves = [meta.schema.column(at) for at in range(meta.num_columns)]
    items = account.values - rows * len(leaves)
    if items > SPARE_ITEMS + ITEMS_A_ROW * rows + 8 * len(data):
        raise IndexCorrupt(f"the columns have lists of {items} items, too many for {rows} rows")
    return pq.ParquetFile(
        pa.BufferReader(data),
        metadata=meta,
        read_dictionary=[leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"],
        page_checksum_verification=True,
        pre_buffer=False,
    )
