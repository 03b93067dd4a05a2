"""How good answers are: SQuAD's measures, citations, knowing when not to answer, calibration."""

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import numpy.typing as npt

from miniformer.train.answers import best_of, exact_match, f1, normalised
from miniformer.train.pointing import answers_of, passages_of
from miniformer.train.records import read_records
from retrieval.documents import Answer, Hit
from retrieval.errors import CorpusError

RIGHT = 0.5  # F1 from which an answer counts as right where only right and wrong are told apart
BINS = 10  # of confidence
Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Asked:
    """A question, the passages that it was written for, its answers: none where there is none."""

    question: str
    passages: Sequence[str]
    golds: Sequence[str]

    @property
    def hits(self) -> list[Hit]:
        """The passages as hits."""
        return [Hit(n, str(n), 0.0, text, "", {}) for n, text in enumerate(self.passages, start=1)]


@dataclass(frozen=True)
class Judged:
    """What became of a question: its best answer, given or not, and how near a right one it is."""

    asked: Asked
    answer: Answer
    exact: float
    f1: float
    seconds: float


def read_asked(path: str | Path) -> list[Asked]:
    """Questions of a file: ``question``, ``context`` or ``passages``, ``answers``, which are empty
    where there is none. CorpusError names the file and the line.
    """
    try:
        records = read_records(path)
        return [
            Asked(record.text("question"), passages_of(record), [*filter(None, answers_of(record))])
            for record in records
        ]
    except (OSError, ValueError) as error:
        raise CorpusError(str(error)) from error


def judge(asked: Sequence[Asked], answer: Callable[[Asked], Answer]) -> Iterator[Judged]:
    """Ask one question after the other; ``answer`` gives the best, whatever its confidence."""
    for each in asked:
        began = time.perf_counter()
        answered = answer(each)
        seconds = time.perf_counter() - began
        text = answered.text
        exact, near = (
            0.0 if text is None else best_of(metric, text, each.golds)
            for metric in (exact_match, f1)
        )
        yield Judged(each, answered, exact, near, seconds)


def measures(judged: Sequence[Judged], threshold: float) -> dict[str, float]:
    """The figures, where answers of less confidence than ``threshold`` are not given.

    ``exact_match`` and ``f1`` are means over the questions that have an answer; not given counts
    0. For ``abstention_…`` not to answer is the positive class. ``false_answers`` is the share of
    the questions without an answer that got one. ``citation_precision`` is the share of citations
    whose passage has a right answer, ``citation_recall`` that of answerable questions with such a
    one. ``calibration_error`` is the expected one over 10 bins (Guo et al. 2017),
    ``risk_coverage`` the area under that curve (lower is better; El-Yaniv and Wiener 2010).
    """
    given = [withheld(each, threshold) for each in judged]
    answerable = [each for each in given if each.asked.golds]
    unanswerable = [each for each in given if not each.asked.golds]
    silent = [each for each in given if each.answer.text is None]
    rightly = sum(not each.asked.golds for each in silent)
    figures = {
        "questions": float(len(given)),
        "answered": 1 - len(silent) / len(given),
        "exact_match": _mean(each.exact for each in answerable),
        "f1": _mean(each.f1 for each in answerable),
        "citation_precision": _mean(hit for each in answerable for hit in _supported(each)),
        "citation_recall": _mean(any(_supported(each)) for each in answerable),
        "seconds": median(each.seconds for each in given),
    }
    if unanswerable:
        figures["abstention_precision"] = rightly / len(silent) if silent else 0.0
        figures["abstention_recall"] = rightly / len(unanswerable)
        figures["abstention_f1"] = 2 * rightly / (len(silent) + len(unanswerable))
        figures["false_answers"] = 1 - rightly / len(unanswerable)
    confidence, right = _outcomes(judged)
    figures["calibration_error"] = calibration_error(confidence, right)
    figures["risk_coverage"] = risk_coverage(confidence, right)
    return figures


def withheld(each: Judged, threshold: float) -> Judged:
    """The same, without its answer where that has less confidence."""
    if each.answer.text is None or each.answer.confidence >= threshold:
        return each
    return replace(each, answer=replace(each.answer, text=None, citations=[]), exact=0.0, f1=0.0)


