"""Rows of training files: JSON lines or Parquet, each knowing where it stands."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from miniformer.model.tables import row


class Record(dict[str, Any]):
    """The fields of one row; ``where`` is its file and line, for errors."""

    where: str = ""

    def text(self, *names: str) -> str:
        """The first of these fields that is there, which must be a text with something in it."""
        value = self.field(*names)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"{self.where}: {names[0]!r} must be a text, found {value!r:.60}")
        return value

    def field(self, *names: str) -> Any:
        """The first of these fields that is there; ValueError lists the fields that are."""
        for name in names:
            if self.get(name) is not None:
                return self[name]
        wanted = " or ".join(map(repr, names))
        raise ValueError(f"{self.where}: no field {wanted}; it has {', '.join(self) or 'none'}")

    def number(self, *names: str) -> float:
        """A field that must be a finite number."""
        value = self.field(*names)
        if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
            raise ValueError(f"{self.where}: {names[0]!r} must be a number, found {value!r:.60}")
        return float(value)


def _read_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                fields = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: not valid JSON ({error})") from None
            if not isinstance(fields, dict):
                raise ValueError(f"{path}, line {number}: expected an object, found {line[:40]!r}")
            yield number, fields


def _read_parquet(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    from pyarrow import ArrowInvalid, parquet

    try:
        file = parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file: {error}") from None
    number = 0
    for batch in file.iter_batches():
        columns = [_values(column) for column in batch.columns]
        for values in zip(*columns, strict=True):
            number += 1
            yield number, dict(zip(batch.schema.names, values, strict=True))


def _values(column: Any) -> Sequence[Any]:
    """A column's values; vectors of one width as rows of one array, not as millions of objects."""
    import pyarrow as pa

    if pa.types.is_fixed_size_list(column.type) and not column.null_count:
        width = column.type.list_size
        rows: Sequence[Any] = column.flatten().to_numpy().reshape(-1, width)
        return rows
    values: list[Any] = column.to_pylist()
    return values


READERS: Mapping[str, Callable[[Path], Iterator[tuple[int, Mapping[str, Any]]]]] = {
    ".jsonl": _read_lines,
    ".json": _read_lines,
    ".ndjson": _read_lines,
    ".parquet": _read_parquet,
}


def read_records(paths: str | Path | Sequence[str | Path]) -> list[Record]:
    """Every row of one or several files, in order.

    FileNotFoundError when one is not there; ValueError names the file and the line that is no
    JSON object, or the files when they hold no row at all.
    """
    files = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    records = []
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; expected JSON lines or Parquet")
        for number, fields in row(READERS, path.suffix.lower(), f"ending of {path}")(path):
            record = Record(fields)
            record.where = f"{path}, line {number}"
            records.append(record)
    if not records:
        raise ValueError(f"{', '.join(map(str, files))}: empty, there is nothing to train on")
    return records
