"""The data of an encoder's training, as Lightning asks for it."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from miniformer.minilm.tokenizer import MiniLMTokenizer
from miniformer.train.batches import EpochBatches, cut, in_order, shuffled
from miniformer.train.encoder_config import EncoderConfig
from miniformer.train.pairs import (
    Example,
    PairCollate,
    negatives_of,
    read_example,
    read_examples,
    without_duplicates,
)
from miniformer.train.records import Record, read_records


class EncoderData(pl.LightningDataModule):
    """Examples for :class:`EncoderLitModule`, in batches without a text twice.

    Hard negatives that the file does not bring can be put into ``examples``, in place, between
    epochs. ``start`` (epoch, batch) is where an interrupted run goes on.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        records = read_records(config.train_path)
        config.loss = config.loss or likely_loss(records[0])
        negatives = config.hard_negatives or max(len(negatives_of(r)) for r in records[:1000])
        self.examples = read_examples(records, config.kind, negatives)
        self.has_targets = self.examples[0].embedding is not None
        self.validation: list[Example] = []
        if config.val_path:
            self.validation = read_examples(read_records(config.val_path), config.kind, negatives)
        self.tokenizer: MiniLMTokenizer | None = None
        self.start = (-1, 0)

    def train_dataloader(self) -> DataLoader[Example]:
        """The epoch's batches of this process, from where the run stands."""
        size = self.config.batch_size
        batches = EpochBatches(
            lambda generator: self._arrange(generator, size), -(-len(self.examples) // size), self
        )
        return self._loader(self.examples, batches)

    def val_dataloader(self) -> Any:
        """The validation file in order; nothing where there is none."""
        size = self.config.batch_size
        batches = in_order(len(self.validation), size)
        return self._loader(self.validation, batches) if self.validation else []

    def _arrange(self, generator: torch.Generator, size: int) -> list[list[int]]:
        order = shuffled(len(self.examples), generator)
        kind = self.config.kind
        if kind.columns[0] > 1 and not kind.scored:
            order = without_duplicates(order, self.examples, size)
        return cut(order, size)

    def _loader(self, examples: list[Example], batches: Any) -> DataLoader[Example]:
        assert self.tokenizer is not None
        return DataLoader(
            examples,  # type: ignore[arg-type]
            batch_sampler=batches,
            generator=torch.Generator(),  # of its own: a run taken up again draws as the first did
            collate_fn=PairCollate(self.tokenizer),
            num_workers=self.config.num_workers,
        )


def likely_loss(record: Record) -> str:
    """The loss that records with these fields are made for."""
    example = read_example(record, 0)
    if example.score is not None:
        return "cosent"
    return "distill" if len(example.texts) == 1 else "mnrl"
