"""Metrics: equal to ir_measures on kept cases, and to numbers worked by hand."""

import json
import runpy
from math import log2

import pytest

from retrieval import Qrel
from retrieval.metrics import (
    METRICS,
    average_precision,
    judged,
    means,
    ndcg,
    per_query,
    precision,
    ranked,
    recall,
    reciprocal_rank,
)

RELEVANCE = {"a": 3, "b": 2, "c": 0, "d": 1}

# Worked by hand: gain over log2(rank + 1), linear gains, over the ideal order 3, 2, 1.
IDEAL = 3 / log2(2) + 2 / log2(3) + 1 / log2(4)


@pytest.fixture(scope="module")
def kept(root):
    """Runs with ties and what ir_measures says of them: ``benchmarks.metrics_check --golden``."""
    path = root / "tests/test_retrieval/data/ir_measures.json"
    return json.loads(path.read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_equals_ir_measures_on_runs_with_ties(kept, name):
    compared = 0
    for case in kept:
        expected = {m: v for m, v in case["values"].items() if m.startswith(f"{name}@")}
        found = means(case["run"], [Qrel(*each) for each in case["qrels"]], list(expected))
        assert found == pytest.approx(expected, abs=1e-9)
        compared += sum(0 < value < 1 for value in expected.values())
    assert compared > 30


def test_random_runs_with_ties_equal_ir_measures(root):
    pytest.importorskip("ir_measures", reason="pip install ir_measures")
    check = runpy.run_path(str(root / "benchmarks/metrics_check.py"))
    largest, compared = check["largest_differences"](50)
    assert compared > 10_000
    assert max(largest.values()) <= 1e-9


def test_equal_scores_rank_by_id_from_the_last_to_the_first():
    assert ranked({"d1": 0.5, "d3": 0.5, "x": 0.7, "d20": 0.5, "é": 0.5}) == [
        *("x", "é", "d3", "d20", "d1")
    ]


def test_scores_that_float32_cannot_tell_apart_are_equal():
    assert ranked({"a": 1.0 + 1e-12, "b": 1.0}) == ["b", "a"]
    assert ranked({"a": 1.0 + 1e-6, "b": 1.0}) == ["a", "b"]
    assert ranked({"a": 1e300, "b": 1e200}) == ["b", "a"]


def test_a_ranking_stays_as_it_is():
    assert ranked(["b", "c", "a"]) == ["b", "c", "a"]


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
    ("measure", "ranking", "k", "expected"),
    [
        (recall, ["a", "b", "d"], 3, 1),
        (recall, ["a", "c", "x", "b"], 3, 1 / 3),
        (recall, ["c"], 1, 0),
        (precision, ["a", "c", "x", "b"], 4, 2 / 4),
        (precision, ["a", "b"], 5, 2 / 5),
        (precision, ["c"], 1, 0),
        (reciprocal_rank, ["c", "x", "b", "a"], 4, 1 / 3),
        (reciprocal_rank, ["c", "x", "b"], 2, 0),
        (average_precision, ["a", "c", "b", "x", "d"], 5, (1 / 1 + 2 / 3 + 3 / 5) / 3),
        (average_precision, ["a", "c", "b", "x", "d"], 4, (1 / 1 + 2 / 3) / 3),
        (judged, ["c", "x", "a", "y"], 3, 2 / 3),
        (judged, ["c", "x"], 10, 1 / 2),
    ],
)
def test_a_metric_equals_the_hand_worked_number(measure, ranking, k, expected):
    assert measure(ranking, RELEVANCE, k) == pytest.approx(expected)


@pytest.mark.parametrize("name", METRICS)
def test_nothing_found_is_worth_nothing(name):
    assert METRICS[name]([], RELEVANCE, 5) == 0
    assert METRICS[name]([], {}, 5) == 0


@pytest.mark.parametrize("name", [name for name in METRICS if name != "judged"])
def test_a_negative_judgment_is_not_relevant(name):
    assert METRICS[name](["a"], {"a": -1}, 1) == 0
    assert METRICS[name](["a", "b"], {"a": -1, "b": 1}, 2) == METRICS[name](
        ["a", "b"], {"a": 0, "b": 1}, 2
    )


QRELS = [Qrel("q1", "a", 1), Qrel("q2", "a", 0), Qrel("q3", "b", 2)]


def test_questions_without_a_relevant_document_are_left_out_of_the_mean():
    found = means({"q1": ["a"], "q2": ["a"]}, QRELS, ["ndcg@10", "recall@1"])
    assert found == {"ndcg@10": 0.5, "recall@1": 0.5}


def test_a_question_without_a_ranking_counts_0_and_one_without_judgments_not_at_all():
    values = per_query({"q1": {"a": 0.5}, "unjudged": {"a": 1.0}}, QRELS, ["mrr@5"])
    assert values == {"mrr@5": {"q1": 1, "q3": 0}}
    assert means({"q1": ["a"]}, [Qrel("q2", "a", 0)], ["map@5"]) == {"map@5": 0}


@pytest.mark.parametrize("metric", ["ndcg", "dcg@10", "ndcg@0", "recall@x", "map@-1", "@3"])
def test_an_unknown_metric_lists_the_known_ones(metric):
    known = "ndcg@k, mrr@k, map@k, recall@k, precision@k, judged@k, with k of at least 1"
    with pytest.raises(ValueError, match=f"unknown metric '{metric}'; known: {known}"):
        means({}, [], [metric])
