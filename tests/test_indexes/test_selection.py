"""Filters at work: cases that are easily got wrong, long ones, and pyarrow's own expressions."""

import json
from math import nan

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from indexes import where
from indexes.columns import read_columns, write_columns
from indexes.errors import WhereError

SCHEMA = [
    {"name": "year", "type": "int64"},
    {"name": "score", "type": "double"},
    {"name": "lang", "type": "string"},
    {"name": "open", "type": "bool"},
    {"name": "day", "type": "date32[day]"},
    {"name": "at", "type": "timestamp[us]"},
    {"name": "tags", "type": "list<item: string>"},
]
ROWS = [
    {"year": 2020, "lang": "en", "tags": ["ml", "x"], "at": "2020-01-31T12:00:00+02:00"},
    {"year": 2019, "lang": "de", "tags": [], "open": True},
    {},
]
NAMES = [entry["name"] for entry in SCHEMA]
PAYLOADS = [json.dumps({"id": f"r{n}", "metadata": row}).encode() for n, row in enumerate(ROWS)]


@pytest.fixture(scope="module")
def table():
    return read_columns(write_columns(PAYLOADS, SCHEMA), 3, SCHEMA)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("year = 2020", [0]),
        ("tags is not null and not 'ml' in tags", [1]),
        ("not 'ml' in tags", [1]),
        ("at < '2020-01-31 10:00:00.000001'", [0]),
        ("at = '2020-01-31T05:00:00-05:00'", [0]),
        ("id = 'r2' or id = 'r1'", [1, 2]),
        ("title is null", [0, 1, 2]),
        ("(" * 64 + "open" + ")" * 64, [1]),
        (" or ".join(["(open)"] * 100), [1]),
        ("not " * 2001 + "open", []),
        ("not " * 2000 + "open", [1]),
        ("year = 1 or " * 800 + "year = 2019", [1]),
        ("not (year = 1 and (" * 32 + "open" + "))" * 32, [0, 1]),
        (f"year in ({','.join(map(str, range(2020, 3900)))})", [0]),
        ("lang like '" + "_" * 9000 + "'", []),
        ("lang like '" + "%e" * 4900 + "'", []),
    ],
    ids=lambda value: str(value)[:30],
)
def test_long_and_deep_filters_are_answered(table, text, rows):
    assert where.mask(table, text, SCHEMA).nonzero()[0].tolist() == rows


def test_a_selection_knows_its_columns():
    assert where.parse("year = 1 and (lang = 'x' or 'a' in tags)", SCHEMA).columns == {
        *("year", "lang", "tags")
    }
    assert where.select(pc.field("year") == 1, SCHEMA).columns is None
    selection = where.parse("open", SCHEMA)
    assert where.select(selection, SCHEMA) is selection


def test_the_documents_own_columns_win_over_metadata(table):
    schema = [{"name": "id", "type": "int64"}, {"name": "title", "type": "bool"}]
    payload = b'{"id": "r0", "title": "t", "metadata": {"id": 7, "title": true}}'
    own = read_columns(write_columns([payload], schema), 1, schema)
    assert own.to_pylist() == [{"id": "r0", "title": "t"}]
    assert where.mask(own, "id = 'r0' and title = 't'", schema).tolist() == [True]


@pytest.mark.parametrize(
    ("expression", "rows"),
    [
        (pc.field("year") >= 2020, [0]),
        (~(pc.field("year") >= 2020), [1]),
        (pc.starts_with(pc.field("lang"), "e"), [0]),
        (pc.list_value_length(pc.field("tags")) == 0, [1]),
        (pc.field("lang").is_null() | pc.field("open"), [1, 2]),
        (pc.field("lang").isin(["de", "en"]), [0, 1]),
        (pc.scalar(True), [0, 1, 2]),
    ],
)
def test_a_pyarrow_expression_is_a_filter(table, monkeypatch, expression, rows):
    assert where.mask(table, expression, SCHEMA).nonzero()[0].tolist() == rows
    assert where.mask(table.slice(0, 0), expression, SCHEMA).tolist() == []
    monkeypatch.setattr("indexes.selection.UNFOLDED", 1)
    assert where.mask(table, expression, SCHEMA).nonzero()[0].tolist() == rows


def test_an_expression_sees_a_long_repeated_text_in_parts(arrow_pool):
    texts = pa.DictionaryArray.from_arrays(pa.array([0, 1] * 1000, pa.int32()), ["x" * 10**6, "y"])
    expression = pc.starts_with(pc.field("lang"), "x")
    mask = where.mask(pa.table({"lang": texts}), expression, SCHEMA)
    assert mask.tolist() == [True, False] * 1000
    assert arrow_pool.max_memory() < 300 * 10**6  # of a thousand


def test_many_rows_keep_their_order():
    numbers = pa.chunked_array([pa.array(range(at, at + 1000)) for at in range(0, 300_000, 1000)])
    mask = where.mask(
        pa.table({"year": numbers}), pc.bit_wise_and(pc.field("year"), 5) == 4, SCHEMA
    )
    assert mask.tolist() == [number & 5 == 4 for number in range(300_000)]


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (pc.field("yeer") == 1, r"No match for FieldRef.Name\(yeer\).*the columns are: id, title"),
        (pc.field("lang") > 3, "does not fit the columns: Function 'greater' has no kernel"),
        (pc.field("year") + 1, "gives int64 for each row, expected true or false"),
        (pc.if_else(pc.field("lang").isin(["a"]), 1, 2), "expected true or false"),
        (5, "a filter is a text or a pyarrow.compute.Expression, not int"),
    ],
)
def test_an_expression_that_does_not_fit_is_one_line(table, bad, problem):
    with pytest.raises(WhereError, match=problem) as caught:
        where.mask(table, bad, SCHEMA)
    assert str(caught.value).isprintable()


def test_a_table_without_the_column_is_refused(table):
    with pytest.raises(WhereError, match=r"does not fit the columns.*the columns are: lang"):
        where.mask(table.select(["lang"]), "year = 1", SCHEMA)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("year < 2019.5", [0, 1]),
        ("year <= 2018.5", [0]),
        ("2018.5 < year", [1, 2]),
        ("year >= 2019.5", [2]),
        ("year = 2019.5", []),
        ("year != 2019.5", [0, 1, 2]),
        ("year in (2018.5, 2019.0, 2019.5)", [1]),
        ("lang like 'a_b'", [0]),
        ("lang like 'a%'", [0, 1]),
        ("lang like 'A\\%'", [2]),
        ("score = 0", [0, 1]),
        ("score in (5, -0.0)", [0, 1]),
        ("year = 2018 or year = 2019 and lang = 'A%'", [0]),
        ("(year = 2018 or year = 2020) and lang = 'A%'", [2]),
        ("not year = 2018 and year = 2019", [1]),
        ("title = ''", []),
        ("not title = 'a'", []),
        ("title = 'a' or year = 2018", [0]),
    ],
)
def test_what_is_easily_got_wrong(text, rows):
    rows_of = [
        {"year": 2018, "lang": "a\nb", "score": -0.0},
        {"year": 2019, "lang": "a_b\n", "score": 0},
        {"year": 2020, "lang": "A%", "score": nan},
    ]
    payloads = [
        json.dumps({"id": f"r{n}", "metadata": row}).encode() for n, row in enumerate(rows_of)
    ]
    table = read_columns(write_columns(payloads, SCHEMA[:3]), 3, SCHEMA[:3])
    assert where.mask(table, text, SCHEMA).nonzero()[0].tolist() == rows
