"""The columns of a segment: they come back as the payloads have them, or not at all."""

import io
import json
import mmap
from datetime import date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexes import columns
from indexes.columns import read_columns, write_columns
from indexes.errors import IndexCorrupt, WhereError

VALUES = {
    "bool": st.booleans(),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
    "string": st.text(st.characters(exclude_categories=["Cs"])),
    "timestamp[us]": st.datetimes(),
    "date32[day]": st.dates(),
    "list<item: string>": st.lists(st.text(st.characters(exclude_categories=["Cs"]))),
}
NAMES = ["n", "a", "a.b", "a.b.c", "", " ", "é\n", "x\x00", "id", "title", "n.list.element.x"]
SCHEMAS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from([*VALUES])), unique_by=lambda pair: pair[0]
)
MIXED = [{"name": kind.partition("[")[0], "type": kind} for kind in VALUES]


def plain(value):
    return value.isoformat() if isinstance(value, date) else value


def payload(row_id, title="", /, **metadata):
    metadata = {name: plain(value) for name, value in metadata.items()}
    return json.dumps({"id": row_id, "title": title, "metadata": metadata}).encode()


def mixed(n):
    """A file of one column of each type, with nulls in all of them."""
    rows = [
        {
            "bool": at % 2 == 0,
            "int64": at - 10,
            "double": at / 3,
            "string": f"text {at % 3}",
            "timestamp": datetime(2020, 1, 31, 12, at % 60),
            "date32": date(2020, 1, 1 + at % 28),
            "list<item: string>": [f"t{at % 5}", "x"],
        }
        for at in range(n)
    ]
    payloads = [payload(f"r{at}", "t" * (at % 2), **row) for at, row in enumerate(rows)]
    payloads[n // 2] = b'{"id": "bare"}'
    return write_columns(payloads, MIXED)


@pytest.fixture(scope="module")
def file():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK_ROWS", 25)
        return mixed(60)


@settings(deadline=None, max_examples=60)
@given(SCHEMAS, st.integers(1, 4), st.data())
def test_columns_come_back_as_the_payloads_have_them(pairs, block, data):
    schema = [{"name": name, "type": kind} for name, kind in pairs]
    rows = data.draw(
        st.lists(st.fixed_dictionaries({}, optional={n: st.none() | VALUES[k] for n, k in pairs}))
    )
    titles = [data.draw(st.sampled_from(["", "a title"])) for _ in rows]
    expected = [
        {"id": f"r{at}", "title": title or None, **{name: row.get(name) for name, _ in pairs}}
        | {"id": f"r{at}", "title": title or None}
        for at, (row, title) in enumerate(zip(rows, titles, strict=True))
    ]
    stored = (payload(f"r{at}", titles[at], **row) for at, row in enumerate(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "BLOCK_ROWS", block)
        written = write_columns(stored, schema)
    found = read_columns(written, len(rows), schema)
    assert found.to_pylist() == expected
    for name in {"id", "title", *dict(pairs)}:
        one = read_columns(written, len(rows), schema, [name])
        assert one.to_pylist() == [{name: row[name]} for row in expected]


def test_times_with_a_zone_are_moved_to_utc():
    schema = [{"name": "at", "type": "timestamp[us]"}]
    file = write_columns([b'{"id": "r", "metadata": {"at": "2020-01-31T01:00:00+02:00"}}'], schema)
    assert read_columns(file, 1, schema, ["at"])["at"].to_pylist() == [datetime(2020, 1, 30, 23)]


def test_payloads_are_held_a_block_at_a_time(monkeypatch):
    monkeypatch.setattr(columns, "BLOCK_ROWS", 10)
    groups = pq.read_metadata(io.BytesIO(mixed(60))).num_row_groups
    monkeypatch.setattr(columns, "BLOCK_ROWS", 1000)
    monkeypatch.setattr(columns, "BLOCK_BYTES", 1)
    assert (groups, pq.read_metadata(io.BytesIO(mixed(60))).num_row_groups) == (6, 60)


def test_rows_are_counted_through_the_blocks(monkeypatch):
    monkeypatch.setattr(columns, "BLOCK_ROWS", 2)
    with pytest.raises(IndexCorrupt, match="row 4: 'int64' is not int64"):
        write_columns([*(payload("fine") for _ in range(4)), payload("a", int64="x")], MIXED)


def test_columns_come_in_the_order_of_the_names(file):
    table = read_columns(file, 60, MIXED, ["string", "id", "double"])
    assert table.equals(read_columns(file, 60, MIXED).select(["string", "id", "double"]))


def test_a_mapped_file_is_read(file, tmp_path):
    path = tmp_path / "x.cols.parquet"
    path.write_bytes(file)
    with path.open("rb") as opened:
        mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    assert read_columns(mapped, 60, MIXED).equals(read_columns(file, 60, MIXED))


def test_texts_are_dictionaries(file):
    table = read_columns(file, 60, MIXED)
    assert table["string"].type == pa.dictionary(pa.int32(), pa.string())
    assert table["list<item: string>"].type.value_type == pa.dictionary(pa.int32(), pa.string())
    assert [len(c.dictionary) for c in table["string"].chunks if len(c)] == [3, 3, 3]


def test_a_column_that_the_file_lacks_is_null_and_whole_numbers_become_floats(file):
    schema = [{"name": "int64", "type": "double"}, *({"name": k, "type": k} for k in VALUES)]
    schema[2]["name"], schema[7]["name"] = "later", "later list"
    table = read_columns(file, 60, schema[:1] + schema[3:], ["int64", "later list"])
    assert table["int64"].to_pylist() == [None if at == 30 else at - 10.0 for at in range(60)]
    assert table["later list"].to_pylist() == [None] * 60
    large = [{"name": "n", "type": "int64"}], [{"name": "n", "type": "double"}]
    written = write_columns([payload("r", n=2**62 + 1)], large[0])
    assert read_columns(written, 1, large[1], ["n"])["n"].to_pylist() == [2.0**62]


def test_no_rows_and_no_columns(file):
    assert len(read_columns(write_columns([], MIXED), 0, MIXED)) == 0
    assert read_columns(file, 60, MIXED, []).num_columns == 0
    later = [*MIXED, {"name": "later", "type": "bool"}]
    with pytest.raises(IndexCorrupt, match="the columns have 60 rows, the segment has 61"):
        read_columns(file, 61, later, ["later"])
    with pytest.raises(WhereError, match="there is no column 'x'; the columns are: id, title, bo"):
        read_columns(file, 60, MIXED, ["x"])


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (b"[]", "row 1 is not a document's JSON object"),
        (b"{", "row 1 is not a document's JSON object"),
        (b'{"id": "a", "metadata": 5}', "row 1 is not a document's JSON object"),
        (b'{"text": "a"}', "row 1 is not a document's JSON object"),
        (b"[" * 10**5, "row 1 is not a document's JSON object"),
        (b'{"id": 5}', "row 1: 'id' is not string: it is int"),
        (payload("a", int64=True), "row 1: 'int64' is not int64: it is bool"),
        (payload("a", int64=1.5), "row 1: 'int64' is not int64: it is float"),
        (payload("a", int64=2**63), "rows 0…1 do not fit the schema"),
        (payload("a", double=10**400), "row 1: 'double' is not double"),
        (payload("a", string="\ud800"), "rows 0…1 do not fit the schema"),
        (payload("a", date32="soon"), "row 1: 'date32' is not date32"),
        (payload("a", **{"list<item: string>": ["a", None]}), "not every item is a text"),
        (payload("a", **{"list<item: string>": "ab"}), "it is str"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_payload_that_does_not_fit_is_refused(stored, problem):
    with pytest.raises(IndexCorrupt, match=problem.replace("[", r"\[")):
        write_columns([payload("fine"), stored], MIXED)


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **{"compression": "none", "store_schema": False, **options})
    return sink.getvalue()


BAD_TEXT = pa.StringArray.from_buffers(
    1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")
)
MANY = pa.array([["a"] * 5_000_000], pa.list_(pa.string()))
GROWING = pa.array([["a" * n for n in range(3000)]], pa.list_(pa.string()))


@pytest.mark.parametrize(
    ("table", "options", "problem"),
    [
        ({"string": ["a", "b"]}, {}, "the columns have 2 rows, the segment has 1"),
        ({"string": ["a"]}, {"compression": "zstd"}, "a column is compressed"),
        ({"string": [5]}, {}, "column 'string' is 'int64', expected 'dictionary<values=string"),
        ({"int64": ["5"]}, {}, "column 'int64' is 'dictionary<.*', expected 'int64'"),
        ({"int64": [5.0]}, {}, "column 'int64' is 'double', expected 'int64'"),
        ({"date32": [{"a": {"b": 1}}]}, {}, "column 'date32' is 'struct<.*', expected 'date32"),
        ({"string": [b"ab"]}, {}, "column 'string' is .*binary"),
        ({"string": BAD_TEXT}, {}, "the columns cannot be read: .*Invalid UTF8"),
        ({"list<item: string>": MANY}, {}, "lists of 4999999 items, too many for 1 rows"),
        (
            {"list<item: string>": GROWING},
            {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
            "a page is not as it is written here",
        ),
        ({"string": ["a"]}, {"data_page_version": "2.0"}, "a page is not as it is written here"),
    ],
    ids=range(11),
)
def test_a_file_that_does_not_fit_is_refused(table, options, problem):
    with pytest.raises(IndexCorrupt, match=problem) as caught:
        read_columns(parquet(pa.table(table), **options), 1, MIXED)
    assert str(caught.value).isprintable()


def test_a_column_that_comes_twice_is_refused():
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["string", "string"])
    with pytest.raises(IndexCorrupt):
        read_columns(parquet(twice), 1, MIXED)


@pytest.mark.parametrize("schema", [[{"name": "x", "type": "blob"}], [{"name": "x"}], [5]])
def test_a_schema_that_makes_no_sense_is_refused(file, schema):
    with pytest.raises(IndexCorrupt, match=r"unknown type 'blob'; known: bool|is not a list of"):
        read_columns(file, 60, schema)
    with pytest.raises(IndexCorrupt):
        write_columns([], schema)
