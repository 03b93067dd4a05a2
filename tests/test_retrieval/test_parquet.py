"""Parquet: column types, row groups, and files that are small on disk only."""

import struct
import subprocess
import sys
from datetime import date, datetime, timezone
from decimal import Decimal
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval import CorpusError, Document, build_index, read_corpus


@pytest.fixture
def read(tmp_path):
    """Columns, written to a Parquet file and read as a corpus."""

    def documents(columns, *, write=None, **options):
        path = tmp_path / "corpus.parquet"
        pq.write_table(pa.table(columns), path, **(write or {}))
        return list(read_corpus(path, **options))

    return documents


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())],
    ids=str,
)
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_texts_of_every_string_type_are_read(kind, use_dictionary, read):
    texts = ["ünïcödé", "again", None, "again", ""]
    titles = ["T"] * 5
    columns = {
        "id": pa.array([f"id {number}" for number in range(5)]).cast(kind),
        "text": pa.array(texts).cast(kind),
        "title": pa.array(titles).cast(kind),
        "tag": pa.array(texts).cast(kind),
    }
    documents = read(columns, write={"use_dictionary": use_dictionary})
    assert [document.id for document in documents] == [f"id {number}" for number in range(5)]
    assert [document.text for document in documents] == [text or "" for text in texts]
    assert [document.title for document in documents] == titles
    assert [document.metadata["tag"] for document in documents] == texts


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64()], ids=str)
def test_whole_numbers_are_ids(kind, read):
    columns = {"id": pa.array([3, 0, None], kind), "text": ["a", "b", "c"]}
    ids = [document.id for document in read(columns)]
    assert ids[:2] == ["3", "0"]
    assert len(ids[2]) == 16  # made from the content


def test_rows_come_in_order_through_several_row_groups_and_batches(tmp_path):
    path = tmp_path / "corpus.parquet"
    texts = [f"text {number}" for number in range(5_000)]
    pq.write_table(pa.table({"text": texts}), path, row_group_size=1_300)
    corpus = read_corpus(path)
    places = [(document.text, corpus.where) for document in corpus]
    assert [text for text, _ in places] == texts
    assert [where for _, where in places[::4_999]] == [f"{path}, row 1", f"{path}, row 5000"]


