"""What a filter may not be, and the character where it goes wrong."""

import re

import pytest

from indexes import where
from indexes.errors import RetrievalError, WhereError
from indexes.tokens import LONGEST

SCHEMA = [
    {"name": "year", "type": "int64"},
    {"name": "score", "type": "double"},
    {"name": "lang", "type": "string"},
    {"name": "open", "type": "bool"},
    {"name": "day", "type": "date32[day]"},
    {"name": "at", "type": "timestamp[us]"},
    {"name": "tags", "type": "list<item: string>"},
    {"name": "odd", "type": "decimal128(3, 2)"},
]
NUMBER = "a number of at most 64 bits (year is int64)"
FLOAT = "a number that a float can hold (score is double)"
TEXT = "a text in single quotes (lang is string)"


@pytest.mark.parametrize(
    ("text", "character", "problem"),
    [
        ("", 1, "expected a column or a value, found the end"),
        ("  and", 3, "expected a column or a value, found and"),
        ("yeer = 1", 1, "there is no column 'yeer'; the columns are: id, title, year, score, lang"),
        ('open and "Year" = 1', 10, "there is no column 'Year'; the columns are: id"),
        ("1 = yeer", 5, "there is no column 'yeer'"),
        ("year", 5, "expected one of = != < <= > >= in like is, found the end"),
        ("year == 1", 7, f"expected {NUMBER}, found ="),
        ("year = 'x'", 8, f"expected {NUMBER}, found 'x'"),
        ("'x' < year", 1, f"expected {NUMBER}, found 'x'"),
        ("year = true", 8, f"expected {NUMBER}, found true"),
        ("year = date '2020-01-31'", 8, f"expected {NUMBER}, found date"),
        ("year in (1, 'x')", 13, f"expected {NUMBER}, found 'x'"),
        ("year in (1 2)", 12, "expected , or ), found 2"),
        ("year in ()", 10, f"expected {NUMBER}, found )"),
        ("year in 1", 9, "expected (, found 1"),
        ("year = 9223372036854775808", 8, f"expected {NUMBER}, found 9223372036854775808"),
        ("year > -9223372036854775809", 8, f"expected {NUMBER}, found -9223372036854775809"),
        ("year = 1e19", 8, f"expected {NUMBER}, found 1e19"),
        ("year = 1" + "0" * 5000, 8, f"expected {NUMBER}, found 1000"),
        ("year = nan", 8, f"expected {NUMBER}, found nan"),
        ("score = -1e999", 9, f"expected {FLOAT}, found -1e999"),
        ("score = 1" + "0" * 330, 9, f"expected {FLOAT}, found 1000"),
        ("lang = en", 8, f"expected {TEXT}, found en; a text stands in single quotes"),
        ('lang = "en"', 8, f'expected {TEXT}, found "en"; a text stands in single quotes'),
        ("lang = null", 8, f"expected {TEXT}, found null; write lang is null"),
        ("lang is en", 9, "expected null, found en"),
        ("lang not = 'en'", 10, "expected in or like, found ="),
        ("lang = 'en", 8, "the text that begins here is never closed; expected '"),
        ("lang = 'en''", 8, "the text that begins here is never closed; expected '"),
        ('"lang = 1', 1, 'the name that begins here is never closed; expected "'),
        ("lang like 'a\\'", 13, "expected a character after \\"),
        ("lang like 5", 11, f"expected {TEXT}, found 5"),
        ("year like 'a'", 6, "expected = != < <= > >= in or is, found like; year is no text"),
        ("open < true", 6, "expected = or !=, found <; open is true or false"),
        ("open = 1", 8, "expected true or false (open is bool), found 1"),
        ("day = '2020-02-30'", 7, "expected a date like '2020-01-31' (day is date32[day]), found"),
        ("day < '2020-02-03 10:00'", 7, "expected a date like '2020-01-31'"),
        ("day < 2020", 7, "expected a date like '2020-01-31'"),
        ("at < 'noon'", 6, "expected a time like '2020-01-31 12:30' (at is timestamp[us]), found"),
        ("at < '0001-01-01 00:00+05:00'", 6, "expected a time like '2020-01-31 12:30'"),
        ("lang = date '2020-01-31'", 8, f"expected {TEXT}, found date"),
        ("tags = 'x'", 6, "tags is a column of lists; write 'text' in tags"),
        ("tags in ('x')", 6, "tags is a column of lists; write 'text' in tags"),
        ("tags not like 'x'", 10, "tags is a column of lists; write 'text' in tags"),
        ("'x' >= tags", 5, "tags is a column of lists; write 'text' in tags"),
        ("5 in tags", 1, "expected a text in single quotes, found 5"),
        (
            "'en' in lang",
            9,
            "expected a column of lists, found lang; lang is string: write lang in",
        ),
        ("'en' not lang", 10, "expected in, found lang"),
        ("'en' lang", 6, "expected one of = != < <= > >= in, found lang"),
        ("year = 1 year = 2", 10, "expected and, or, or the end, found year"),
        ("(year = 1", 10, "expected ), found the end"),
        ("year = 1)", 9, "expected and, or, or the end, found )"),
        ("year = 1; x", 9, "this is no part of a filter"),
        ("year\x1b[2J = 1", 5, "this is no part of a filter"),
        ("lang = '\ud800'", 9, "half of a surrogate pair is not text"),
        ("odd = 1", 1, "odd is decimal128(3, 2); it can only be asked for with is null"),
        ("(" * 65, 65, "more than 64 parentheses within each other"),
        ("x" * (LONGEST + 1), LONGEST + 1, "the filter has 10001 characters, at most 10000 are"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_an_error_points_at_the_character(text, character, problem):
    with pytest.raises(WhereError) as caught:
        where.parse(text, SCHEMA)
    message = str(caught.value)
    assert re.match(rf"character {character} of the filter «.*»: {re.escape(problem)}", message)
    assert message.isprintable()
    assert isinstance(caught.value, RetrievalError)
    assert isinstance(caught.value, ValueError)


def test_an_error_shows_what_stands_around_it():
    with pytest.raises(WhereError, match=r"«open or x* = 1 or op…»: there"):
        where.parse("open or " + "x" * 30 + " = 1 " + "or open " * 9, SCHEMA)
    with pytest.raises(WhereError, match=r"«….* open or yeer = 1»: there"):
        where.parse("open or\n" * 20 + "yeer = 1", SCHEMA)
