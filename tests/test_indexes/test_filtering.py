"""Searches among the rows that a filter selects are exact, and as many as there are."""

import json

import numpy as np
import pyarrow.compute as pc
import pytest

from indexes import IndexCorrupt, IndexWriter, View, WhereError

SCHEMA = [{"name": "n", "type": "int64"}, {"name": "tags", "type": "list<item: string>"}]
ROWS = 3_000


def payload(number):
    tags = ["even"] if number % 2 == 0 else []
    record = {"id": f"row {number}", "title": "", "metadata": {"n": number, "tags": tags}}
    return json.dumps(record).encode()


@pytest.fixture(scope="module")
def made(store, fresh_folder):
    """An index of several segments with deleted rows, and its vectors; row ``n`` has ``n``."""
    folder, vectors = fresh_folder() / "index", store.unit(ROWS)
    payloads = [payload(number) for number in range(ROWS)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexes.build.SEGMENT_ROWS", 700)
        with IndexWriter(folder, store.content(schema=SCHEMA)) as writer:
            for start in range(0, ROWS, 500):
                writer.add(vectors[start : start + 500], payloads[start : start + 500])
            writer.commit()
    with IndexWriter(folder) as writer:
        assert writer.delete_where("n >= 100 and n < 200") == 100
        writer.commit()
    return folder, vectors


def brute(vectors, queries, kept, k):
    """Scores and rows of the best among those kept."""
    rows = np.flatnonzero(kept & ~((np.arange(ROWS) >= 100) & (np.arange(ROWS) < 200)))
    exact = np.clip(queries.astype(float) @ vectors[rows].astype(float).T, -1, 1).astype(np.float32)
    order = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(exact, order, axis=1), rows[order]


N = np.arange(ROWS)
FILTERS = {
    "n < 0": N < 0,
    "n in (7, 150, 2999)": np.isin(N, [7, 150, 2999]),
    "n >= 1400 and n < 1430": (N >= 1400) & (N < 1430),
    "'even' in tags and n < 600": (N % 2 == 0) & (N < 600),
    "not n < 1500": N >= 1500,
    "id like 'row 2%'": np.char.startswith(N.astype(str), "2"),
}


@pytest.mark.parametrize("few", [0, 100, 5_000])
@pytest.mark.parametrize("where", FILTERS)
def test_there_are_always_as_many_hits_as_rows_and_the_best_ones(made, monkeypatch, few, where):
    monkeypatch.setattr("indexes.view.FEW", few)
    folder, vectors = made
    view, queries = View(folder), vectors[::601]
    for k in (1, 10, ROWS):
        scores, positions = view.search(queries, k, where=where)
        expected, rows = brute(vectors, queries, FILTERS[where], k)
        np.testing.assert_array_equal(scores, expected)
        found = [[json.loads(view.payload(at))["metadata"]["n"] for at in p] for p in positions]
        assert found == rows.tolist()
    assert len(view.select(where)) == rows.shape[1]


def test_an_expression_does_what_its_text_does(made):
    folder, vectors = made
    view = View(folder)
    texts = view.search(vectors[:3], 5, where="n >= 2000")
    for _ in range(2):
        expressions = view.search(vectors[:3], 5, where=pc.field("n") >= 2000)
        assert all(map(np.array_equal, texts, expressions))
    other = view.search(vectors[:3], 5, where=pc.field("n") < 2000)
    assert not np.array_equal(texts[1], other[1])
    with pytest.raises(WhereError, match="year"):
        view.search(vectors[:3], 5, where="year > 3")


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_damaged_columns_are_made_again_in_memory(made, caplog, damage):
    folder, vectors = made
    expected = View(folder).search(vectors[:9], 7, where="n >= 1000")
    path = min(folder.glob("*.cols.parquet"))
    content = path.read_bytes()
    changed = bytearray(content)
    changed[len(content) // 3] ^= 4
    try:
        path.write_bytes(content[:-9] if damage == "cut" else bytes(changed))
        if damage == "missing":
            path.unlink()
        view = View(folder)
        assert all(map(np.array_equal, expected, view.search(vectors[:9], 7, where="n >= 1000")))
        assert path.name in caplog.text
        with pytest.raises(IndexCorrupt, match=path.name):
            View(folder, verify="full")
    finally:
        path.write_bytes(content)


def test_columns_that_came_later_are_null_before(store, tmp_path):
    rows = store.rows(3, ids="abc")
    store.build(tmp_path / "index", rows)
    with IndexWriter(tmp_path / "index") as writer:
        writer.upsert(store.unit(1, seed=5), [payload(4)])
        writer.commit(schema=SCHEMA)
    view = View(tmp_path / "index")
    assert view.select("n = 4").tolist() == [3]
    assert view.select("n is null").tolist() == [0, 1, 2]
    assert view.search(rows.vectors, 10, where="n is null")[1].shape == (3, 3)
