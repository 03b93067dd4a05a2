"""What a stored payload must be: a document whose metadata fits the schema of its index."""

import json
from collections.abc import Mapping
from typing import Any

from retrieval.encoding import is_utf8
from retrieval.schema import PROMOTED, RESTORE, type_of

TEXTS = ("id", "text", "title")


def check_payload(payload: bytes, types: Mapping[str, str]) -> str | None:
    """What is wrong with a payload; None where nothing is. ``types`` are those of the columns."""
    try:
        record = json.loads(payload.decode(), parse_constant=_no_number)
        texts = [record[name] for name in TEXTS]
        metadata = dict(record["metadata"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return f"is not a stored document: {error!r}"
    if not all(isinstance(text, str) and is_utf8(text) for text in texts):
        return "is not a stored document: its id, text and title must be texts"
    for name, value in metadata.items():
        if not _fits(value, types.get(name)):
            return (
                f"does not fit the schema: its metadata {name[:80]!r} is {type(value).__name__}, "
                f"expected {types.get(name, 'no such column')}"
            )
    return None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _fits(value: object, kind: str | None) -> bool:
    """Whether a JSON value is one of a column of this type; null is one of any."""
    if value is None or kind is None:
        return value is None
    if kind == "double":
        return type_of(value) in PROMOTED
    try:
        return type_of(RESTORE[kind](value) if kind in RESTORE else value) == kind
    except (ValueError, TypeError):
        return False
