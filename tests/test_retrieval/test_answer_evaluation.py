"""How good answers are: numbers worked by hand, calibration, and ``retrieval evaluate``."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from miniformer.model.pretrained import minilm_config, warm_start
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.train.answers import best_of, exact_match, f1, normalised
from miniformer.train.train_config import POINTING
from retrieval import Answer, Citation, CorpusError, Hit, open_generator
from retrieval import answer_evaluation as evaluation
from retrieval.answer_evaluation import Asked, Judged, judge, measures, read_asked


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("  The U.S. \n\t don't, a dog", "us dont dog"),
        ("Theatre; another a-theory", "theatre another atheory"),
        ("a the AN !?", ""),
        ("1,000.5 $ÉTÉ", "10005 été"),
    ],
)
def test_answers_are_compared_as_squad_compares_them(text, words):
    assert normalised(text) == words.split()


@pytest.mark.parametrize(
    ("golds", "exact", "near"),
    [(["1889", "In the 1889."], 1, 1), (["may", "1889", "in year of 1889"], 0, 2 / 3), ([], 0, 0)],
)
def test_an_answer_is_held_against_the_nearest_gold(golds, exact, near):
    measured = best_of(exact_match, "in 1889", golds), best_of(f1, "in 1889", golds)
    assert measured == pytest.approx((exact, near))


HITS = [Hit(n, str(n), 0.0, text, "", {}) for n, text in enumerate(["the red fox", "a dog"], 1)]


def judged(text, confidence, golds, cited=(), seconds=0.0):
    """What :func:`judge` makes of an answer that cites these hits."""
    citations = [Citation(str(n), 0, 1, "x") for n in cited]
    answer = Answer(text, confidence, citations, HITS)
    (made,) = judge([Asked("q", ["p"], golds)], lambda asked: answer)
    return replace(made, seconds=seconds)


CASES = [
    judged("The fox", 0.9, ["fox", "red fox"], cited=[1, 2], seconds=1.0),
    judged("red dog", 0.6, ["red fox"], cited=[2], seconds=2.0),
    judged("dog", 0.2, ["dog"], cited=[2], seconds=9.0),
    judged("cat", 0.8, []),
    judged("cat", 0.1, []),
    judged(None, 0.0, ["fox"]),
]


def test_the_figures_are_those_worked_by_hand():
    known = [(1, 1), (0, 0.5), (1, 1), (0, 0), (0, 0), (0, 0)]
    assert [(each.exact, each.f1) for each in CASES] == known
    # 0.5 leaves 0.9 and 0.6, both answerable, and 0.8; the first of their citations is right.
    # Each confidence has a bin of its own; 0.9, 0.6 and 0.2 are right.
    expected = {"questions": 6, "answered": 3 / 6, "exact_match": 1 / 4, "f1": 1.5 / 4}
    expected |= {"citation_precision": 1 / 3, "citation_recall": 1 / 4, "seconds": 0.5}
    expected |= {"abstention_precision": 1 / 3, "abstention_recall": 1 / 2}
    expected |= {"abstention_f1": 2 / 5, "false_answers": 1 / 2}
    expected["calibration_error"] = (0.1 + 0.8 + 0.4 + 0.8 + 0.1 + 0) / 6
    expected["risk_coverage"] = (0 + 1 / 2 + 1 / 3 + 1 / 4 + 2 / 5 + 3 / 6) / 6
    assert measures(CASES, 0.5) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("threshold", "expected"),  # answered, F1; precision, recall and F1 of silence
    [
        (0, (5 / 6, 2.5 / 4, 0, 0, 0)),  # silent only where there was no answer at all
        (0.6, (3 / 6, 1.5 / 4, 1 / 3, 1 / 2, 2 / 5)),  # what equals the threshold is given
        (1, (0, 0, 2 / 6, 1, 4 / 8)),
    ],
)
def test_abstention_from_all_given_to_nothing_given(threshold, expected):
    figures = measures(CASES, threshold)
    silence = [figures[f"abstention_{name}"] for name in ("precision", "recall", "f1")]
    assert (figures["answered"], figures["f1"], *silence) == pytest.approx(expected)
    assert figures["false_answers"] == pytest.approx(1 - figures["abstention_recall"])


def test_only_questions_of_one_kind_have_figures_too():
    assert not any("abst" in name or "false" in name for name in measures(CASES[:3], 0.5))
    nothing = measures([judged(None, 0.0, [])], 0.5)
    given = measures([judged("cat", 1.0, [])], 0.5)
    named = ("f1", "abstention_precision", "abstention_f1", "false_answers", "calibration_error")
    assert [nothing[name] for name in named] == [0, 1, 1, 0, 0]
    assert [given[name] for name in named] == [0, 0, 0, 1, 1]


@pytest.mark.parametrize(
    ("confidence", "right", "error", "area"),
    [
        ([0.75] * 4, [1, 1, 1, 0], 0, (0 + 0 + 0 + 1 / 4) / 4),
        ([0.95, 0.95, 0.15], [0, 0, 1], (1.9 + 0.85) / 3, (1 + 1 + 2 / 3) / 3),
        ([0.41, 0.49], [0, 1], 0.05, (0 + 1 / 2) / 2),  # one bin: their errors nearly cancel
        ([0.39, 0.41], [0, 1], (0.39 + 0.59) / 2, (0 + 1 / 2) / 2),  # two
    ],
)
def test_calibration_and_risk_of_known_cases(confidence, right, error, area):
    confidence, right = np.array(confidence), np.array(right, float)
    assert evaluation.calibration_error(confidence, right) == pytest.approx(error)
    assert evaluation.risk_coverage(confidence, right) == pytest.approx(area)


RNG = np.random.default_rng(0)
LOGITS, COIN = RNG.normal(2, 3, 2_000), RNG.random(2_000) < 0.5
OVERCONFIDENT = {  # confidences, and whether the answers are right
    "spread": (1 / (1 + np.exp(-LOGITS)), RNG.random(2_000) < 1 / (1 + np.exp(1 - 0.4 * LOGITS))),
    "nearly certain": (RNG.uniform(0.9, 0.99, 300), COIN[:300]),
    "certain": (RNG.uniform(0.9999, 1, 300), COIN[:300]),
    "of two kinds": (np.where(COIN, 0.999, 0.1), RNG.random(2_000) < np.where(COIN, 0.6, 0.02)),
    "all alike": (np.full(300, 0.8), np.arange(300) % 10 == 0),  # the first one is right
    "parted": (np.linspace(0.3, 1, 100), np.linspace(0.3, 1, 100) > 0.8),
}


def confidences(found, before):
    """The logistic function of slope · logit + offset."""
    inside = np.clip(before, 1e-6, 1 - 1e-6)
    return 1 / (1 + np.exp(-found["slope"] * np.log(inside / (1 - inside)) - found["offset"]))


@pytest.mark.parametrize("case", OVERCONFIDENT)
def test_calibration_makes_confidences_probabilities_and_finds_the_best_threshold(case):
    before, right = OVERCONFIDENT[case]
    golds = [["x"] if yes or n % 3 else [] for n, yes in enumerate(right)]  # some wrong ones
    near = np.where(right, RNG.uniform(0.5, 1, len(right)), 0.0)
    cases = [
        Judged(Asked("q", ["p"], gold), Answer("x", confidence, [], []), 0, one, 0)
        for confidence, gold, one in zip(before.tolist(), golds, near.tolist(), strict=True)
    ]
    after = confidences(found := evaluation.calibrated(cases), before)
    error = [evaluation.calibration_error(each, right.astype(float)) for each in (before, after)]
    assert error[1] < 0.8 * error[0]
    assert after.mean() == pytest.approx(right.mean(), abs=0.01)
    if case == "spread":
        assert (found["slope"], found["offset"]) == pytest.approx((0.4, -1), abs=0.15)

    def gain(threshold):
        given = after >= threshold - 1e-12
        return near[given].sum() + sum(not golds[n] for n in np.flatnonzero(~given))

    best = max(gain(threshold) for threshold in [*np.unique(after), 1.1])
    assert gain(found["threshold"]) == pytest.approx(best)


@pytest.fixture(scope="module")
def pointer(tmp_path_factory):
    """The folder of a reader whose decoder is random."""
    torch.manual_seed(0)
    model = warm_start(Seq2SeqTransformer(minilm_config(**POINTING)))
    model.save_pretrained(folder := tmp_path_factory.mktemp("pointer"), base="all-MiniLM-L6-v2")
    return folder


def test_a_calibration_is_put_upon_the_earlier_one(pointer, tmp_path):
    folder = shutil.copytree(pointer, tmp_path / "pointer")
    (folder / "answering.json").write_text('{"slope": 0.5, "offset": -1.0, "threshold": 0.9}')
    before = open_generator(str(folder))
    found = {"slope": 1.5, "offset": 0.25, "threshold": 0.125}
    evaluation.save_calibration(folder, found, before)
    after = open_generator(str(folder))
    (old,), (new,) = (each.read(["who?"], [["the apple is green"]]) for each in (before, after))
    assert new.confidence == pytest.approx(confidences(found, old.confidence))
    assert after.threshold == 0.125


GOOD = {"question": "q", "context": "c", "answers": []}


def write(name, *rows):
    Path(name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return name


def test_questions_are_read_in_every_shape(tmp_path):
    of_squad = {**GOOD, "answers": {"text": ["a", "b"], "answer_start": [0, 1]}}
    of_lists = {"question": "q", "passages": ["c", {"text": "d"}], "answers": "a"}
    assert read_asked(write(tmp_path / "qa.jsonl", GOOD, of_squad, of_lists)) == [
        *(Asked("q", ["c"], []), Asked("q", ["c"], ["a", "b"]), Asked("q", ["c", "d"], ["a"]))
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": " "}, "'question' must be a text, found ' '"),
        ({"context": None}, "no field 'passages' or 'context'; it has question, context, answers"),
        ({"context": 5}, "'context' must be"),
        ({"answers": [5]}, "'answers' must be a text or a list of texts"),
        ({"answers": 5}, "'answers' must be a text or a list of texts"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named(changes, message, tmp_path):
    path = write(tmp_path / "qa.jsonl", GOOD, {**GOOD, **changes})
    with pytest.raises(CorpusError, match=re.escape(f"{path}, line 2: {message}")):
        read_asked(path)


class WordBehindIs:
    def generate(self, prompts):
        return [(re.findall(r"\bis (\w+)", prompt) or ["unanswerable"])[0] for prompt in prompts]


ROWS = [
    {"question": "apple", "passages": ["x", "y is red"], "answers": ["red", "x", "y"]},
    {"question": "pear", "context": "a pear", "answers": []},
]


def test_a_generator_is_measured_on_own_passages_and_on_found_ones(cli, monkeypatch):
    monkeypatch.setattr("retrieval.readers.open_generator", lambda name, **how: WordBehindIs())
    write("qa.jsonl", *ROWS)
    write("corpus.jsonl", {"text": "the apple is green"}, {"text": "the pear is green"})
    assert cli("index", "corpus.jsonl").code == 0
    command = ("evaluate", "--answers", "qa.jsonl", "--generator", "mine")
    own = json.loads(cli(*command).out)
    found = json.loads(cli(*command, "-i", "retrieval-index", "-k", 1).out)
    named = ("threshold", "answered", "exact_match", "citation_recall", "false_answers")
    assert [own[name] for name in named] == [0, 0.5, 1, 1, 0]
    assert [found[name] for name in named] == [0, 1, 0, 0, 1]
    refused = cli(*command, "--calibrate")
    assert (refused.code, "--calibrate needs --generator FOLDER" in refused.err) == (2, True)


def test_calibrate_writes_what_the_reader_then_goes_by(cli, pointer):
    shutil.copytree(pointer, "mine")
    write("qa.jsonl", *ROWS)
    command = ("evaluate", "--answers", "qa.jsonl", "--generator", "mine")
    before, after = json.loads(cli(*command).out), json.loads(cli(*command, "--calibrate").out)
    written = json.loads(Path("mine/answering.json").read_bytes())["threshold"]
    assert (before["threshold"], after["threshold"]) == (0.5, written)
    withheld = json.loads(cli(*command, "--threshold", 1).out)
    risk = (0 + 1 / 2) / 2  # the right one of two is the more confident now, given or not
    assert (withheld["answered"], withheld["risk_coverage"]) == (0, risk)
    assert after["calibration_error"] < before["calibration_error"]
    assert {**json.loads(cli(*command).out), "seconds": 0} == {**after, "seconds": 0}
