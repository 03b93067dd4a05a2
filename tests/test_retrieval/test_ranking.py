"""The ways to rank: what each puts first, what stands in a hit, and what always holds."""

import json

import numpy as np
import pytest

from indexes import View
from retrieval import Document, QueryError, Searcher, build_index, change_index
from retrieval.changing import delete_rows, reencode
from retrieval.lexical import Lexical
from retrieval.postings import postings
from retrieval.ranking import CANDIDATES, DENSE
from retrieval.sidecars import texts_of

DOCUMENTS = [
    Document(str(n), f"word{n % 17} word{n % 5} word{n}", f"title{n % 3}", {"n": n})
    for n in range(240)
]
QUESTIONS = ["word3 word20", "title1 word4", "word16 word16 word99", "nothing of it"]


@pytest.fixture
def folder(tmp_path, bag):
    build_index(DOCUMENTS, tmp_path / "index", encoder=bag)
    return tmp_path / "index"


@pytest.fixture
def open_searcher(folder, bag):
    return Searcher(folder, encoder=bag)


def test_each_mode_goes_by_its_own_score(open_searcher):
    for question in QUESTIONS:
        dense = open_searcher.search(question, 20, mode="dense")
        assert [hit.score for hit in dense] == sorted((h.score for h in dense), reverse=True)
        assert all(hit.scores == {} for hit in dense)
        worded = open_searcher.search(question, 20, mode="lexical")
        scores = [hit.scores["lexical"] for hit in worded]
        assert scores == sorted(scores, reverse=True)
        fused = [hit.scores["fused"] for hit in open_searcher.search(question, 20, mode="hybrid")]
        assert fused == sorted(fused, reverse=True)
        assert len(fused) == 20


def test_the_score_is_the_cosine_in_every_mode(open_searcher):
    for question in QUESTIONS[:3]:
        cosines = {h.id: h.score for h in open_searcher.search(question, 240, mode="dense")}
        for mode in ("lexical", "hybrid", "auto"):
            for hit in open_searcher.search(question, 30, mode=mode):
                assert hit.score == cosines[hit.id]


def test_hybrid_is_the_sum_of_both_in_their_own_measure(open_searcher, folder, bag):
    question = QUESTIONS[0]
    view = open_searcher._view
    words = Lexical.of(view).scores(question)
    cosines = view.vectors(view.positions()) @ bag.encode_query([question])[0]
    wanted = DENSE * (cosines - cosines.mean()) / cosines.std()
    wanted += (1 - DENSE) * (words - words.mean()) / words.std()
    hits = open_searcher.search(question, 10, mode="hybrid")
    best = np.sort(wanted)[::-1][:10]
    assert [hit.scores["fused"] for hit in hits] == pytest.approx(best.tolist(), abs=1e-4)
    assert [wanted[int(hit.id)] for hit in hits] == pytest.approx(best.tolist(), abs=1e-4)


def test_auto_is_hybrid_where_there_are_postings(open_searcher, tmp_path, bag):
    assert open_searcher.search(QUESTIONS[0]) == open_searcher.search(QUESTIONS[0], mode="hybrid")
    build_index(DOCUMENTS, tmp_path / "plain", encoder=bag, lexical=False)
    plain = Searcher(tmp_path / "plain", encoder=bag)
    assert plain.search(QUESTIONS[0]) == open_searcher.search(QUESTIONS[0], mode="dense")
    for mode in ("lexical", "hybrid"):
        with pytest.raises(QueryError, match="--lexical"):
            plain.search(QUESTIONS[0], mode=mode)
    with pytest.raises(QueryError, match="mode must be one of auto, dense, lexical, hybrid"):
        plain.search(QUESTIONS[0], mode="sparse")
    with pytest.raises(QueryError, match="needs a question in words"):
        open_searcher.search(like="3", mode="hybrid")


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
def test_filters_hold_in_every_mode(open_searcher, mode):
    hits = open_searcher.search("word3 word20", 10, where="n < 25", mode=mode)
    assert hits
    assert all(hit.metadata["n"] < 25 for hit in hits)
    if mode != "lexical":
        assert len(open_searcher.search("word3", 100, where="n < 25", mode=mode)) == 25
    least = hits[0].score - 1e-6
    for hit in open_searcher.search("word3 word20", 10, where="n < 25", mode=mode, min_score=least):
        assert hit.score >= least


