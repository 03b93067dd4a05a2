"""Answers as spans of passages: from records to places, and from places to answers."""

import re
from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from miniformer.model.passages import read_passages
from miniformer.model.pointer import find_spans
from miniformer.train.answers import f1, normalised
from miniformer.train.collate import IGNORED, Example, TaskBatch
from miniformer.train.records import Record

NEAR = 120  # characters around an answer in which words of the question speak for it


def pointing_example(record: Record, reading: Any) -> Example:
    """A question, its passages and the span that answers it: of several answers the one most like
    the others, of several places the one amid most words of the question. Without answers there is
    no span to point at.
    """
    passages = passages_of(record)
    golds = answers_of(record)
    question = record.text("question")
    read = read_passages(reading.plain_tokenizer, question, passages, reading.max_length)
    if not any(golds):
        return Example(read, None, ("",))
    for gold in sorted(golds, key=lambda one: -sum(f1(one, other) for other in golds)):
        found = [read.places(*place) for place in occurrences(gold, passages, question)]
        places = [place for place in found if place is not None]
        if places:
            return Example(read, places[0], tuple(golds))
    raise ValueError(
        f"{record.where}: no passage has the answer {golds[0][:60]!r} in it; expected answers that "
        "are spans of a passage"
    )


def occurrences(answer: str, passages: Sequence[str], question: str) -> list[tuple[int, int, int]]:
    """Passage, begin and end of each place where the answer stands, the likeliest first."""
    asked = set(normalised(question))

    def likely(place: tuple[int, int, int]) -> int:
        passage, begin, end = place
        around = passages[passage][max(0, begin - NEAR) : end + NEAR]
        return -len(asked.intersection(normalised(around)))

    found = [
        (number, match.start(), match.end())
        for number, passage in enumerate(passages)
        for match in re.finditer(re.escape(answer), passage)
    ]
    return sorted(found, key=likely)


def passages_of(record: Record) -> list[str]:
    """The passages of a record, which may be one; ValueError for anything but texts."""
    found = record.field("passages", "context")
    if not isinstance(found, str | list):
        raise ValueError(f"{record.where}: 'context' must be a text or a list of texts")
    given = [found] if isinstance(found, str) else found
    texts = [each.get("text") if isinstance(each, dict) else each for each in given]
    passages = [text for text in texts if isinstance(text, str)]
    if len(passages) < len(given):
        raise ValueError(f"{record.where}: every passage must be a text or have one as 'text'")
    if not any(passages):
        raise ValueError(f"{record.where}: expected a passage; there is none")
    return passages


def answers_of(record: Record) -> list[str]:
    """The right answers of a record; none where its passages do not say."""
    answers = record.field("answers")
    if isinstance(answers, dict):  # SQuAD keeps texts and places side by side
        answers = answers.get("text")
    golds = [answers] if isinstance(answers, str) else (answers or [])
    if not isinstance(golds, list) or not all(isinstance(gold, str) for gold in golds):
        raise ValueError(f"{record.where}: 'answers' must be a text or a list of texts")
    return golds


def pointing_loss(predicted: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of the places, [B, 2, P] against [B, 2]; never smoothed, for most places are
    wrong by nature.
    """
    return F.cross_entropy(predicted.flatten(0, 1), target.flatten(), ignore_index=IGNORED)


def point_out(model: Any, batch: TaskBatch, tokenizer: Any) -> list[str]:
    """The likeliest span of each example; nothing where nowhere is likelier than all spans."""
    assert batch.windows is not None
    answers = []
    found = find_spans(model, batch.source, batch.mask, batch.windows)
    for read, spans in zip(batch.read, found, strict=True):
        if not spans or sum(span.probability for span in spans) < 0.5:
            answers.append("")
            continue
        passage, begin, end = read.characters(spans[0].row, spans[0].first, spans[0].last)
        answers.append(read.texts[passage][begin:end])
    return answers
