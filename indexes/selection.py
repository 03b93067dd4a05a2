"""Which rows a filter selects: tests of columns in three-valued logic, and the mask of it."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from indexes.errors import WhereError
from indexes.layout import Mask

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

# From a table's rows to booleans [rows], null where the answer is not known.
Test = Callable[["pa.Table"], "pa.BooleanArray"]
Member = Callable[["pa.Array"], "pa.BooleanArray"]

UNFOLDED = 64 * 2**20  # bytes of text that stand in one table without a dictionary
ORDER = {"<": "less", "<=": "less_equal", ">": "greater", ">=": "greater_equal"}


@dataclass(frozen=True)
class Selection:
    """A filter ready for any number of tables, from any thread.

    ``columns`` are those that it reads; None where it may read any.
    """

    columns: frozenset[str] | None
    test: Test

    def mask(self, table: "pa.Table") -> Mask:
        """Booleans [rows], True where the filter holds; where it is not known it does not.

        WhereError when the table does not have the columns that the filter takes for granted.
        """
        import pyarrow as pa

        try:
            mask: Mask = self.test(table).fill_null(False).to_numpy(zero_copy_only=False)
        except (pa.ArrowException, KeyError) as error:
            reason = str(error).partition("\n")[0]
            raise WhereError(
                f"the filter does not fit the columns: {reason}; "
                f"the columns are: {', '.join(table.column_names)}"
            ) from None
        return mask


def all_of(tests: Sequence[Test]) -> Test:
    """Every one of the tests, at least one."""
    return _joined("and_kleene", tests)


def any_of(tests: Sequence[Test]) -> Test:
    """One of the tests or more, of at least one."""
    return _joined("or_kleene", tests)


def _joined(function: str, tests: Sequence[Test]) -> Test:
    first, *others = tests

    def run(table: "pa.Table") -> "pa.BooleanArray":
        import pyarrow.compute as pc

        answer = first(table)
        for test in others:
            answer = getattr(pc, function)(answer, test(table))
        return answer

    return run if others else first


def negated(test: Test) -> Test:
    """The opposite; what is not known stays so."""

    def run(table: "pa.Table") -> "pa.BooleanArray":
        import pyarrow.compute as pc

        return pc.invert(test(table))

    return run


def is_null(name: str) -> Test:
    """The column has no value."""
    return _of_column(name, lambda chunk: chunk.is_null())


def ordered(name: str, sign: str, value: Any) -> Test:
    """The column's value stands before or after ``value``; ``sign`` is a key of ORDER."""

    def member(values: "pa.Array") -> "pa.BooleanArray":
        import pyarrow as pa
        import pyarrow.compute as pc

        return getattr(pc, ORDER[sign])(values, pa.scalar(value, values.type))

    return _of_column(name, _once_each(member))


def one_of(name: str, wanted: Sequence[Any]) -> Test:
    """The column's value is among those wanted."""
    # Arrow looks floats up by their bits, which differ between the two zeros.
    zeros = [-value for value in wanted if isinstance(value, float) and value == 0]

    def member(values: "pa.Array") -> "pa.BooleanArray":
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pc.is_in(values, value_set=pa.array([*wanted, *zeros], values.type))
        return pc.if_else(values.is_valid(), found, pa.scalar(None, pa.bool_()))

    return _of_column(name, _once_each(member))


def like(name: str, pattern: str) -> Test:
    r"""The whole text fits: ``%`` is any run of characters, ``_`` any one; ``\`` takes the next
    character as it is.
    """
    wild = {"%": ".*", "_": "."}
    parts = (
        wild.get(part, re.escape(part[-1]))
        for part in re.findall(r"\\.|.", pattern, flags=re.DOTALL)
    )
    regex = rf"(?s)\A{''.join(parts)}\z"

    def member(values: "pa.Array") -> "pa.BooleanArray":
        import pyarrow.compute as pc

        return pc.match_substring_regex(values, regex)

    return _of_column(name, _once_each(member))


def contains(name: str, text: str) -> Test:
    """The column's list of texts holds this one."""

    def member(values: "pa.Array") -> "pa.BooleanArray":
        import pyarrow.compute as pc

        return pc.equal(values, text)

    def lists(chunk: "pa.ListArray") -> "pa.BooleanArray":
        import pyarrow as pa

        hits = _once_each(member)(chunk.values).fill_null(False).to_numpy(zero_copy_only=False)
        seen = np.concatenate([[0], np.cumsum(hits)])[chunk.offsets.to_numpy()]
        absent = chunk.is_null().to_numpy(zero_copy_only=False)
        return pa.array(seen[1:] > seen[:-1], mask=absent)

    return _of_column(name, lists)


def _of_column(name: str, member: Member) -> Test:
    def run(table: "pa.Table") -> "pa.BooleanArray":
        import pyarrow as pa

        parts = [member(chunk) for chunk in table[name].chunks]
        return pa.chunked_array(parts, pa.bool_()).combine_chunks()

    return run


def _once_each(member: Member) -> Member:
    """The same, asked once for each distinct value where a dictionary holds them."""

    def run(chunk: "pa.Array") -> "pa.BooleanArray":
        import pyarrow as pa

        if isinstance(chunk, pa.DictionaryArray):
            return member(chunk.dictionary).take(chunk.indices)
        return member(chunk)

    return run


def from_expression(expression: "pc.Expression") -> Selection:
    """A pyarrow expression as a filter; it sees texts as plain strings."""

    def test(table: "pa.Table") -> "pa.BooleanArray":
        import pyarrow as pa

        parts = [part for piece in _unfolded(table) for part in _answers(expression, piece)]
        return pa.chunked_array(parts, pa.bool_()).combine_chunks()

    return Selection(None, test)


def _answers(expression: "pc.Expression", table: "pa.Table") -> "list[pa.BooleanArray]":
    """What the expression says of each row, in order."""
    import pyarrow as pa
    from pyarrow import acero

    source = acero.Declaration("table_source", acero.TableSourceNodeOptions(table))
    plan = acero.Declaration(
        "project", acero.ProjectNodeOptions([expression], ["answer"]), inputs=[source]
    )
    answer = plan.to_table(use_threads=False)["answer"]
    if answer.type != pa.bool_():
        raise WhereError(
            f"the filter gives {answer.type} for each row, expected true or false: "
            + str(expression).partition("\n")[0]
        )
    chunks: list[pa.BooleanArray] = answer.chunks
    return chunks


def _unfolded(table: "pa.Table") -> "Iterator[pa.Table]":
    """The rows with plain texts in the place of dictionaries, in parts of a bounded size."""
    import pyarrow as pa

    if len(table) > 1 and sum(map(_text_bytes, table.columns)) > UNFOLDED:
        half = len(table) // 2
        yield from _unfolded(table.slice(0, half))
        yield from _unfolded(table.slice(half))
        return
    plain = {
        pa.dictionary(pa.int32(), pa.string()): pa.string(),
        pa.list_(pa.dictionary(pa.int32(), pa.string())): pa.list_(pa.string()),
    }
    fields = [(field.name, plain.get(field.type, field.type)) for field in table.schema]
    yield table.cast(pa.schema(fields))


def _text_bytes(column: "pa.ChunkedArray") -> int:
    """How long the texts are that a column's dictionaries stand for."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(column.type):
        column = pc.list_flatten(column)
    if not pa.types.is_dictionary(column.type):
        return 0
    lengths = (pc.binary_length(chunk.dictionary).take(chunk.indices) for chunk in column.chunks)
    return sum(pc.sum(each).as_py() or 0 for each in lengths)
