r"""The filter language: ``year >= 2020 and lang in ('en', 'de') and 'ml' in tags``.

    filter     = either {"or" either}             either = test {"and" test}
    test       = "not" test | "(" filter ")" | predicate
    predicate  = column                                    a bool column that is true
               | column "is" ["not"] "null"
               | column sign value | value sign column     signs: = != < <= > >=
               | column ["not"] "in" "(" value {"," value} ")"
               | column ["not"] "like" text                % any run, _ any character, \ the next
               | text ["not"] "in" column                  of a column of lists
    column     = word | "quoted ""name"" of it"            as it is written in the schema
    value      = number | 'it''s' | true | false | ["date"] '2020-01-31'

Keywords may be in capitals. A text beside a date or time is read as one; times with a zone are
moved to UTC. What is compared with null is not known, and neither is its opposite; rows of which
the filter is not known are left out. ``id`` and ``title`` are the document's own.
"""

from collections.abc import Mapping
from math import floor
from typing import TYPE_CHECKING, Any

from indexes import selection
from indexes.columns import Schema, types_of
from indexes.errors import WhereError
from indexes.layout import Mask
from indexes.literals import Column, Literal, operand, read_beside, read_literal
from indexes.selection import Selection, Test
from indexes.tokens import Token, Tokens

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

