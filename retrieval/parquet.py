"""Parquet by row group: only the columns that are needed, checksums verified, memory bounded."""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from retrieval.arrow import choose, is_text, plain_rows
from retrieval.errors import CorpusError
from retrieval.files import CorpusFile, looks_like
from retrieval.lines import Row
from retrieval.rows import Columns

DICTIONARY_BYTES = 5_000_000  # of one column in one row group, unpacked
MANY_ROWS = 1_024
FEW_ROWS = 32
NUMBERS = 2**22  # of the lists in one batch
BUFFER = 2**16
MAGIC = b"PAR1"


def read_parquet(file: CorpusFile, stream: BinaryIO, columns: Columns) -> Iterator[Row]:
    """Every row, in order."""
    _check_magic(file, stream)
    try:
        metadata = pq.read_metadata(stream)
        schema = _with_keys(metadata.schema.to_arrow_schema(), file)
        found, types = choose(file.shown, schema, columns)
        fixed = {name: file.keys[name] for name in types if name in file.keys}
        stored = {name: kind for name, kind in types.items() if name not in fixed}
        number = 0
        for group in range(metadata.num_row_groups):
            for batch in _batches(stream, metadata, group, stored):
                file.rows_read = number / max(1, metadata.num_rows)
                for row in plain_rows(batch, found, stored, fixed):
                    number += 1
                    yield f"{file.shown}, row {number}", row
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


def _with_keys(schema: pa.Schema, file: CorpusFile) -> pa.Schema:
    """The columns of a file and those that its folders' names stand for, which go first."""
    for name, value in file.keys.items():
        for place in reversed(schema.get_all_field_indices(name)):
            schema = schema.remove(place)
        schema = schema.append(pa.field(name, pa.int64() if type(value) is int else pa.string()))
    return schema


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
    texts = [name for name, kind in types.items() if is_text(kind)]
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
    rows = min(rows, max(1, NUMBERS // _list_length(metadata, group, types)))
    yield from parquet.iter_batches(rows, row_groups=[group], columns=list(types))


def _list_length(metadata: pq.FileMetaData, group: int, types: dict[str, pa.DataType]) -> int:
    """About how many values the longest of the list columns has in a row; at least 1."""
    lists = {name for name, kind in types.items() if pa.types.is_nested(kind)}
    facts = metadata.row_group(group)
    chunks = [facts.column(leaf) for leaf in range(facts.num_columns)]
    values = [c.num_values for c in chunks if str(c.path_in_schema).split(".")[0] in lists]
    return max(values, default=0) // max(1, int(facts.num_rows)) + 1
