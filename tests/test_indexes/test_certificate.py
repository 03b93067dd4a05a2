"""A certificate says what recall is, and what setting of the knob keeps the promise."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from indexes.ann import load
from indexes.certificate import HELD, HELD_SHARE, Certificate, Trials, hold_back, tune
from indexes.kinds import KINDS, build

DIM = 32
CERTIFICATE = Certificate(0.97, 1234.5, 16, 0.95, 1000, reached=True)


def clustered(rows, seed):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((80, DIM))
    near = centres[rng.integers(0, 80, rows)] + 0.8 * rng.standard_normal((rows, DIM))
    return (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)


def nearest(queries, vectors, left_out=()):
    scores = queries @ vectors.T
    scores[:, left_out] = -np.inf
    return np.argsort(-scores, axis=1)[:, :10]


class Pretended:
    """A search with a known recall for each setting: row r of query q is 10 q + r."""

    def __init__(self, recalls, queries=1000):
        self.recalls = recalls
        self.tried = []
        self.queries = np.zeros((queries, 2), np.float32)
        self.truth = np.arange(10 * queries).reshape(queries, 10)

    def __call__(self, queries, knob):
        self.tried.append(knob)
        answers = self.truth.copy()
        missed = round(answers.size * (1 - self.recalls[knob]))
        turn = np.arange(answers.size).reshape(10, -1).T  # every query misses one before any two
        answers[turn < missed] = -1
        return answers

    def tune(self, target):
        return tune(self, list(self.recalls), self.queries, self.truth, target)


def test_the_fastest_setting_that_reaches_the_target_is_chosen_and_no_slower_one_tried():
    search = Pretended({1: 0.5, 2: 0.9, 4: 0.96, 8: 0.97, 16: 1.0})
    made = search.tune(0.95)
    assert (made.knob, made.reached, made.target, made.queries) == (4, True, 0.95, 1000)
    assert made.recall == pytest.approx(0.96)
    assert search.tried == [1, 2, 4]


def test_a_recall_is_believed_only_with_a_margin_that_shrinks_with_the_queries():
    recalls = {1: 0.905, 2: 0.95}
    few, many = Pretended(recalls, 30), Pretended(recalls, 10_000)
    # 0.905 is 9 of 10 for 95 % of the queries, 10 for the rest: a standard deviation of 0.022.
    assert few.tune(0.9).knob == 2
    assert many.tune(0.9).knob == 1


def test_a_target_out_of_reach_is_reported_with_the_best_there_is():
    made = Pretended({1: 0.5, 2: 0.8, 4: 0.8}).tune(0.95)
    assert (made.knob, made.reached, made.target) == (2, False, 0.95)
    assert made.recall == pytest.approx(0.8)


def test_a_target_of_one_needs_every_row():
    assert Pretended({1: 0.999, 2: 1.0}).tune(1.0).knob == 2
    assert not Pretended({1: 0.999}).tune(1.0).reached


def test_the_speed_is_that_of_the_setting(monkeypatch):
    clock = iter([0.0, 1.0, 10.0, 14.0])
    monkeypatch.setattr("indexes.certificate.time.perf_counter", lambda: next(clock))
    assert Pretended({1: 0.5, 2: 1.0}).tune(0.9).queries_per_second == 250


def test_the_seconds_of_all_segments_add_up(monkeypatch):
    clock = iter([0.0, 1.0, 1.0, 4.0])
    monkeypatch.setattr("indexes.certificate.time.perf_counter", lambda: next(clock))
    search = Pretended({1: 1.0})
    trials = Trials(search.queries, search.truth, [1], 0.9)
    trials.run(lambda queries, knob: search.truth, 0, 5000)
    trials.run(lambda queries, knob: search.truth - 5000, 5000, 5000)
    assert trials.certificate().queries_per_second == 250
    assert trials.certificate().recall == 1


def test_a_true_row_counts_wherever_it_stands_and_only_once():
    truth = np.array([[3, 5], [7, -1]])
    answers = np.array([[9, 5, 5, 3], [-1, -1, -1, -1]])
    made = tune(lambda queries, knob: answers, [0], np.zeros((2, 1)), truth, 0.9)
    assert made.recall == 0.5


def test_segments_are_counted_together_and_a_later_one_may_need_a_higher_setting():
    queries, truth = np.zeros((500, 2), np.float32), np.arange(5000).reshape(500, 10) % 200
    local = np.where(truth >= 120, truth - 120, -1)
    trials = Trials(queries, truth, [1, 2, 4], 0.95)
    tried = []

    def second(queries, knob):
        tried.append(knob)
        return local if knob == 4 else np.full_like(truth, -1)

    trials.run(lambda queries, knob: np.where(truth < 120, truth, -1), 0, 120)
    trials.run(second, 120, 80)
    made = trials.certificate()
    assert tried == [1, 2, 4]
    assert (made.recall, made.knob, made.reached) == (1, 4, True)


def test_a_segment_that_was_not_run_counts_as_not_found():
    truth = np.tile(np.arange(10), (50, 1))
    trials = Trials(np.zeros((50, 2), np.float32), truth, [1], 0.9)
    trials.run(lambda queries, knob: truth, 0, 5)
    assert trials.certificate().recall == 0.5


def test_a_local_row_of_one_segment_is_no_row_of_another():
    truth = np.array([[12, 13]])
    trials = Trials(np.zeros((1, 2), np.float32), truth, [1], 0.9)
    trials.run(lambda queries, knob: np.array([[12, 13]]), 10, 20)
    assert trials.certificate().recall == 0
    trials.run(lambda queries, knob: np.array([[2, 13]]), 10, 20)
    assert trials.certificate().recall == 0.5


@pytest.mark.parametrize("kind", ["hnsw", "small"])
def test_the_recall_is_the_one_that_new_queries_find(kind):
    vectors, fresh = clustered(5000, 1), clustered(2000, 2)
    held = np.sort(np.random.default_rng(3).choice(5000, 1000, replace=False))
    queries = vectors[held]
    truth = nearest(queries, vectors, held)
    # Fewer settings than the kind has: one that is far from finding everything is the test.
    knobs = [knob for knob in KINDS[kind].knobs if knob in (1, 2, 4, 10)]
    made = []

    def trial(ann):
        def search(asked, knob):
            return ann.candidates(asked, 10, knob=knob)

        made.extend(tune(search, [knob], queries, truth, 0.9) for knob in knobs)

    content = build(kind, vectors, train=vectors, seed=1, held=held, trial=trial)
    ann = load(KINDS[kind].knob, content, vectors, path=Path("1.ann"))
    true = nearest(fresh, vectors)
    assert made[0].recall < 0.985
    for certificate in made:
        found = ann.candidates(fresh, 10, knob=certificate.knob)
        recall = np.mean([np.isin(t, f).mean() for t, f in zip(true, found, strict=True)])
        assert certificate.recall == pytest.approx(recall, abs=0.02)  # two samples of a thousand


def test_held_back_rows_are_a_sample_of_those_given():
    rows = np.arange(0, 10**6, 3)
    held = hold_back(rows, seed=1)
    assert len(held) == len(np.unique(held)) == HELD
    assert np.isin(held, rows).all()
    assert held.tolist() == sorted(held) == hold_back(rows, seed=1).tolist()
    assert held.tolist() != hold_back(rows, seed=2).tolist()
    assert len(hold_back(np.arange(20 * HELD_SHARE), seed=1)) == 20
    assert len(hold_back(np.arange(2), seed=1)) == 1
    assert len(hold_back(np.arange(0), seed=1)) == 0


@pytest.mark.parametrize("target", [0, -0.1, 1.01, float("nan")])
def test_an_impossible_target_is_refused(target):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        Pretended({1: 1.0}).tune(target)


def test_nothing_to_measure_is_refused():
    queries, truth = np.zeros((2, 2), np.float32), np.array([[1], [2]])
    for wrong in (truth[:1], np.array([[1], [-1]])):
        with pytest.raises(ValueError, match="at least one true row for each"):
            Trials(queries, wrong, [1], 0.9)
    with pytest.raises(ValueError, match="needs queries"):
        Trials(queries[:0], truth[:0], [1], 0.9)
    for knobs in ([], [2, 1], [1, 1]):
        with pytest.raises(ValueError, match="must ascend"):
            Trials(queries, truth, knobs, 0.9)


def test_a_certificate_survives_json():
    text = json.dumps(CERTIFICATE.to_json())
    assert Certificate.from_json(json.loads(text)) == CERTIFICATE


@pytest.mark.parametrize(
    "change",
    [
        *({"recall": 1.1}, {"recall": "0.9"}, {"recall": float("nan")}, {"target": -1}),
        *({"knob": 1.5}, {"knob": -1}, {"knob": True}, {"queries": None}, {"reached": 1}),
        *({"queries_per_second": -1}, {"queries_per_second": float("inf")}),
    ],
)
def test_a_certificate_of_nonsense_is_refused(change):
    (field,) = change
    with pytest.raises(ValueError, match=f"^a certificate's {field} cannot be "):
        Certificate.from_json(replace(CERTIFICATE, **change).to_json())


@pytest.mark.parametrize("record", [{}, [], None, {**CERTIFICATE.to_json(), "more": 1}])
def test_a_certificate_of_other_fields_is_refused(record):
    with pytest.raises(ValueError, match="has the fields recall, queries_per_second, knob"):
        Certificate.from_json(record)
