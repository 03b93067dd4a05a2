"""Indexes to FAISS and Parquet files, and back again as they were."""

import json
import os
import sys
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexes import IndexExists, IndexNotFound, IndexWriteFailed, View
from indexes.flat_files import write_flat
from retrieval import CorpusError, Document, Searcher, build_index
from retrieval.exchange import export_index
from retrieval.importing import import_index


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """Four rows a block, ten rows a segment."""
    monkeypatch.setattr("retrieval.exchange.ROWS", 4)
    monkeypatch.setattr("indexes.build.SEGMENT_ROWS", 10)


def document(at, **metadata):
    return Document(f"d{at}", f"words of passage {at} ünï", "A title" if at % 2 else "", metadata)


def typed(at):
    return document(
        at,
        n=at,
        x=at / 3,
        yes=at % 2 == 0,
        day=date(2024, 2, 1 + at % 28),
        when=datetime(2024, 1, 1, 2, 3, 4, at),
        tags=["a", f"t{at}"] if at % 3 else [],
        maybe=None if at % 2 else "there",
    )


@pytest.fixture
def index(tmp_path, bag):
    """An index of three segments in which d3 and d12 have been replaced."""
    given = [typed(at) for at in range(25)]
    given += [Document(f"d{at}", f"later words {at}", "", typed(at).metadata) for at in (3, 12)]
    build_index(given, tmp_path / "index", encoder=bag, on_duplicate="last")
    return tmp_path / "index"


def rows(folder):
    """Every live row in order: payload and vector."""
    view = View(folder, verify="full")
    vectors = view.to_faiss().reconstruct_n(0, len(view))
    return [view.payload(int(at)) for at in view.positions()], vectors


def ids(payloads):
    return [json.loads(payload)["id"] for payload in payloads]


def written(view, path):
    faiss.write_index(view.to_faiss(), str(path))
    return path.read_bytes()


def test_a_faiss_export_is_the_file_that_faiss_itself_writes(index, tmp_path, bag):
    files = export_index(index, "faiss", tmp_path / "out.faiss")
    assert files == [tmp_path / "out.faiss", tmp_path / "out.faiss.jsonl"]
    assert files[0].read_bytes() == written(View(index), tmp_path / "theirs")
    lines = [json.loads(line) for line in files[1].read_bytes().splitlines()]
    assert [line["id"] for line in lines] == ids(rows(index)[0])
    assert len(lines) == 25
    assert lines[1] == {
        **{"id": "d1", "text": "words of passage 1 ünï", "title": "A title"},
        **{"n": 1, "x": 1 / 3, "yes": False, "day": "2024-02-02"},
        **{"when": "2024-01-01T02:03:04.000001", "tags": ["a", "t1"], "maybe": None},
    }
    question = "words of passage 7"
    _, found = faiss.read_index(str(files[0])).search(bag.encode_query([question]), 25)
    hits = Searcher(index, encoder=bag).search(question, 25, mode="dense")
    assert [lines[at]["id"] for at in found[0]] == [hit.id for hit in hits]


@pytest.mark.parametrize(("dim", "n"), [(1, 0), (3, 1), (384, 7)])
def test_a_flat_file_of_any_size_is_what_faiss_writes(dim, n, tmp_path):
    rng = np.random.default_rng(dim)
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    index = faiss.IndexFlatIP(dim)
    index.add(vectors)
    with (tmp_path / "ours").open("wb") as file:
        write_flat(file, dim, n, np.array_split(vectors, 3))
    assert (tmp_path / "ours").read_bytes() == faiss.serialize_index(index).tobytes()


def test_a_parquet_export_has_every_column_in_its_type(index, tmp_path):
    (file,) = export_index(index, "parquet", tmp_path / "out.parquet")
    table = pq.read_table(file)
    payloads, vectors = rows(index)
    assert {field.name: str(field.type) for field in table.schema} == {
        **{"id": "string", "text": "string", "title": "string", "n": "int64", "x": "double"},
        **{"yes": "bool", "day": "date32[day]", "when": "timestamp[us]"},
        **{"tags": "list<element: string>", "maybe": "string"},
        "vector": f"fixed_size_list<element: float>[{vectors.shape[1]}]",
    }
    assert table["id"].to_pylist() == ids(payloads)
    assert np.array_equal(np.stack(table["vector"].to_numpy()), vectors)
    expected = {f"d{at}": typed(at).metadata for at in range(25)}
    for record in table.to_pylist():
        for name, value in expected[record["id"]].items():
            assert record[name] == value
            assert type(record[name]) is type(value)


def test_an_index_comes_back_from_parquet_as_it_was(index, tmp_path, bag):
    export_index(index, "parquet", tmp_path / "out.parquet")
    import_index(tmp_path / "out.parquet", None, tmp_path / "back", encoder=bag)
    assert rows(tmp_path / "back")[0] == rows(index)[0]
    assert rows(tmp_path / "back")[1].tobytes() == rows(index)[1].tobytes()
    here, there = (Searcher(folder, encoder=bag) for folder in (index, tmp_path / "back"))
    assert there.content.schema == here.content.schema
    assert there.content.probes == here.content.probes
    names = [f"d{at}" for at in range(25)]
    assert there.get(names) == here.get(names)
    for question in ("passage 7", "later words", "A title"):
        assert there.search(question, 25, mode="dense") == here.search(question, 25, mode="dense")