DEEPEST = 64  # parentheses within each other
LIST = "list<item: string>"
MIRRORED = {"=": "=", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def parse(text: str, schema: Schema) -> Selection:
    """The selection that a filter describes, over columns of these types.

    WhereError points at the first character that does not fit, and says what was expected.
    """
    return _Parser(text, types_of(schema)).selection()


def select(where: "str | pc.Expression | Selection", schema: Schema) -> Selection:
    """A filter in any of its forms, ready for use; WhereError when it is none."""
    if isinstance(where, Selection):
        return where
    if isinstance(where, str):
        return parse(where, schema)
    import pyarrow.compute as pc

    if isinstance(where, pc.Expression):
        return selection.from_expression(where)
    raise WhereError(
        f"a filter is a text or a pyarrow.compute.Expression, not {type(where).__name__}"
    )


def mask(table: "pa.Table", where: "str | pc.Expression | Selection", schema: Schema) -> Mask:
    """Booleans [rows]: the rows of a table of these columns that a filter selects."""
    return select(where, schema).mask(table)


class _Parser:
    """Reads one filter; a method for each rule of the grammar above."""

    def __init__(self, text: str, types: Mapping[str, str]) -> None:
        self._types = types
        self._tokens = Tokens(text)
        self._depth = 0
        self._columns: set[str] = set()

    def selection(self) -> Selection:
        test = self._filter()
        if self._tokens.now.kind != "end":
            self._tokens.expected("and, or, or the end")
        return Selection(frozenset(self._columns), test)

    def _filter(self) -> Test:
        tests = [self._either()]
        while self._tokens.take("or"):
            tests.append(self._either())
        return selection.any_of(tests)

    def _either(self) -> Test:
        tests = [self._test()]
        while self._tokens.take("and"):
            tests.append(self._test())
        return selection.all_of(tests)

    def _test(self) -> Test:
        opposite = False
        while self._tokens.take("not"):
            opposite = not opposite
        test = self._parenthesis() if self._tokens.now.text == "(" else self._predicate()
        return selection.negated(test) if opposite else test

    def _parenthesis(self) -> Test:
        opened = self._tokens.step()
        self._depth += 1
        if self._depth > DEEPEST:
            self._tokens.fail(f"more than {DEEPEST} parentheses within each other", opened.at)
        test = self._filter()
        self._tokens.require(")")
        self._depth -= 1
        return test

    def _predicate(self) -> Test:
        literal = read_literal(self._tokens)
        if literal is not None:
            return self._literal_first(literal)
        column = self._column("a column or a value")
        if self._tokens.take("is"):
            opposite = self._tokens.take("not")
            self._tokens.require("null")
            test = selection.is_null(column.name)
        elif sign := self._tokens.take(*MIRRORED):
            return self._compared(column, sign.text, sign, read_beside(column, self._tokens))
        else:
            opposite = self._tokens.take("not")
            test = self._in_or_like(column, bool(opposite))
        return selection.negated(test) if opposite else test

    def _in_or_like(self, column: Column, opposite: bool) -> Test:
        if word := self._tokens.take("in"):
            self._refuse_list(column, word)
            return self._member(column, self._values(column))
        if word := self._tokens.take("like"):
            return self._like(column, word)
        if opposite:
            self._tokens.expected("in or like")
        if column.type != "bool":
            self._tokens.expected("one of = != < <= > >= in like is")
        return selection.one_of(column.name, [True])

    def _literal_first(self, literal: Literal) -> Test:
        """A text in a column of lists, or a comparison the other way round."""
        if sign := self._tokens.take(*MIRRORED):
            column = self._column("a column")
            return self._compared(column, MIRRORED[sign.text], sign, literal)
        opposite = self._tokens.take("not")
        if not self._tokens.take("in"):
            self._tokens.expected("in" if opposite else "one of = != < <= > >= in")
        column = self._column("a column of lists")
        if column.type != LIST:
            hint = f"; {column.name} is {column.type}: write {column.name} in (…)"
            self._tokens.expected("a column of lists", column.token, hint)
        if literal.kind != "text":
            self._tokens.expected("a text in single quotes", literal.token)
        test = selection.contains(column.name, literal.value)
        return selection.negated(test) if opposite else test

    def _compared(self, column: Column, sign: str, token: Token, literal: Literal) -> Test:
        self._refuse_list(column, token)
        value = operand(literal, column, self._tokens)
        if sign in ("=", "!="):
            test = self._member(column, [value])
            return test if sign == "=" else selection.negated(test)
        if column.type == "bool":
            self._tokens.expected("= or !=", token, f"; {column.name} is true or false")
        if column.type == "int64" and isinstance(value, float):
            # Arrow would round large whole numbers to compare them with a fraction.
            sign, value = "<=" if sign[0] == "<" else ">", floor(value)
        return selection.ordered(column.name, sign, value)

    def _member(self, column: Column, values: list[Any]) -> Test:
        if column.type == "int64":
            values = [value for value in values if isinstance(value, int)]
        return selection.one_of(column.name, values)

    def _like(self, column: Column, word: Token) -> Test:
        self._refuse_list(column, word)
        if column.type != "string":
            self._tokens.expected("= != < <= > >= in or is", word, f"; {column.name} is no text")
        token = self._tokens.now
        pattern: str = self._operand(column)
        if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
            last = token.at + len(token.text) - 2
            self._tokens.fail("expected a character after \\ (two stand for one)", last)
        return selection.like(column.name, pattern)

    def _refuse_list(self, column: Column, token: Token) -> None:
        if column.type == LIST:
            name = column.name
            self._tokens.fail(f"{name} is a column of lists; write 'text' in {name}", token.at)

    def _values(self, column: Column) -> list[Any]:
        self._tokens.require("(")
        values = [self._operand(column)]
        while self._tokens.take(","):
            values.append(self._operand(column))
        if not self._tokens.take(")"):
            self._tokens.expected(", or )")
        return values

    def _column(self, wanted: str) -> Column:
        token = self._tokens.now
        if token.kind not in ("word", "quoted"):
            self._tokens.expected(wanted)
        name = self._tokens.step().content
        if name not in self._types:
            known = ", ".join(self._types)
            self._tokens.fail(f"there is no column {name!r}; the columns are: {known}", token.at)
        self._columns.add(name)
        return Column(name, self._types[name], token)

    def _operand(self, column: Column) -> Any:
        return operand(read_beside(column, self._tokens), column, self._tokens)
