"""Tables, folders of partitioned Parquet, and the rows that are rejected on the way."""

import json
from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from retrieval import CorpusError, Document, Searcher, build_index, read_corpus
from retrieval.arrow import plain_rows
from retrieval.corpus import open_corpus
from retrieval.rows import Columns

TABLE = pa.table(
    {
        "id": [f"d{at}" for at in range(9)],
        "text": pa.array([f"words of passage {at}" for at in range(9)], pa.string_view()),
        "title": pa.array(["T", None, "U"] * 3).dictionary_encode(),
        "n": range(9),
        "price": [Decimal("1.50")] * 9,
        "day": [date(2024, 2, 29)] * 9,
        "nested": [{"a": 1}] * 9,
    }
)
# What polars makes of categories.
VIEWS = pa.DictionaryArray.from_arrays(
    pa.array([1, None, 0] * 3, pa.uint32()), pa.array(["U", "T"], pa.string_view())
)
EXPECTED = [
    Document(
        f"d{at}",
        f"words of passage {at}",
        ["T", "", "U"][at % 3],
        {"n": at, "price": 1.5, "day": date(2024, 2, 29)},
    )
    for at in range(9)
]


class Foreign:
    """A table of another library, known by Arrow's interface only."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


FORMS = {
    "table": lambda table: table,
    "batches": lambda table: table.to_reader(max_chunksize=4),
    "batch": lambda table: table.combine_chunks().to_batches()[0],
    "another library's": Foreign,
    "categories": lambda table: table.set_column(2, "title", VIEWS),
    "cut": lambda table: pa.concat_tables([table.slice(0, 5), table.slice(5)]),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_indexed_as_the_parquet_file_that_holds_it(form, tmp_path, bag, monkeypatch):
    monkeypatch.setattr("retrieval.arrow.ROWS", 2)
    path = tmp_path / "corpus.parquet"
    pq.write_table(TABLE, path)
    assert list(read_corpus(path)) == EXPECTED
    report = build_index(FORMS[form](TABLE), tmp_path / "index", encoder=bag)
    assert (report.rows, report.skipped) == (9, 0)
    with Searcher(tmp_path / "index", encoder=bag, verify="full") as searcher:
        assert searcher.get([f"d{at}" for at in range(9)]) == EXPECTED


def test_an_interrupted_build_of_a_table_goes_on(tmp_path, bag, monkeypatch):
    monkeypatch.setattr("retrieval.building.WINDOW", 2)
    monkeypatch.setattr("retrieval.building.CHECKPOINT_ROWS", 2)

    def stop(progress):
        if progress.rows == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(TABLE, tmp_path / "index", encoder=bag, progress=stop)
    # The next two may have been encoded by then.
    assert build_index(TABLE, tmp_path / "index", encoder=bag).resumed in (4, 6)


def test_the_columns_of_a_table_are_chosen_by_name(tmp_path):
    columns = Columns(text="title", id="n", metadata=["day"])
    (found,) = open_corpus(TABLE.slice(2, 1), columns)
    assert found == Document("2", "U", "U", {"day": date(2024, 2, 29)})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (TABLE.select(["id"]), "the table: there is no text column; expected one of text, content"),
        (pa.table({"text": [1]}), "the table: column 'text' holds int64; expected strings; name "),
        (pa.table({"text": ["x"], "id": [1.5]}), "the table: column 'id' holds double; expected"),
        (pa.chunked_array([["x"]]), "the table cannot be read: "),
        (pa.table({"text": ["x", "y"], "id": ["a", ""], "z": [[1], [2]]}), None),
        (
            pa.table({"text": ["x", "y"], "n": pa.array([1, 2**63], pa.uint64())}),
            r"the table, row 2: metadata 'n' holds int \(9223372036854775808\); expected",
        ),
    ],
)
def test_a_table_that_cannot_serve_is_refused_in_one_line(source, message, tmp_path, bag):
    if message is None:
        assert build_index(source, tmp_path / "index", encoder=bag).rows == 2
        return
    with pytest.raises(CorpusError, match=rf"\A{message}[^\n]*\Z"):
        build_index(source, tmp_path / "index", encoder=bag)


def parts(folder, **columns):
    """A folder of Parquet, as Arrow partitions it."""
    table = pa.table(columns)
    keys = [name for name in columns if name.startswith("key")]
    fields = pa.schema([table.schema.field(name) for name in keys])
    ds.write_dataset(
        table, folder, format="parquet", partitioning=ds.partitioning(fields, flavor="hive")
    )


def test_the_keys_of_a_partitioned_folder_are_metadata(tmp_path, bag):
    texts = [f"words of passage {at}" for at in range(8)]
    years = [2019, 2019, 2020, 2020, None, 2021, 2021, 2021]
    langs = ["en", "de/at", "en", "1", "en", "x y", "x=y", "ö"]
    parts(tmp_path / "data", text=texts, id=texts, n=range(8), key_year=years, key_lang=langs)
    assert (tmp_path / "data" / "key_year=2019" / "key_lang=de%2Fat").is_dir()
    report = build_index(tmp_path / "data", tmp_path / "index", encoder=bag)
    assert report.rows == 8
    with Searcher(tmp_path / "index", encoder=bag) as searcher:
        for at, found in enumerate(searcher.get(texts)):
            assert found.metadata == {"n": at, "key_year": years[at], "key_lang": langs[at]}
            assert list(found.metadata) == ["n", "key_year", "key_lang"]
        types = {field["name"]: field["type"] for field in searcher.content.schema}
    assert types == {"n": "int64", "key_year": "int64", "key_lang": "string"}


def test_a_key_is_a_column_like_any_other(tmp_path):
    parts(tmp_path / "data", text=["a", "b"], note=["x", "y"], key=[1, 2])
    both = read_corpus(tmp_path / "data", metadata_columns=["key"], id_column="key")
    assert [(d.id, d.text, d.metadata) for d in both] == [
        ("1", "a", {"key": 1}),
        ("2", "b", {"key": 2}),
    ]
    with pytest.raises(CorpusError, match=r"there is no column 'no'; found: text, note, key$"):
        list(read_corpus(tmp_path / "data", metadata_columns=["no"]))


def test_the_key_of_the_folder_goes_before_a_column_of_the_file(tmp_path):
    (tmp_path / "data" / "year=7").mkdir(parents=True)
    pq.write_table(pa.table({"text": ["a"], "year": ["y"]}), tmp_path / "data/year=7/a.parquet")
    pq.write_table(pa.table({"text": ["b"], "year": ["z"]}), tmp_path / "data/b.parquet")
    found = {document.text: document.metadata for document in read_corpus(tmp_path / "data")}
    assert found == {"a": {"year": 7}, "b": {"year": None}}


def test_a_folder_is_read_in_order_and_without_what_is_hidden(tmp_path):
    data = tmp_path / "data"
    for name in ("b/2.parquet", "a.parquet", "b/1.parquet", "_x/c.parquet", "b/.d.parquet"):
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({"text": [name]}), data / name)
    (data / "_SUCCESS").touch()
    (data / "notes.txt").touch()
    (data / "c.parquet").mkdir()
    corpus = read_corpus(data)
    assert [document.text for document in corpus] == ["a.parquet", "b/1.parquet", "b/2.parquet"]
    assert corpus.where == f"{data / 'b/2.parquet'}, row 1"
    assert corpus.fraction() == 1.0
    with pytest.raises(
        CorpusError, match=r"is a folder without Parquet or text files; name its files: '"
    ):
        read_corpus(data / "c.parquet")


def test_a_batch_of_long_lists_has_few_rows(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr("retrieval.parquet.NUMBERS", 130)
    monkeypatch.setattr(
        "retrieval.parquet.plain_rows",
        lambda batch, *given: read.append(batch.num_rows) or plain_rows(batch, *given),
    )
    table = pa.table({"text": ["x"] * 11, "id": range(11), "tags": [["a"] * 32] * 11})
    pq.write_table(table, tmp_path / "corpus.parquet")
    corpus = read_corpus(tmp_path / "corpus.parquet", metadata_columns=["tags"])
    assert [document.metadata["tags"] for document in corpus] == [["a"] * 32] * 11
    assert read == [3, 3, 3, 2]


LINES = b'{"id":"1","text":"a"}\n{"id":"2","text":\n\n{"id":"3","text":4}\n{"id":"4","text":"d"}\n'
REJECTED = [
    {"file": "c.jsonl", "row": 2, "reason": "not a JSON object: Expecting value at column 18"},
    {"file": "c.jsonl", "row": 4, "reason": "column 'text' holds int (4); expected text"},
]


@pytest.mark.parametrize("verb", ["index", "embed"])
def test_rejected_rows_are_written_down_with_their_reason(verb, cli):
    Path("c.jsonl").write_bytes(LINES)
    Path("r.jsonl").write_text("from before\n")
    ran = cli(verb, "c.jsonl", "--on-error", "skip", "--rejects", "r.jsonl")
    assert ran.code == 0
    assert [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()] == REJECTED


def test_without_skipping_the_row_that_stops_everything_is_written_down(cli):
    Path("c.jsonl").write_bytes(LINES)
    assert cli("index", "c.jsonl", "--rejects", "r.jsonl").code == 1
    assert [json.loads(line) for line in Path("r.jsonl").read_text().splitlines()] == REJECTED[:1]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("c.jsonl", "c.jsonl is read here; give the rejected rows another file"),
        ("./link.jsonl", "link.jsonl is read here; give the rejected rows another file"),
        ("none/r.jsonl", "none/r.jsonl cannot be written: No such file or directory"),
    ],
)
def test_rejects_that_cannot_be_written_there_are_refused(path, message, cli):
    Path("c.jsonl").write_bytes(LINES)
    Path("link.jsonl").symlink_to("c.jsonl")
    ran = cli("index", "c.jsonl", "--on-error", "skip", "--rejects", path)
    assert ran == (1, "", f"retrieval: {message}\n")
    assert Path("c.jsonl").read_bytes() == LINES


def test_rows_of_tables_and_documents_and_those_the_schema_refuses_are_rejected(tmp_path, bag):
    options = {"encoder": bag, "on_error": "skip", "rejects": tmp_path / "r", "overwrite": True}

    def rejected(source):
        assert build_index(source, tmp_path / "index", **options).skipped == 1
        (line,) = (tmp_path / "r").read_text().splitlines()
        return json.loads(line)

    infinite = pa.table({"text": ["a", "b"], "x": [1.0, np.inf]})
    reason = "metadata 'x' is inf; expected a finite number"
    assert rejected(infinite) == {"file": "the table", "row": 2, "reason": reason}
    good, bad = Document("1", "a", metadata={"x": 1}), Document("2", "b", metadata={"x": "ö"})
    found = rejected([good, bad])
    assert (found["file"], found["row"]) == (None, 2)
    assert found["reason"].startswith("metadata 'x' is string, but it was int64 before; ")
