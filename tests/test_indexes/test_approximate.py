"""Indexes that do not score every row: what they promise, find, lose and get back."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from indexes import (
    Content,
    IndexCorrupt,
    IndexWriter,
    KindError,
    View,
    certifying,
    compaction,
    kinds,
)

DIM, ROWS = 16, 1_500
KINDS = ("hnsw", "small", "IVF16,SQ8", "HNSW16,SQ8")
SCHEMA = [{"name": "n", "type": "int64"}, {"name": "share", "type": "int64"}]


def clustered(n, seed=0):
    """Unit rows that lie in clumps, as those of texts do."""
    chance = np.random.default_rng(seed)
    centers = np.random.default_rng(99).standard_normal((40, DIM))
    rows = centers[chance.integers(40, size=n)] + 0.4 * chance.standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def payloads(first, n):
    record = {"title": "", "text": ""}
    return [
        json.dumps({"id": str(i), **record, "metadata": {"n": i, "share": i % 1000}}).encode()
        for i in range(first, first + n)
    ]


@pytest.fixture(autouse=True)
def _small_segments_count(monkeypatch):
    monkeypatch.setattr(certifying, "EXACT_BELOW", 500)


def build(folder, kind, *, rows=ROWS, seed=0, **fields):
    content = Content(dim=DIM, model={"fingerprint": "x"}, kind=kind, schema=SCHEMA, **fields)
    with IndexWriter(folder, content) as writer:
        writer.add(clustered(rows, seed), payloads(0, rows))
        writer.commit()
    return View(folder)


def recall(view, queries, **how):
    truth, found = (view.search(queries, 10, exact=e, **how)[1] for e in (True, False))
    return np.mean([len(set(a) & set(b)) / len(a) for a, b in zip(truth, found, strict=True)])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_is_found_is_scored_as_exact_search_scores_it(tmp_path, kind, dtype):
    view = build(tmp_path / "index", kind, dtype=dtype)
    queries = clustered(60, seed=5)
    exact = {}
    for line, (scores, positions) in enumerate(
        zip(*view.search(queries, 200, exact=True), strict=True)
    ):
        exact[line] = dict(zip(positions.tolist(), scores.tolist(), strict=True))
    scores, positions = view.search(queries, 10)
    for line, (row, places) in enumerate(zip(scores.tolist(), positions.tolist(), strict=True)):
        assert sorted(set(places)) == sorted(places)
        assert row == sorted(row, reverse=True)
        assert all(exact[line].get(p, score) == score for p, score in zip(places, row, strict=True))
    promised = view.content.ann
    assert promised["kind"] == kind
    assert promised["recall"] >= promised["target"] == 0.95
    assert promised["reached"]
    assert recall(view, queries) > 0.9


def test_exact_search_does_not_ask_the_file(tmp_path):
    view = build(tmp_path / "index", "hnsw")
    queries = clustered(20, seed=6)
    flat = build(tmp_path / "flat", "flat")
    for found, wanted in zip(
        view.search(queries, 25, exact=True), flat.search(queries, 25), strict=True
    ):
        assert (found == wanted).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "where", ["share < 1", "n < 15", "n >= 0", "n >= 150", "n >= 750", "n < 1"]
)
def test_filters_leave_as_many_hits_as_there_are(tmp_path, kind, where):
    view = build(tmp_path / "index", kind)
    queries = clustered(10, seed=7)
    matching = view.select(where)
    for k in (1, 10, 200):
        _, positions = view.search(queries, k, where=where)
        assert positions.shape == (10, min(k, len(matching)))
        assert np.isin(positions, matching).all()
        assert all(len(set(line)) == len(line) for line in positions.tolist())


def test_a_filter_that_leaves_many_goes_through_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr("indexes.view.FEW", 10)
    monkeypatch.setattr("indexes.approximate.KNOB_COST", 0)
    for kind in KINDS:
        view = build(tmp_path / kind, kind)
        assert recall(view, clustered(40, seed=8), where="n < 750") > 0.85


@pytest.mark.parametrize("kind", KINDS)
def test_deleted_rows_are_not_found_and_new_ones_are(tmp_path, kind):
    folder = tmp_path / "index"
    build(folder, kind)
    new = clustered(700, seed=1)
    with IndexWriter(folder) as writer:
        writer.delete(str(i) for i in range(0, 300))
        writer.upsert(new, payloads(ROWS, 700))
        writer.commit()
    view = View(folder)
    assert len(view.content.segments) == 2
    assert all("ann" in segment.files for segment in view.content.segments)
    _, positions = view.search(clustered(ROWS)[:300], 5)
    assert positions.min() >= 300  # none of the deleted rows, which were these very vectors
    found = view.search(new, 1)[1][:, 0]
    assert np.mean(found == np.arange(ROWS, ROWS + 700)) > 0.9
    assert recall(view, clustered(60, seed=5)) > 0.9


def test_small_segments_are_searched_exactly_beside_large_ones(tmp_path):
    folder = tmp_path / "index"
    promised = build(folder, "hnsw").content.ann
    new = clustered(40, seed=1)
    with IndexWriter(folder) as writer:
        writer.upsert(new, payloads(ROWS, 40))
        writer.commit()
    view = View(folder)
    assert view.content.ann == promised  # nothing was built, nothing was measured
    assert ["ann" in segment.files for segment in view.content.segments] == [True, False]
    assert view.search(new, 1)[1][:, 0].tolist() == list(range(ROWS, ROWS + 40))
    scores = view.search(new, ROWS)[0]  # more than a graph returns
    assert (scores == view.search(new, ROWS, exact=True)[0]).all()


def test_a_compaction_builds_and_promises_again(tmp_path):
    folder = tmp_path / "index"
    build(folder, "hnsw")
    with IndexWriter(folder) as writer:
        writer.upsert(clustered(700, seed=1), payloads(ROWS, 700))
        writer.delete(["3", "4"])
        writer.commit()
        assert writer.compact()
    view = View(folder, verify="full")
    assert len(view.content.segments) == 1
    assert view.content.ann["queries"] == (ROWS + 700 - 2) // 20
    assert recall(view, clustered(60, seed=5)) > 0.9
    assert {path.suffix for path in folder.iterdir()} >= {".ann"}


def test_the_same_rows_give_the_same_file(tmp_path):
    for kind in KINDS:
        files = []
        for name in ("a", "b"):
            build(tmp_path / (kind + name), kind)
            files += [path.read_bytes() for path in (tmp_path / (kind + name)).glob("*.ann")]
        assert files[0] == files[1]


def test_a_target_out_of_reach_is_told(tmp_path):
    promised = build(tmp_path / "index", "IVF4,PQ1x4", recall=1.0).content.ann
    assert promised["target"] == 1.0
    assert not promised["reached"]
    assert promised["recall"] < 1


def test_auto_is_flat_until_it_is_large(tmp_path, monkeypatch):
    assert build(tmp_path / "small", "auto").content.ann is None
    monkeypatch.setattr(kinds, "FLAT_BELOW", 1_000)
    view = build(tmp_path / "large", "auto")
    assert view.content.ann["kind"] == "hnsw"
    with IndexWriter(tmp_path / "large") as writer:
        writer.delete(str(i) for i in range(800))
        writer.commit()
    assert View(tmp_path / "large").content.ann["kind"] == "hnsw"  # it stays what it has become


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped", "another"])
def test_without_its_file_an_index_is_searched_exactly(tmp_path, caplog, store, damage):
    folder = tmp_path / "index"
    build(folder, "hnsw")
    [path] = folder.glob("*.ann")
    raw = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "another":  # its checksum agrees: a stranger made it
        build(tmp_path / "other", "small")
        store.reseal(folder, "ann", next((tmp_path / "other").glob("*.ann")).read_bytes())
    else:
        path.write_bytes(raw[:-1] if damage == "cut" else raw[:-1] + bytes([raw[-1] ^ 1]))
    view = View(folder)
    queries = clustered(20, seed=6)
    with caplog.at_level(logging.WARNING):
        found = view.search(queries, 10)
    assert (found[1] == view.search(queries, 10, exact=True)[1]).all()
    assert caplog.text.count("going on without it") == 1


def test_a_promise_that_cannot_be_is_damage(tmp_path, store):
    folder = tmp_path / "index"
    build(folder, "hnsw")
    record = store.record(folder)
    good = record["published"]["ann"]
    bad = [
        *({**good, "kind": kind} for kind in ("flat", "", 7, None)),
        *({**good, "knob": knob} for knob in (-1, 1.5, "x")),
        {"kind": "hnsw"},
        {**good, "recall": 2},
        [],
        7,
    ]
    for ann in bad:
        record["published"]["ann"] = ann
        store.seal(folder, record)
        with pytest.raises(IndexCorrupt, match="MANIFEST"):
            View(folder)


def test_a_kind_that_the_rows_do_not_allow_is_left_out(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        view = build(tmp_path / "index", "IVF2000,Flat")
    assert "kind IVF2000,Flat is left out: Number of training points" in caplog.text
    assert view.content.ann is None
    assert view.search(clustered(ROWS)[:1], 1)[1].tolist() == [[0]]


def test_a_kind_that_is_not_known_is_named():
    for name, target in (("hsnw", 0.95), ("IVF4,PQ3", 0.95), ("hnsw", 0), ("flat", 1.01)):
        with pytest.raises(KindError):
            kinds.check(name, DIM, target)
    kinds.check("auto", DIM, 1.0)


def commits(folder, count, size, *, delete=()):
    """Commits of ``size`` new rows, each of which takes some old ones away."""
    for number in range(count):
        with IndexWriter(folder) as writer:
            writer.upsert(
                clustered(size, seed=100 + number), payloads(10_000 + number * size, size)
            )
            writer.delete(str(row) for row in delete if row % count == number)
            writer.commit()


@pytest.fixture
def _short_tails(monkeypatch):
    monkeypatch.setattr(compaction, "TAIL", 100)


@pytest.mark.usefixtures("_short_tails")
def test_a_graph_grows_by_what_is_committed_after_it(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    build(folder, "hnsw")
    built = []
    monkeypatch.setattr(certifying, "build", lambda *a, **k: built.append(1))
    commits(folder, 9, 60, delete=range(0, 300))
    assert not built
    view = View(folder, verify="full")
    assert len(view.content.segments) <= 1 + compaction.MOST_BEHIND
    behind = sum(segment.rows for segment in view.content.segments[1:])
    assert behind <= compaction.TAIL
    assert len(view) == ROWS + 9 * 60 - 300
    assert view.content.ann["reached"]
    queries = clustered(100, seed=5)
    assert recall(view, queries) > 0.9
    everything = view.search(queries, len(view))
    assert (everything[1] == view.search(queries, len(view), exact=True)[1]).all()


@pytest.mark.usefixtures("_short_tails")
def test_a_graph_that_grew_is_the_same_whenever_the_rows_are(tmp_path):
    files = []
    for name in ("a", "b"):
        build(tmp_path / name, "HNSW8")
        commits(tmp_path / name, 4, 60, delete=range(90))
        files.append(next((tmp_path / name).glob("*.ann")).read_bytes())
    assert files[0] == files[1]


@pytest.mark.usefixtures("_short_tails")
def test_a_graph_that_has_become_slow_is_built_anew(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    build(folder, "hnsw")
    slow = dict(reached=False, recall=0.5)
    grow, built = certifying._Certified.build, []

    def spoilt(self, numbers):
        content = grow(self, numbers)
        built.append(bool(self._grown))
        return replace(content, ann={**content.ann, **slow}) if self._grown else content

    monkeypatch.setattr(certifying._Certified, "build", spoilt)
    commits(folder, 1, 200)
    assert built == [True, False]
    assert View(folder, verify="full").content.ann["reached"]


def test_asked_to_compact_a_graph_is_built_anew(tmp_path):
    build(tmp_path / "index", "hnsw")
    commits(tmp_path / "index", 1, 60)
    with IndexWriter(tmp_path / "index") as writer:
        writer.compact()
    build(tmp_path / "other", "flat")
    commits(tmp_path / "other", 1, 60)
    with IndexWriter(tmp_path / "other") as writer:
        writer.content = replace(writer.content, kind="hnsw")
        writer.compact()
    made = [next((tmp_path / name).glob("*.ann")).read_bytes() for name in ("index", "other")]
    assert made[0] == made[1]


@pytest.mark.parametrize("filtered", [False, True])
def test_rows_behind_the_graph_are_found_as_exact_search_finds_them(tmp_path, filtered):
    folder = tmp_path / "index"
    build(folder, "hnsw")
    commits(folder, 2, 40, delete=[5, 6])
    with IndexWriter(folder) as writer:
        writer.delete(["10003", "10050"])
        writer.commit()
    view = View(folder)
    where = "n < 10060 and n != 10020" if filtered else None
    queries = np.concatenate([clustered(40, seed=100), clustered(40, seed=101)])
    truth = view.search(queries, 10, exact=True, where=where)[1]
    found = view.search(queries, 10, where=where)[1]
    for wanted, line in zip(truth, found, strict=True):
        assert set(line[line >= ROWS]) >= set(wanted[wanted >= ROWS])