@pytest.mark.parametrize("mode", ["dense", "lexical", "hybrid"])
@pytest.mark.parametrize("k", [3, 50])
def test_min_score_leaves_the_best_of_the_others_and_looks_no_deeper(
    open_searcher, mode, k, monkeypatch
):
    everything = open_searcher.search("word3 word20", 240, mode=mode)
    depths, search = [], type(open_searcher._view).search

    def spied(view, vectors, k, **how):
        depths.append(k)
        return search(view, vectors, k, **how)

    monkeypatch.setattr(type(open_searcher._view), "search", spied)
    for least in (-1, 0.05, 0.4, 0.99, 1.1):
        hits = open_searcher.search("word3 word20", k, mode=mode, min_score=least)
        assert [hit.id for hit in hits] == [h.id for h in everything if h.score >= least][:k]
    assert set(depths) <= {k, CANDIDATES}


def test_words_follow_every_change(folder, bag):
    change_index([Document("new", "zebra")], folder, encoder=bag)
    searcher = Searcher(folder, encoder=bag)
    assert [hit.id for hit in searcher.search("zebra", 3, mode="lexical")] == ["new"]
    delete_rows(folder, ids=["new"])
    assert searcher.refresh()
    assert searcher.search("zebra", 3, mode="lexical") == []
    reencode(folder, encoder=bag)
    searcher.refresh()
    assert searcher.content.sidecars == {"lexical": {"language": "english"}}
    assert searcher.search("word99", 1, mode="lexical")[0].id == "99"


def test_postings_of_another_language_than_the_index_are_made_again_in_memory(
    folder, bag, monkeypatch
):
    change_index([Document("french", "les chevaux rapides")], folder, encoder=bag)
    made = View.sidecars

    def mixed(view, name):
        *first, last = made(view, name)
        texts = texts_of(map(last.payload, range(last.rows)))
        return [*first, last._replace(data=b"".join(postings(texts, "french")))]

    monkeypatch.setattr(View, "sidecars", mixed)
    with Searcher(folder, encoder=bag) as searcher:
        assert [hit.id for hit in searcher.search("chevaux", 9, mode="lexical")] == ["french"]


def test_postings_that_are_damaged_are_made_again_in_memory(folder, bag, open_searcher):
    wanted = open_searcher.search("word3 word20", 10, mode="hybrid")
    [path] = folder.glob("*.lexical")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert Searcher(folder, encoder=bag).search("word3 word20", 10, mode="hybrid") == wanted


def test_the_command_line_ranks_and_explains(tmp_path, cli):
    rows = "".join(json.dumps({"id": d.id, "text": d.text}) + "\n" for d in DOCUMENTS)
    (tmp_path / "corpus.jsonl").write_text(rows)
    assert cli("index", "corpus.jsonl", "--language", "none").code == 0
    lines = cli("query", "word99", "--mode", "lexical", "--explain").out.splitlines()
    assert json.loads(lines[0])["id"] == "99"
    assert json.loads(lines[0])["scores"].keys() == {"lexical"}
    assert cli("index", "corpus.jsonl", "-i", "plain", "--no-lexical").code == 0
    code, _, err = cli("query", "word99", "-i", "plain", "--mode", "hybrid")
    assert code == 1
    assert "build it with --lexical" in err


class Longest:
    """Reads a text by its length alone."""

    def score(self, question, texts):
        return np.array([len(text) for text in texts], np.float32)


def test_a_reranker_reads_the_first_hits_again(open_searcher):
    plain = open_searcher.search("word3 word20", 50)
    again = open_searcher.search("word3 word20", 5, rerank=Longest())
    lengths = sorted((len(f"{h.title} {h.text}") for h in plain), reverse=True)[:5]
    assert [hit.scores["rerank"] for hit in again] == lengths
    assert [hit.rank for hit in again] == [1, 2, 3, 4, 5]
    with pytest.raises(QueryError, match="rerank needs a question"):
        open_searcher.search(like="3", rerank=Longest())


def test_mmr_prefers_what_is_unlike(open_searcher):
    plain = open_searcher.search("word3 word20", 10, mode="dense")
    assert open_searcher.search("word3 word20", 10, mode="dense", mmr=1.0) == plain
    mixed = open_searcher.search("word3 word20", 10, mode="dense", mmr=0.3)
    vectors = {h.id: open_searcher._view.vectors(np.array([int(h.id)]))[0] for h in plain + mixed}

    def alike(hits):
        rows = np.array([vectors[hit.id] for hit in hits])
        return (rows @ rows.T).mean()

    assert alike(mixed) < alike(plain)
    with pytest.raises(QueryError, match="mmr must be in 0"):
        open_searcher.search("word3", mmr=1.5)