def _mean(values: Any) -> float:
    values = [float(value) for value in values]
    return fmean(values) if values else 0.0


def _supported(each: Judged) -> list[bool]:
    """Of each citation whether its passage has a right answer."""
    texts = {hit.id: f" {' '.join(normalised(hit.text))} " for hit in each.answer.hits}
    golds = [f" {' '.join(normalised(gold))} " for gold in each.asked.golds]
    return [any(g in texts[cited.id] for g in golds) for cited in each.answer.citations]


def _outcomes(judged: Sequence[Judged]) -> tuple[Numbers, Numbers]:
    """Confidences, and 1 where the answer is right."""
    confidence = np.array([each.answer.confidence for each in judged], np.float64)
    return confidence, np.array([each.f1 >= RIGHT for each in judged], np.float64)


def calibration_error(confidence: Numbers, right: Numbers) -> float:
    """The mean distance of confidence and share of right answers over bins of confidence."""
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = [abs((confidence - right)[bins == n].sum()) for n in range(BINS)]
    return float(sum(gaps) / len(right))


def risk_coverage(confidence: Numbers, right: Numbers) -> float:
    """The mean share of wrong answers among the most confident n, over all n."""
    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(1 - right[order])
    return float((wrong / np.arange(1, len(right) + 1)).mean())


def calibrated(judged: Sequence[Judged]) -> Mapping[str, float]:
    """``slope`` and ``offset`` that make the confidences probabilities (Platt 1999), and the
    ``threshold`` on them of the best F1, where silence is right when there is no answer.
    """
    confidence, right = _outcomes(judged)
    inside = confidence.clip(1e-6, 1 - 1e-6)
    logit = np.log(inside / (1 - inside))
    features = np.stack([logit, np.ones_like(logit)], axis=1)
    weights = np.array([1.0, 0.0])

    def loss(at: Numbers) -> float:
        return float(np.logaddexp(0, features @ at).sum() - right @ features @ at + 5e-4 * at @ at)

    for _ in range(50):  # Newton's method on the log-loss, with a little weight decay
        likely = _logistic(features @ weights)
        slope = features.T @ (likely - right) + 1e-3 * weights
        curve = (features * (likely * (1 - likely))[:, None]).T @ features + 1e-3 * np.eye(2)
        step = np.linalg.solve(curve, slope)
        while loss(weights - step) > loss(weights) and abs(step).max() > 1e-9:
            step /= 2  # where the curve is flat a whole step leads astray
        weights = weights - step
    scores = _logistic(features @ weights)
    gained = np.array([each.f1 if each.asked.golds else 0.0 for each in judged])
    silent = np.array([0.0 if each.asked.golds else 1.0 for each in judged])
    order = np.argsort(-scores, kind="stable")
    # After the most confident n are given: what they gain, and what silence gains on the others.
    gain = np.concatenate([[0.0], np.cumsum(gained[order])])
    gain += silent.sum() - np.concatenate([[0.0], np.cumsum(silent[order])])
    alike = np.concatenate([[False], np.diff(scores[order]) == 0, [False]])
    best = int(np.where(alike, -1.0, gain).argmax())  # equal ones are given together
    threshold = max(0.0, float(scores[order[best - 1]]) - 1e-9) if best else 1.0
    return {"slope": float(weights[0]), "offset": float(weights[1]), "threshold": threshold}


def _logistic(values: Numbers) -> Numbers:
    return np.exp(-np.logaddexp(0, -values))


def save_calibration(folder: Path, found: Mapping[str, float], before: Any) -> None:
    """Put a calibration that was found upon ``before``'s into the generator's folder."""
    slope, offset = found["slope"], found["offset"]
    whole = {
        "slope": slope * before.slope,
        "offset": slope * before.offset + offset,
        "threshold": found["threshold"],
    }
    fresh = folder / "answering.json.new"
    fresh.write_text(json.dumps(whole, indent=2) + "\n")
    os.replace(fresh, folder / "answering.json")
