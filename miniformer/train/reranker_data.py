"""The data of a reranker's training: questions with passages that answer and some that do not."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from miniformer.minilm.pair_tokenizer import PairTokenizer, pad_pairs
from miniformer.train.batches import EpochBatches, cut, in_order, shuffled
from miniformer.train.pairs import FIRST, SECOND, WIDTH, Example, cut_chunks, negatives_of
from miniformer.train.records import Record, read_records
from miniformer.train.reranker_config import RerankerConfig

SEVERAL = "positives"
TRIES = 20  # to draw a passage that is new to a question


@dataclass
class RankingBatch:
    """Chunks of pairs of like length, ids, mask and types [n, L] each; ``order`` int64 [B · C] puts
    their rows into ``shape``: B questions, C passages each. The ids count in ``tokens`` [U], the
    rising ids of the whole batch.
    """

    chunks: list[tuple[Tensor, Tensor, Tensor]]
    tokens: Tensor
    order: Tensor
    shape: tuple[int, int]


def read_questions(records: Sequence[Record], negatives: int) -> list[Example]:
    """One example, (question, passage, *negatives), for each passage that answers. ValueError says
    what a record lacks.
    """
    return [
        Example((question, positive, *negatives_of(record)[:negatives]))
        for record in records
        for question in [record.text(*FIRST)]
        for positive in _positives(record)
    ]


def _positives(record: Record) -> list[str]:
    found = record.field(*SECOND, SEVERAL)
    positives = [found] if isinstance(found, str) else found
    if not isinstance(positives, list) or not positives:
        raise ValueError(f"{record.where}: 'positive' must be a text or a list of texts")
    if not all(isinstance(text, str) and text.strip() for text in positives):
        raise ValueError(f"{record.where}: 'positive' holds something that is no text, or empty")
    return positives


def fill_negatives(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """The same examples with ``count`` negatives each: their own, then passages of other questions,
    drawn by the seed. ValueError where there are too few of those.
    """
    known: dict[str, set[str]] = {}
    for example in examples:
        known.setdefault(example.texts[0], set()).add(example.texts[1])
    passages = list(dict.fromkeys(example.texts[1] for example in examples))
    chance = random.Random(seed)
    filled = []
    for example in examples:
        drawn = _drawn(example, known[example.texts[0]], passages, count, chance)
        filled.append(Example((*example.texts, *drawn)))
    return filled


def _drawn(
    example: Example, known: set[str], passages: Sequence[str], count: int, chance: random.Random
) -> list[str]:
    taken = known | set(example.texts[2:])
    lacking = count - (len(example.texts) - 2)
    drawn: list[str] = []
    for _ in range(TRIES * max(0, lacking)):
        if len(drawn) == lacking:
            break
        passage = chance.choice(passages)
        if passage not in taken:
            taken.add(passage)
            drawn.append(passage)
    if len(drawn) < lacking:  # few are left that are new: look through all
        drawn += [passage for passage in passages if passage not in taken][: lacking - len(drawn)]
    if len(drawn) < lacking:
        raise ValueError(
            f"{count} negatives are asked for, but there are only {len(passages)} passages for "
            f"{example.texts[0]!r:.60}; ask for fewer, or bring them in the field 'negatives'"
        )
    return drawn


class RankingCollate:
    """Examples to a :class:`RankingBatch`: tokenized, sorted by length, cut into chunks."""

    def __init__(self, tokenizer: PairTokenizer) -> None:
        self.tokenizer = tokenizer

    def __call__(self, examples: Sequence[Example]) -> RankingBatch:
        """Every passage with its question, each pair padded only to those of its chunk."""
        pairs = [(e.texts[0], passage) for e in examples for passage in e.texts[1:]]
        rows = self.tokenizer.rows(pairs)
        by_length = sorted(range(len(rows)), key=lambda index: len(rows[index].ids))
        padded = [
            pad_pairs([rows[index] for index in chunk], WIDTH)
            for chunk in cut_chunks([len(rows[index].ids) for index in by_length], by_length)
        ]
        order = torch.empty(len(rows), dtype=torch.int64)
        order[torch.tensor(by_length)] = torch.arange(len(rows))
        # Padding is row 0 of the table, which no gradient reaches, even where nothing is padded.
        none = torch.zeros(1, dtype=torch.int64)
        tokens = torch.unique(torch.cat([none, *(ids.flatten() for ids, _, _ in padded)]))
        chunks = [(torch.searchsorted(tokens, ids), mask, types) for ids, mask, types in padded]
        return RankingBatch(chunks, tokens, order, (len(examples), len(rows) // len(examples)))


class RerankerData(pl.LightningDataModule):
    """Examples for :class:`RerankerLitModule`, all with as many negatives.

    ``examples`` can be replaced before training, by those with mined negatives. ``start`` (epoch,
    batch) is where an interrupted run goes on.
    """

    def __init__(self, config: RerankerConfig) -> None:
        super().__init__()
        self.config = config
        self.examples = read_questions(read_records(config.train_path), config.negatives)
        self.validation: list[Example] = []
        if config.val_path:
            asked = read_questions(read_records(config.val_path), config.negatives)
            self.validation = fill_negatives(asked, config.negatives, config.seed)
        self.tokenizer: PairTokenizer | None = None
        self.start = (-1, 0)

    def setup(self, stage: str) -> None:
        """Draw what is lacking."""
        self.examples = fill_negatives(self.examples, self.config.negatives, self.config.seed)

    def train_dataloader(self) -> DataLoader[Example]:
        """The epoch's batches of this process, from where the run stands."""
        size, count = self.config.batch_size, len(self.examples)
        batches = EpochBatches(
            lambda generator: cut(shuffled(count, generator), size), -(-count // size), self
        )
        return self._loader(self.examples, batches)

    def val_dataloader(self) -> Any:
        """The validation file in order; nothing where there is none."""
        batches = in_order(len(self.validation), self.config.batch_size)
        return self._loader(self.validation, batches) if self.validation else []

    def _loader(self, examples: list[Example], batches: Any) -> DataLoader[Example]:
        assert self.tokenizer is not None
        return DataLoader(
            examples,  # type: ignore[arg-type]
            batch_sampler=batches,
            generator=torch.Generator(),  # of its own: a run taken up again draws as the first did
            collate_fn=RankingCollate(self.tokenizer),
            num_workers=self.config.num_workers,
        )