BERLIN = ZoneInfo("Europe/Berlin")
METADATA = {
    "bool": (pa.array([True]), True),
    "int": (pa.array([7], pa.int16()), 7),
    "float": (pa.array([0.5], pa.float32()), 0.5),
    "half": (pa.array([0.5], pa.float16()), 0.5),
    "not a number": (pa.array([float("nan")]), None),
    "decimal": (pa.array([Decimal("12.50")]), 12.5),
    "date32": (pa.array([date(2024, 2, 29)], pa.date32()), date(2024, 2, 29)),
    "date64": (pa.array([date(2024, 2, 29)], pa.date64()), date(2024, 2, 29)),
    "seconds": (
        pa.array([datetime(2024, 1, 2, 3, 4, 5)], pa.timestamp("s")),
        datetime(2024, 1, 2, 3, 4, 5),
    ),
    "nanoseconds": (
        pa.array([1_700_000_000_123_456_789], pa.timestamp("ns")),
        datetime(2023, 11, 14, 22, 13, 20, 123_456),
    ),
    "utc": (
        pa.array([datetime(2024, 1, 2, 3, 4, 5)], pa.timestamp("us", "UTC")),
        datetime(2024, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    ),
    "a time zone": (
        pa.array([datetime(2024, 7, 1, 10, tzinfo=BERLIN)], pa.timestamp("ms", "Europe/Berlin")),
        datetime(2024, 7, 1, 10, tzinfo=BERLIN),
    ),
    "an offset": (
        pa.array([0], pa.timestamp("us", "+02:00")),
        datetime(1970, 1, 1, tzinfo=timezone.utc),
    ),
    "null": (pa.array([None], pa.string()), None),
}


@pytest.mark.parametrize("name", METADATA)
def test_a_scalar_column_becomes_metadata_of_a_plain_type(name, read):
    column, expected = METADATA[name]
    (document,) = read({"id": ["a"], "text": ["x"], "column": column})
    found = document.metadata["column"]
    assert found == expected
    assert type(found) is type(expected)
    if isinstance(expected, datetime):
        assert found.utcoffset() is None or expected.utcoffset() is not None
        assert (found.tzinfo is None) == (expected.tzinfo is None)


def test_nested_and_binary_columns_are_left_out_unless_they_are_asked_for(read):
    columns = {
        "text": ["x"],
        "n": [1],
        "binary": [b"raw"],
        "struct": [{"a": 1}],
        "numbers": [[1, 2]],
        "tags": pa.array([["a", "b"]], pa.list_(pa.string())),
        "large tags": pa.array([["c"]], pa.large_list(pa.large_string())),
    }
    (document,) = read(columns)
    assert document.metadata == {"n": 1}
    (document,) = read(columns, metadata_columns=["tags", "large tags"])
    assert document.metadata == {"tags": ["a", "b"], "large tags": ["c"]}


@pytest.mark.parametrize(
    ("name", "kind"),
    [("binary", "binary"), ("struct", "struct<a: int64>"), ("numbers", "list<element: int64>")],
)
def test_a_column_that_is_no_metadata_is_refused_when_it_was_asked_for(name, kind, read, tmp_path):
    columns = {"text": ["x"], "binary": [b"raw"], "struct": [{"a": 1}], "numbers": [[1, 2]]}
    with pytest.raises(CorpusError) as caught:
        read(columns, metadata_columns=[name])
    path = tmp_path / "corpus.parquet"
    assert str(caught.value) == f"{path}: column {name!r} holds {kind}; expected a scalar"


@pytest.mark.parametrize("name", ["title", "id"])
def test_a_column_that_is_null_throughout_is_as_good_as_none(name, read):
    # pandas and pyarrow give such a column the type null.
    (document,) = read({"text": ["x"], name: pa.array([None], pa.null())})
    assert (document.text, document.title, len(document.id)) == ("x", "", 16)


@pytest.mark.parametrize(
    "column",
    [pa.array([2**62], pa.timestamp("us")), pa.array([2**30], pa.date32())],
    ids=["timestamp", "date"],
)
def test_a_date_beyond_the_calendar_is_a_problem_of_its_row(column, read):
    with pytest.raises(CorpusError, match=r"corpus\.parquet, row 1: "):
        read({"text": ["x"], "when": column})


def test_invalid_utf8_is_a_problem_of_its_row_only(tmp_path):
    ends = struct.pack("<4i", 0, 2, 4, 6)
    broken = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(ends), pa.py_buffer(b"ok\xff\xfeok")]
    )
    path = tmp_path / "corpus.parquet"
    pq.write_table(pa.table({"id": ["a", "b", "c"], "text": broken}), path)
    corpus = read_corpus(path, on_error="skip")
    assert [document.id for document in corpus] == ["a", "c"]
    assert corpus.skipped == 1


def test_columns_that_nobody_needs_are_not_read(read, tmp_path, flip):
    columns = {"text": ["x"], "binary": [b"needle in no column that is read"]}
    write = {"compression": "none", "use_dictionary": False, "write_statistics": False}
    assert len(read(columns, write={**write, "write_page_checksum": True})) == 1
    path = tmp_path / "corpus.parquet"
    flip(path, path.read_bytes().index(b"needle"))
    assert [document.text for document in read_corpus(path)] == ["x"]


# VmHWM is the process's own peak; ru_maxrss would begin with that of whoever started it.
PEAK = """
import sys
from retrieval import read_corpus
texts = sum(len(document.text) for document in read_corpus(sys.argv[1]))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(texts, int(peak.split()[1]) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize(("rows", "length"), [(1_024, 4_000_000), (256, 6_000_000)])
def test_a_small_file_that_unpacks_to_gigabytes_is_read_in_little_memory(rows, length, tmp_path):
    path = tmp_path / "bomb.parquet"
    same = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), ["A" * length])
    columns = {"id": list(map(str, range(rows))), "text": same}
    pq.write_table(pa.table(columns), path, compression="zstd")
    assert path.stat().st_size < 4_000
    ran = subprocess.run(
        [sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True
    )
    texts, megabytes = map(int, ran.stdout.split())
    assert texts == rows * length
    assert megabytes < 300


def test_long_texts_are_encoded_before_too_many_of_them_are_held(tmp_path, bag):
    # The other half of reading such a file in little memory: a window of 256 texts of 16 MiB
    # each would be 4 GiB, twice over while it is written.
    text = "x" * 16 * 2**20
    held = []

    def documents():
        for number in range(10):
            held.append(number + 1 - len(bag.asked))
            yield Document(str(number), text)

    build_index(documents(), tmp_path / "index", encoder=bag)
    assert max(held) * 16 <= 128  # MiB
