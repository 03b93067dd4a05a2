"""Rows of open tables: a name in a configuration to the part that it stands for."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

Row = TypeVar("Row")


def row(table: Mapping[str, Row], name: str, what: str, *, also: Iterable[str] = ()) -> Row:
    """Look a row up; ValueError lists the known names (and the ones in ``also``)."""
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join([*table, *also])}")
    return table[name]
