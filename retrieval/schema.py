"""Metadata types, named as Arrow names them: one type a column for the whole corpus."""

from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime

from retrieval.documents import Metadata, Scalar
from retrieval.errors import RowProblem

INT64 = range(-(2**63), 2**63)

# The first type that fits a value names its column.
TYPES: Mapping[str, Callable[[object], bool]] = {
    "bool": lambda value: isinstance(value, bool),
    "int64": lambda value: isinstance(value, int) and value in INT64,
    "double": lambda value: isinstance(value, float),
    "string": lambda value: isinstance(value, str),
    "timestamp[us]": lambda value: isinstance(value, datetime),
    "date32[day]": lambda value: isinstance(value, date),
    "list<item: string>": lambda value: (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    ),
}
# How a JSON value of a payload becomes the value that was stored.
RESTORE: Mapping[str, Callable[..., Scalar]] = {
    "double": float,
    "timestamp[us]": datetime.fromisoformat,
    "date32[day]": date.fromisoformat,
}
PROMOTED = {"int64", "double"}


def type_of(value: object) -> str | None:
    """The Arrow type of a metadata value; None where there is none for it."""
    return next((name for name, fits in TYPES.items() if fits(value)), None)


class Schema:
    """The types seen so far, by column; the order is that of first appearance. ``fields`` are those
    that an index has already.
    """

    def __init__(self, fields: Sequence[Mapping[str, str]] = ()) -> None:
        self._types = {entry["name"]: entry["type"] for entry in fields}

    def observe(self, metadata: Metadata) -> None:
        """Take in one document's metadata: whole numbers promote to floats, nulls fit everywhere.

        RowProblem when a column changes its type, or has none; then nothing is taken in.
        """
        present = ((name, value) for name, value in metadata.items() if value is not None)
        self._types.update({name: self._joined(name, value) for name, value in present})

    def _joined(self, name: str, value: object) -> str:
        found = type_of(value)
        known = self._types.get(name, found)
        if found is None:
            raise RowProblem(
                f"metadata {name!r} holds {type(value).__name__}; expected text, a number "
                "of at most 64 bits, true or false, a date, or a list of texts"
            )
        if known == found:
            return found
        if known and {known, found} == PROMOTED:
            return "double"
        raise RowProblem(
            f"metadata {name!r} is {found}, but it was {known} before; make the column one "
            "type, or choose columns with --metadata-column"
        )

    def fields(self) -> list[dict[str, str]]:
        """The schema as the manifest keeps it."""
        return [{"name": name, "type": kind} for name, kind in self._types.items()]


def restore(metadata: Mapping[str, object], fields: Sequence[Mapping[str, str]]) -> Metadata:
    """Metadata as it was given, from its JSON form."""
    types = {entry["name"]: entry["type"] for entry in fields}
    return {name: _restored(value, types.get(name, "")) for name, value in metadata.items()}


def _restored(value: object, kind: str) -> Scalar:
    if value is None or kind not in RESTORE:
        return value  # type: ignore[return-value]  # JSON gives these types as they are
    return RESTORE[kind](value)
