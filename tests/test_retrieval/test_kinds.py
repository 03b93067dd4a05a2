"""The kind of an index and the format of its vectors, from the command line and from Python."""

import json

import numpy as np
import pyarrow as pa
import pytest

import indexes.certifying
from indexes import KindError, View
from retrieval import Document, Searcher, build_index

DOCUMENTS = [
    Document(str(n), f"word{n} word{n % 40} word{n % 7}", metadata={"n": n}) for n in range(800)
]


@pytest.fixture(autouse=True)
def _small_segments_count(monkeypatch):
    monkeypatch.setattr(indexes.certifying, "EXACT_BELOW", 500)


@pytest.fixture
def folder(tmp_path, bag):
    build_index(DOCUMENTS, tmp_path / "index", encoder=bag, kind="hnsw", recall=0.9)
    return tmp_path / "index"


def test_exact_is_exact_and_the_kind_nearly(folder, bag, tmp_path):
    build_index(DOCUMENTS, tmp_path / "flat", encoder=bag, kind="flat")
    searcher, flat = (Searcher(path, encoder=bag) for path in (folder, tmp_path / "flat"))
    questions = [f"word{n} word{n + 1}" for n in range(50)]
    wanted = flat.search_batch(questions)
    assert searcher.search_batch(questions, exact=True) == wanted
    found = zip(searcher.search_batch(questions), wanted, strict=True)
    good = [[hit.score >= true[-1].score for hit in hits] for hits, true in found]
    assert 0.8 < np.mean(good)
    like = searcher.search(like="7", k=3, exact=True)
    assert like == flat.search(like="7", k=3)
    some = searcher.search(questions[0], 5, where="n < 3")
    assert {hit.metadata["n"] for hit in some} == {0, 1, 2}


def test_info_tells_what_was_promised(folder, cli):
    facts = json.loads(cli("info", "-i", str(folder)).out)
    assert facts["kind"] == "hnsw"
    assert facts["recall_target"] == 0.9
    assert facts["recall_reached"] is True
    assert 0.9 <= facts["recall@10"] <= 1
    assert facts["queries_per_second"] > 0
    assert facts["setting"] > 0


def test_half_the_bytes_and_the_same_hits(tmp_path, bag):
    searchers = {}
    for dtype in ("float32", "float16"):
        build_index(DOCUMENTS, tmp_path / dtype, encoder=bag, vectors=dtype)
        searchers[dtype] = Searcher(tmp_path / dtype, encoder=bag)
    sizes = {d: next((tmp_path / d).glob("*.vec")).stat().st_size for d in searchers}
    assert sizes["float16"] * 2 == sizes["float32"]
    full, half = (searchers[d].search("word3 word4", 10) for d in ("float32", "float16"))
    assert [hit.score for hit in half] == pytest.approx([hit.score for hit in full], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"kind": "hsnw"}, "hsnw"),
        ({"kind": "IVF10,PQ7"}, "IVF10,PQ7"),
        ({"recall": 0.0}, "0.0"),
        ({"recall": 1.5}, "1.5"),
        ({"vectors": "int8"}, "int8"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, bag, options, named):
    with pytest.raises(KindError, match=named):
        build_index(DOCUMENTS, tmp_path / "index", encoder=bag, **options)
    assert not (tmp_path / "index").exists()


def test_a_move_to_another_model_keeps_the_kind(folder, bag_class):
    from retrieval.changing import reencode

    reencode(folder, encoder=bag_class(dim=24))
    content = View(folder).content
    assert (content.dim, content.kind, content.recall) == (24, "hnsw", 0.9)
    assert content.ann["kind"] == "hnsw"


def test_ready_vectors_take_a_kind_too(tmp_path, bag):
    from retrieval import import_index

    vectors = bag.encode_document([document.full_text for document in DOCUMENTS])[0]
    table = pa.table({"id": [d.id for d in DOCUMENTS], "text": [d.text for d in DOCUMENTS]})
    import_index(table, vectors, tmp_path / "index", encoder=bag, kind="small")
    assert View(tmp_path / "index").content.ann["kind"] == "small"


def test_the_command_line_builds_and_asks(tmp_path, cli):
    rows = "\n".join(json.dumps({"id": d.id, "text": d.text}) for d in DOCUMENTS[:520])
    (tmp_path / "corpus.jsonl").write_text(rows)
    corpus, index = str(tmp_path / "corpus.jsonl"), ["-i", str(tmp_path / "index")]
    options = ["--kind", "hnsw", "--recall", "0.9", "--vectors", "float16"]
    assert cli("index", corpus, *index, *options).code == 0
    content = View(tmp_path / "index").content
    assert (content.ann["kind"], content.recall, content.dtype) == ("hnsw", 0.9, "float16")
    plain, exact = (cli("query", "word3", *index, *how).out for how in ([], ["--exact"]))
    assert json.loads(plain.splitlines()[0])["score"] == json.loads(exact.splitlines()[0])["score"]


def test_a_kind_that_is_not_known_is_told_in_one_line(tmp_path, cli):
    (tmp_path / "corpus.jsonl").write_text('{"text": "a"}')
    code, _, err = cli("index", str(tmp_path / "corpus.jsonl"), "--kind", "hsnw")
    assert code == 1
    assert err.startswith("retrieval: unknown kind of index 'hsnw'")
    assert err.count("\n") == 1
