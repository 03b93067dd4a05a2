import json
from math import log2

import pytest

from retrieval import CorpusError, Qrel, Searcher, build_index
from retrieval.evaluation import evaluate, ndcg, read_beir, read_qrels, recall, search_all

RELEVANCE = {"a": 3, "b": 2, "c": 0, "d": 1}

# Worked by hand: gain over log2(rank + 1), linear gains, over the ideal order 3, 2, 1.
IDEAL = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)


@pytest.mark.parametrize(
    ("ranking", "k", "expected"),
    [
        (["a", "b", "d"], 10, 1.0),
        (["b", "a", "d"], 10, (2 + 3 / log2(3) + 1 / 2) / IDEAL),
        (["c", "x", "a"], 10, (3 / 2) / IDEAL),
        (["c", "x", "a"], 2, 0.0),
        (["b"], 1, 2 / 3),
        ([], 10, 0.0),
    ],
)
def test_ndcg_equals_the_hand_worked_number(ranking, k, expected):
    assert ndcg(ranking, RELEVANCE, k) == pytest.approx(expected, abs=1e-12)


def test_ndcg_of_one_known_case_in_digits():
    assert ndcg(["b", "a"], {"a": 1, "b": 0}, 10) == pytest.approx(0.63093, abs=1e-5)


def test_gains_are_linear_not_exponential():
    assert ndcg(["b", "a"], {"a": 3, "b": 1}, 2) == pytest.approx(0.79671, abs=1e-5)


@pytest.mark.parametrize(
    ("ranking", "k", "expected"),
    [(["a", "b", "d"], 3, 1.0), (["a", "c", "x", "b"], 3, 1 / 3), (["c"], 1, 0.0), ([], 5, 0.0)],
)
def test_recall_counts_the_relevant_documents_found(ranking, k, expected):
    assert recall(ranking, RELEVANCE, k) == pytest.approx(expected)


def test_a_negative_judgment_is_not_relevant():
    assert ndcg(["a"], {"a": -1}, 1) == 0.0
    assert recall(["a"], {"a": -1, "b": 1}, 1) == 0.0


def test_questions_without_a_relevant_document_are_left_out_of_the_mean():
    qrels = [Qrel("q1", "a", 1), Qrel("q2", "a", 0), Qrel("q3", "b", 2)]
    means = evaluate({"q1": ["a"], "q2": ["a"]}, qrels, ["ndcg@10", "recall@1"])
    assert means == {"ndcg@10": 0.5, "recall@1": 0.5}


@pytest.mark.parametrize("metric", ["ndcg", "map@10", "ndcg@0", "recall@x"])
def test_an_unknown_metric_lists_the_known_ones(metric):
    with pytest.raises(ValueError, match=r"known: ndcg@k, recall@k"):
        evaluate({}, [], [metric])


@pytest.fixture(params=["qrels.tsv", "qrels/test.tsv"])
def beir(tmp_path, request):
    rows = [{"_id": f"d{i}", "title": f"word{i}", "text": f"text{i} more"} for i in range(5)]
    rows.append({"_id": "empty", "title": "", "text": ""})
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    queries = [{"_id": "q1", "text": "word1 text1"}, {"_id": "q2", "text": "word4"}]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    qrels = tmp_path / request.param
    qrels.parent.mkdir(exist_ok=True)
    qrels.write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq2\td4\t2\nq2\td0\t1\n")
    return tmp_path


def test_a_beir_folder_is_indexed_searched_and_measured(beir, tmp_path, bag):
    judged = read_beir(beir)
    assert judged.queries == {"q1": "word1 text1", "q2": "word4"}
    assert judged.qrels[1] == Qrel("q2", "d4", 2)
    report = build_index(judged.corpus, tmp_path / "index", encoder=bag)
    assert (report.rows, report.skipped) == (5, 1)
    run = search_all(Searcher(tmp_path / "index", encoder=bag), judged.queries, k=2)
    assert [ranking[0] for ranking in run.values()] == ["d1", "d4"]
    assert evaluate(run, judged.qrels, ["recall@2"])["recall@2"] >= 0.75


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_a_missing_part_of_a_beir_folder_is_named(tmp_path, name):
    for part in ("corpus.jsonl", "queries.jsonl", "qrels.tsv"):
        if part != name:
            (tmp_path / part).write_text('{"_id": "1", "text": "x"}\n')
    with pytest.raises(CorpusError, match=name):
        read_beir(tmp_path)


def test_a_bad_judgment_is_reported_by_its_line(tmp_path):
    path = tmp_path / "qrels.tsv"
    path.write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\nq1 d2 1\n")
    with pytest.raises(CorpusError, match="line 3: expected query, document and a whole number"):
        read_qrels(path)


def test_judgments_without_a_header_lose_no_line(tmp_path):
    path = tmp_path / "qrels.tsv"
    path.write_text("q1\td1\t1\r\nq1\td2\t0\r\n")
    assert read_qrels(path) == [Qrel("q1", "d1", 1), Qrel("q1", "d2", 0)]
