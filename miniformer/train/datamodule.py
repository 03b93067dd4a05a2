"""The data of a task, as Lightning asks for it."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset

from miniformer.model.tables import row
from miniformer.train.batches import EpochBatches, by_length, in_order
from miniformer.train.collate import Collate, Example, TaskBatch
from miniformer.train.records import Record, read_records
from miniformer.train.tasks import TASKS, Reading, Task
from miniformer.train.tokenization import open_tokenizer, texts_in, train_tokenizer
from miniformer.train.train_config import TrainConfig

DEFAULT_VOCABULARY = 10_000


class JSONLinesDataset(Dataset[Example]):
    """Every record of a file as ids; a record that does not fit is a ValueError with its line.

    ``tokenizer`` is one of transformers; without one, one is trained on the file. ``outputs`` is
    how many classes there may be, ``model`` the architecture that reads.
    """

    def __init__(
        self,
        path: str | Path,
        tokenizer: Any = None,
        task: str = "language_modeling",
        *,
        model: str = "transformer",
        max_length: int = 512,
        outputs: int | None = None,
    ) -> None:
        self.task = row(TASKS, task, "task")
        records = read_records(path)
        self.tokenizer = tokenizer or tokenizer_of(records)
        reading = Reading(self.tokenizer, max_length, model, outputs)
        self.examples = [self.task.example(record, reading) for record in records]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        return self.examples[index]

    def lengths(self) -> list[int]:
        """How many tokens each example has, read and written."""
        return [
            len(e.source) + (len(e.target) if isinstance(e.target, list) else 0)
            for e in self.examples
        ]


def tokenizer_of(records: Sequence[Record], vocab_size: int = DEFAULT_VOCABULARY) -> Any:
    """A tokenizer trained on the texts of these records."""
    return train_tokenizer((text for record in records for text in texts_in(record)), vocab_size)


class MiniFormerDataModule(pl.LightningDataModule):
    """Training, validation and test batches of a run, of examples of like length.

    The tokenizer is the one given, else the configuration's. ``start`` (epoch, batch) is where an
    interrupted run goes on.
    """

    def __init__(
        self, config: TrainConfig | None = None, tokenizer: Any = None, *, cfg: Any = None
    ) -> None:
        super().__init__()
        self.config: TrainConfig = cfg if config is None else config
        self.task: Task = row(TASKS, self.config.task, "task")
        self.tokenizer = tokenizer or self._tokenizer()
        self.train = self._read(self.config.train_path)
        self.validation = self._read(self.config.val_path)
        self.test = self._read(self.config.test_path)
        self.start = (-1, 0)

    def _tokenizer(self) -> Any:
        config = self.config
        if config.tokenizer == "train" and config.base:
            return open_tokenizer(config.base)
        if config.tokenizer != "train":
            return open_tokenizer(config.tokenizer)
        most = config.model_config.get("vocab_size", DEFAULT_VOCABULARY)
        return tokenizer_of(read_records(config.train_path), most)

    def _read(self, path: Any) -> JSONLinesDataset | None:
        if path is None:
            return None
        config = self.config
        return JSONLinesDataset(
            path,
            self.tokenizer,
            config.task,
            model=config.model,
            max_length=config.max_length,
            outputs=self.outputs if self.task.outputs == 0 else None,
        )

    @property
    def outputs(self) -> int | None:
        """How many outputs the model has: as configured, or as many as there are classes."""
        told = self.config.model_config.get("output_dim")
        if self.task.outputs != 0 or told is not None:
            return self.task.outputs if told is None else int(told)
        if getattr(self, "train", None) is None:
            return None  # the training file decides
        labels = [e.target for e in self.train.examples]  # type: ignore[union-attr]
        return 1 + max(max(each) if isinstance(each, list) else int(each) for each in labels)

    def train_dataloader(self) -> DataLoader[Example]:
        """The epoch's batches of this process, from where the run stands."""
        assert self.train is not None
        size = self.config.batch_size
        plan = by_length(self.train.lengths(), size)
        return self._loader(self.train, EpochBatches(plan, -(-len(self.train) // size), self))

    def val_dataloader(self) -> Any:
        """The validation file in order; nothing where there is none."""
        return self._in_order(self.validation)

    def test_dataloader(self) -> Any:
        """The test file in order; nothing where there is none."""
        return self._in_order(self.test)

    def _in_order(self, dataset: JSONLinesDataset | None) -> Any:
        if dataset is None:
            return []
        batches = in_order(len(dataset), self.config.batch_size)
        return self._loader(dataset, batches)

    def _loader(self, dataset: JSONLinesDataset, batches: Any) -> DataLoader[Example]:
        workers = min(self.config.num_workers, os.cpu_count() or 1)
        return DataLoader(
            dataset,
            batch_sampler=batches,
            generator=torch.Generator(),  # of its own: a run taken up again draws as the first did
            collate_fn=partial(_collated, self.task.collate, self.tokenizer.pad_token_id or 0),
            num_workers=workers,
            persistent_workers=workers > 0,
        )


def _collated(collate: Collate, pad_token_id: int, examples: Sequence[Example]) -> TaskBatch:
    return collate(examples, pad_token_id)
