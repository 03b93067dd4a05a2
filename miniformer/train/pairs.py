"""Texts that belong together, from records to batches of token ids."""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

from miniformer.minilm.tokenizer import MiniLMTokenizer, pad
from miniformer.train.contrastive import LossKind
from miniformer.train.records import Record

FIRST = ("query", "anchor", "question")
SECOND = ("positive", "passage", "context")
FEW_TOKENS, MANY_TOKENS = 256, 4096  # of a chunk, padding included
WIDTH = 8


@dataclass(frozen=True)
class Example:
    """The texts of one record, column by column, and what is known of them."""

    texts: tuple[str, ...]
    score: float | None = None
    embedding: Any = None  # a vector [dim]


@dataclass
class PairBatch:
    """Chunks of texts of like length, ids and mask [n, L] each; ``order`` int64 [C · B] puts their
    rows into columns. The ids count in ``tokens`` [U], the rising ids of the whole batch.
    """

    chunks: list[tuple[Tensor, Tensor]]
    tokens: Tensor
    order: Tensor
    texts: Tensor  # int64 [C, B]
    scores: Tensor | None = None
    targets: Tensor | None = None


def read_example(record: Record, negatives: int) -> Example:
    """A record by the names of its fields; ValueError says what is missing and what is there."""
    if "sentence1" in record:
        texts = record.text("sentence1"), record.text("sentence2")
        return Example(texts, record.number("score"))
    if any(name in record for name in (*FIRST, *SECOND)):
        texts = record.text(*FIRST), record.text(*SECOND)
        return Example((*texts, *negatives_of(record)[:negatives]))
    if "text" in record:
        title, text = record.get("title"), record.text("text")
        return Example((f"{title} {text}" if title else text,), embedding=record.get("embedding"))
    raise ValueError(
        f"{record.where}: expected query and positive, anchor and positive, sentence1, sentence2 "
        f"and score, or text; found {', '.join(record) or 'nothing'}"
    )


def negatives_of(record: Record) -> list[str]:
    """The hard negatives of a record, which may be none."""
    found = record.get("negatives", record.get("negative")) or []
    negatives = [found] if isinstance(found, str) else found
    if not isinstance(negatives, list) or not all(isinstance(n, str) for n in negatives):
        raise ValueError(f"{record.where}: 'negatives' must be a list of texts")
    return negatives


def read_examples(records: Sequence[Record], kind: LossKind, negatives: int) -> list[Example]:
    """Every record as one kind of example, cut to the columns that all of them have.

    ValueError names the first record that is of another kind or does not suit the loss.
    """
    least, most = kind.columns
    examples = [read_example(record, min(negatives, most - 2)) for record in records]
    columns = min(len(example.texts) for example in examples)
    first = examples[0]
    for record, example in zip(records, examples, strict=True):
        alike = (example.score is None, example.embedding is None, len(example.texts) == 1)
        if alike != (first.score is None, first.embedding is None, len(first.texts) == 1):
            raise ValueError(f"{record.where}: other fields than in {records[0].where}")
        if len(example.texts) < least:
            raise ValueError(
                f"{record.where}: the loss needs {least} texts, found {len(example.texts)}"
                + (" (a negative is missing)" if least == 3 else "")
            )
        if kind.scored and example.score is None:
            raise ValueError(f"{record.where}: the loss needs a score; found {', '.join(record)}")
    return [Example(e.texts[:columns], e.score, e.embedding) for e in examples]


def without_duplicates(order: Iterable[int], examples: Sequence[Example], size: int) -> list[int]:
    """The same examples in nearly the same order, such that no text stands twice in a batch.

    An example that would repeat one waits for the next batch that it does not; at the end of the
    order what is left is taken as it comes.
    """
    ordered: list[int] = []
    waiting: deque[int] = deque()
    coming = iter(order)
    seen: set[str] = set()

    def fits(index: int) -> bool:
        return seen.isdisjoint(examples[index].texts)

    while True:
        if len(ordered) % size == 0:
            seen = set()
        chosen = next((index for index in waiting if fits(index)), None)
        if chosen is not None:
            waiting.remove(chosen)
        while chosen is None:
            index = next(coming, None)
            if index is None:
                return ordered + list(waiting)
            if fits(index):
                chosen = index
            else:
                waiting.append(index)
        seen.update(examples[chosen].texts)
        ordered.append(chosen)


class PairCollate:
    """Examples to a :class:`PairBatch`: tokenized, sorted by length, cut into chunks."""

    def __init__(self, tokenizer: MiniLMTokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, examples: Sequence[Example]) -> PairBatch:
        """Every column of every example, each text padded only to those of its chunk."""
        columns = list(zip(*(example.texts for example in examples), strict=True))
        texts = [text for column in columns for text in column]
        rows, _ = self.tokenizer.token_ids(texts)
        by_length = sorted(range(len(rows)), key=lambda index: len(rows[index]))
        padded = [
            pad([rows[index] for index in chunk], WIDTH)
            for chunk in cut_chunks([len(rows[index]) for index in by_length], by_length)
        ]
        order = torch.empty(len(rows), dtype=torch.int64)
        order[torch.tensor(by_length)] = torch.arange(len(rows))
        # Padding is row 0 of the table, which no gradient reaches, even where nothing is padded.
        none = torch.zeros(1, dtype=torch.int64)
        tokens = torch.unique(torch.cat([none, *(ids.flatten() for ids, _ in padded)]))
        chunks = [(torch.searchsorted(tokens, ids), mask) for ids, mask in padded]
        numbers = torch.tensor([crc32(text.encode()) for text in texts])
        first = examples[0]
        return PairBatch(
            chunks,
            tokens,
            order,
            numbers.view(len(columns), -1),
            None if first.score is None else torch.tensor([e.score for e in examples]),
            None if first.embedding is None else stacked([e.embedding for e in examples])[None],
        )


def stacked(vectors: Sequence[Any]) -> Tensor:
    """Vectors as one float tensor [B, dim]."""
    return torch.from_numpy(np.stack(vectors)).float()


def cut_chunks(lengths: Sequence[int], rows: Sequence[int]) -> list[Sequence[int]]:
    """Runs of rows, whose rising ``lengths`` are given, that are encoded together: of one width
    where they have tokens enough to keep the processor busy, and never more than it can cache.
    """
    chunks, begin = [], 0
    for end in range(1, len(lengths)):
        before, width = widened(lengths[end - 1]), widened(lengths[end])
        count = end - begin
        enough = width > before and count * before >= FEW_TOKENS
        if enough or (count + 1) * width > MANY_TOKENS:
            chunks.append(rows[begin:end])
            begin = end
    return [*chunks, rows[begin:]]


def widened(length: int) -> int:
    """A length as it is padded, to a multiple of :data:`WIDTH`."""
    return length + -length % WIDTH
