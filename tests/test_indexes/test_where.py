"""The filter language against a plain interpreter of it, and its errors, each with its place."""

import json
from datetime import date, datetime
from math import nan

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes import where
from indexes.columns import read_columns, write_columns
from indexes.selection import _unfolded

TEXTS = ["", "a", "en", "de", "A%", "a_b\\", "it's", "é\n.*", "\x00(", "tags"]
NUMBERS = [0, 1, -1, 2019, 2**53 + 1, 2**62 + 1, -(2**63), 2**63 - 1]
FLOATS = [0.0, -0.0, 1.0, 2019.5, -1e300, 5e-324]
DAYS = [date(1, 1, 1), date(2020, 1, 31), date(2020, 2, 1)]
TIMES = [datetime(2020, 1, 31), datetime(2020, 1, 31, 12, 30), datetime(2020, 1, 31, 12, 0, 0, 1)]
COLUMNS = {
    "year": ("int64", NUMBERS, NUMBERS + FLOATS[:4]),
    "a.b": ("double", [*FLOATS, nan], [*FLOATS, 0, 1, 2019, 2**53 + 1]),
    "title": ("string", TEXTS, TEXTS),
    "Or": ("string", TEXTS, TEXTS),
    "open": ("bool", [True, False], [True, False]),
    "date": ("date32[day]", DAYS, DAYS),
    'the "time"': ("timestamp[us]", TIMES, TIMES + DAYS),
    "tags": ("list<item: string>", [[], ["a"], ["en", "a"], [""], TEXTS], TEXTS),
}
ORDERED = ["year", "a.b", "title", "Or", "date", 'the "time"']
SCHEMA = [{"name": name, "type": kind} for name, (kind, _, _) in COLUMNS.items()]
SIGNS = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}
MIRROR = {"<": ">", ">": "<", "<=": ">=", ">=": "<="}
RESERVED = {"and", "or", "not", "in", "like", "is", "null", "true", "false"}


def table_of(rows):
    def plain(value):
        return value.isoformat() if isinstance(value, date) else value

    payloads = [
        json.dumps(
            {
                "id": f"row {at}",
                "title": row.get("title") or "",
                "metadata": {name: plain(value) for name, value in row.items() if name != "title"},
            }
        ).encode()
        for at, row in enumerate(rows)
    ]
    return read_columns(write_columns(payloads, SCHEMA), len(rows), SCHEMA)


# What a filter is, as nested tuples; how it is written; and what it means.


def name_of(column):
    plain = column.isidentifier() and column.lower() not in RESERVED
    return column if plain else '"' + column.replace('"', '""') + '"'


def literal(value):
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, datetime):
        return f"'{value.isoformat(' ')}'"
    if isinstance(value, date):
        return f"DATE '{value}'" if value.day == 1 else f"'{value}'"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


def written(node, tight=0):
    """The text, with parentheses only where it would mean something else without."""
    kind, *rest = node
    if kind in ("or", "and"):
        level = ("or", "and").index(kind)
        text = f" {kind} ".join(written(part, level + 1) for part in rest[0])
        return f"({text})" if tight > level else text
    return f"NOT {written(rest[0], 2)}" if kind == "not" else WRITTEN[kind](*rest)


def compared(sign):
    def text(column, value, mirrored):
        if mirrored:
            return f"{literal(value)}{MIRROR.get(sign, sign)}{name_of(column)}"
        return f"{name_of(column)}{sign}{literal(value)}"

    return text


def no(opposite):
    return "not " if opposite else ""


WRITTEN = {
    "null": lambda column, _, opposite: f"{name_of(column)} is {no(opposite)}null",
    "true": lambda column, *_: name_of(column),
    "in": lambda column, values, opposite: (
        f"{name_of(column)} {no(opposite)}in ({','.join(map(literal, values))})"
    ),
    "like": lambda column, pattern, opposite: (
        f"{name_of(column)} {no(opposite)}LIKE {literal(pattern)}"
    ),
    "has": lambda column, text, opposite: f"{literal(text)} {no(opposite)}In {name_of(column)}",
    **{sign: compared(sign) for sign in SIGNS},
}


def fits(pattern, text):
    """Whether a text is like a pattern, by the ends that its beginnings may have."""
    ends, at = {0}, 0
    while at < len(pattern):
        char = pattern[at]
        if char == "%":
            ends = set(range(min(ends, default=len(text) + 1), len(text) + 1))
        else:
            at += char == "\\"
            same = [e for e in ends if e < len(text) and (char == "_" or text[e] == pattern[at])]
            ends = {end + 1 for end in same}
        at += 1
    return len(text) in ends


def comparable(column, value):
    kind = COLUMNS[column][0]
    if kind == "double":
        return float(value)
    if kind.startswith("timestamp") and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    return value


def meaning(node, row):
    """True, False, or None where it is not known."""
    kind, *rest = node
    if kind == "not":
        inner = meaning(rest[0], row)
        return None if inner is None else not inner
    if kind in ("and", "or"):
        answers, decisive = [meaning(part, row) for part in rest[0]], kind == "or"
        if decisive in answers:
            return decisive
        return None if None in answers else not decisive
    column, value, opposite = rest
    stored = row.get(column)
    if column == "title":
        stored = stored or None
    if kind == "null":
        return (stored is None) != opposite
    return (
        None
        if stored is None
        else known(kind, stored, column, value) != (opposite and kind not in (*SIGNS, "true"))
    )


def known(kind, stored, column, value):
    if kind in SIGNS:
        return SIGNS[kind](stored, comparable(column, value))
    if kind == "in":
        return any(stored == comparable(column, each) for each in value)
    if kind == "like":
        return fits(value, stored)
    return stored if kind == "true" else value in stored


def leaf(kind, columns, value=lambda column: st.none()):
    return columns.flatmap(
        lambda column: st.tuples(kind, st.just(column), value(column), st.booleans())
    )


def one(column):
    return st.sampled_from(COLUMNS[column][2])


PATTERNS = st.lists(
    st.sampled_from(["%", "_", "\\%", "\\_", "\\\\", "a", "e", "b", "é", "\n", "(", "\x00", "'"]),
    max_size=5,
).map("".join)
LEAVES = st.one_of(
    leaf(st.just("null"), st.sampled_from([*COLUMNS])),
    leaf(st.just("true"), st.just("open")),
    leaf(st.sampled_from([*SIGNS]), st.sampled_from(ORDERED), one),
    leaf(st.sampled_from(["=", "!="]), st.just("open"), one),
    leaf(
        st.just("in"),
        st.sampled_from([name for name in COLUMNS if name != "tags"]),
        lambda column: st.lists(one(column), min_size=1, max_size=3),
    ),
    leaf(st.just("like"), st.sampled_from(["title", "Or"]), lambda column: PATTERNS),
    leaf(st.just("has"), st.just("tags"), one),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.sampled_from(["and", "or"]), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=8,
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            name: st.sampled_from([*values, None]) for name, (_, values, _) in COLUMNS.items()
        },
    ),
    max_size=12,
)


@settings(deadline=None, max_examples=120)
@given(ROWS, st.lists(FILTERS, min_size=1, max_size=8))
def test_a_filter_selects_what_it_means(rows, filters):
    table = table_of(rows)
    (plain,) = _unfolded(table)
    for node in filters:
        text = written(node)
        expected = [meaning(node, row) is True for row in rows]
        selection = where.parse(text, SCHEMA)
        found = selection.mask(table.select(sorted(selection.columns)))
        assert found.dtype == np.bool_
        assert found.tolist() == expected, text
        assert where.mask(plain, text, SCHEMA).tolist() == expected, text
