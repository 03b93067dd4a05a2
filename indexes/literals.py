"""The values in a filter, and which of them a column of each type may stand beside."""

from collections.abc import Callable, Mapping
from datetime import date
from math import isfinite
from typing import Any, NamedTuple

from indexes.columns import instant
from indexes.tokens import Token, Tokens


class Literal(NamedTuple):
    """A value as it is written; ``kind`` is number, text, bool or date."""

    kind: str
    value: Any
    token: Token


class Column(NamedTuple):
    """A column that the filter names."""

    name: str
    type: str
    token: Token


def _whole(number: int | float) -> int | float:
    """A number to compare an int64 with."""
    if not -(2**63) <= number < 2**63:
        raise ValueError
    return int(number) if number == int(number) else number


def _real(number: int | float) -> float:
    if not isfinite(number):
        raise ValueError
    return float(number)


class Operand(NamedTuple):
    """What a column of a type may be compared with."""

    kinds: tuple[str, ...]
    words: str
    value: Callable[[Any], Any]


OPERANDS: Mapping[str, Operand] = {
    "bool": Operand(("bool",), "true or false", bool),
    "int64": Operand(("number",), "a number of at most 64 bits", _whole),
    "double": Operand(("number",), "a number that a float can hold", _real),
    "string": Operand(("text",), "a text in single quotes", str),
    "date32[day]": Operand(("text", "date"), "a date like '2020-01-31'", date.fromisoformat),
    "timestamp[us]": Operand(("text", "date"), "a time like '2020-01-31 12:30'", instant),
}


def read_literal(tokens: Tokens) -> Literal | None:
    """The value that comes next, if one does."""
    token, then = tokens.now, tokens.after
    if token.kind == "word" and token.text.lower() == "date" and then.kind == "text":
        tokens.step()
        return Literal("date", tokens.step().content, token)
    if token.text in ("true", "false") and token.kind == "keyword":
        return Literal("bool", tokens.step().text == "true", token)
    if token.kind == "text":
        return Literal("text", tokens.step().content, token)
    if token.kind == "number":
        return Literal("number", _number(tokens.step().text), token)
    return None


def _number(text: str) -> int | float:
    """What the digits say; infinite where a float could not hold so many."""
    return int(text) if text.lstrip("+-").isdigit() and len(text) < 400 else float(text)


def read_beside(column: Column, tokens: Tokens) -> Literal:
    """The value that is written after a column; WhereError when none comes."""
    literal = read_literal(tokens)
    if literal is None:
        hint = ""
        if tokens.now.kind in ("word", "quoted"):
            hint = "; a text stands in single quotes"
        elif tokens.now.text == "null":
            hint = f"; write {column.name} is null"
        tokens.expected(_wanted(column), hint=hint)
    return literal


def operand(literal: Literal, column: Column, tokens: Tokens) -> Any:
    """A value as the column's type has it; WhereError when it has no such values."""
    allowed = OPERANDS.get(column.type)
    if allowed is None:
        problem = f"{column.name} is {column.type}; it can only be asked for with is null"
        tokens.fail(problem, column.token.at)
    try:
        if literal.kind in allowed.kinds:
            return allowed.value(literal.value)
    except (ValueError, OverflowError):
        pass
    tokens.expected(_wanted(column), literal.token)


def _wanted(column: Column) -> str:
    allowed = OPERANDS.get(column.type)
    return f"{allowed.words if allowed else 'a value'} ({column.name} is {column.type})"