def test_an_index_comes_back_from_faiss_as_it_was_but_for_the_types_of_dates(index, tmp_path, bag):
    files = export_index(index, "faiss", tmp_path / "out.faiss")
    import_index(files[1], files[0], tmp_path / "back", encoder=bag)
    assert rows(tmp_path / "back")[0] == rows(index)[0]
    assert rows(tmp_path / "back")[1].tobytes() == rows(index)[1].tobytes()
    types = {field["name"]: field["type"] for field in View(tmp_path / "back").content.schema}
    assert (types["day"], types["when"], types["n"]) == ("string", "string", "int64")


def test_times_with_a_zone_are_the_same_instants_in_utc(tmp_path, bag):
    east = timezone(timedelta(hours=2))
    time = datetime(2024, 1, 1, 3, tzinfo=east)
    build_index([document(0), document(1, when=time)], tmp_path / "index", encoder=bag)
    export_index(tmp_path / "index", "parquet", tmp_path / "out.parquet")
    column = pq.read_table(tmp_path / "out.parquet")["when"]
    assert column.type == pa.timestamp("us", "UTC")
    assert column.to_pylist() == [None, time]
    mixed = [document(0, when=time), document(1, when=datetime(2024, 1, 1))]
    build_index(mixed, tmp_path / "mixed", encoder=bag)
    with pytest.raises(CorpusError, match="'when' holds times with a zone and without"):
        export_index(tmp_path / "mixed", "parquet", tmp_path / "mixed.parquet")
    assert not list(tmp_path.glob("mixed.*"))


def test_a_metadata_column_never_hides_another_column(tmp_path, bag):
    metadata = {"text": "mine", "vector": 1, "metadata.text": "too"}
    build_index([document(0, **metadata)], tmp_path / "index", encoder=bag)
    expected = {"metadata.metadata.text": "mine", "metadata.vector": 1, "metadata.text": "too"}
    files = export_index(tmp_path / "index", "faiss", tmp_path / "out")
    line = json.loads(files[1].read_bytes())
    (file,) = export_index(tmp_path / "index", "parquet", tmp_path / "out.parquet")
    (record,) = pq.read_table(file).to_pylist()
    for found in (line, record):
        assert {name: found[name] for name in expected} == expected
        assert (found["id"], found["text"]) == ("d0", "words of passage 0 ünï")


@pytest.mark.parametrize(("to", "count"), [("faiss", 2), ("parquet", 1)])
def test_what_is_there_is_only_replaced_when_that_is_said(to, count, index, tmp_path):
    out = tmp_path / "out"
    files = export_index(index, to, out)
    before = [file.read_bytes() for file in files]
    for kept in files:
        for file in files:
            file.unlink(missing_ok=True)
        kept.write_bytes(b"mine")
        with pytest.raises(IndexExists, match=rf"^{kept} exists; give another name, or pass"):
            export_index(index, to, out)
        assert [file.read_bytes() for file in files if file.exists()] == [b"mine"]
    assert export_index(index, to, out, overwrite=True) == files
    assert [file.read_bytes() for file in files] == before
    assert sorted(tmp_path.iterdir()) == sorted([index, *files])
    assert len(files) == count


@pytest.mark.parametrize("to", ["faiss", "parquet"])
@pytest.mark.parametrize("stops", ["block", "fsync", "replace"])
def test_an_export_that_fails_leaves_no_half_of_a_file(to, stops, index, tmp_path, monkeypatch):
    out = tmp_path / "out"
    files = export_index(index, to, out)
    before = [file.read_bytes() for file in files]

    def fail(*arguments, **named):
        raise OSError(28, "No space left on device")

    where = {"block": "indexes.view.View.vectors", "fsync": "os.fsync", "replace": "os.replace"}
    monkeypatch.setattr(where[stops], fail)
    with pytest.raises(IndexWriteFailed, match=r"^cannot write .*: No space left on device$"):
        export_index(index, to, out, overwrite=True)
    # An old file of vectors must not stand beside new documents: it goes before they come.
    left = files[1:] if (to, stops) == ("faiss", "replace") else files
    assert sorted(tmp_path.iterdir()) == sorted([index, *left])
    assert [file.read_bytes() for file in left] == before[-len(left) :]


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_every_file_and_then_its_name_is_on_disk(index, tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(
        "os.fsync", lambda file: done.append(Path(f"/proc/self/fd/{file}").resolve()) or fsync(file)
    )
    monkeypatch.setattr("os.replace", lambda old, new: done.append("name") or replace(old, new))
    export_index(index, "faiss", tmp_path / "out")
    assert [getattr(item, "suffix", item) for item in done] == [".tmp", ".tmp", *["name"] * 2, ""]
    assert done[-1] == tmp_path.resolve()


def test_what_cannot_be_exported_is_refused(index, tmp_path):
    with pytest.raises(IndexNotFound):
        export_index(tmp_path / "none", "faiss", tmp_path / "out")
    with pytest.raises(ValueError, match=r"to must be one of \('faiss', 'parquet'\), got 'csv'"):
        export_index(index, "csv", tmp_path / "out")
    with pytest.raises(IndexWriteFailed, match=r"cannot write .*/none/out: No such file or dir"):
        export_index(index, "faiss", tmp_path / "none" / "out")
    assert list(tmp_path.iterdir()) == [index]
