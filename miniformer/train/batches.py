"""Which examples stand in which batch: by epoch and seed alone, so that a run can be taken up."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import Sampler

WINDOW = 64  # batches among which examples are sorted by length

Plan = Callable[[torch.Generator], list[list[int]]]


class EpochBatches(Sampler[list[int]]):
    """The batches of an epoch, of which each of several processes takes its share.

    ``plan`` arranges them from a generator of chance; ``data`` knows the trainer, and in ``start``
    (epoch, batch) where a run that was interrupted goes on. ``count`` is how many there are.
    """

    def __init__(self, plan: Plan, count: int, data: Any) -> None:
        self.plan, self.count, self.data = plan, count, data

    def __iter__(self) -> Iterator[list[int]]:
        trainer = self.data.trainer
        epoch, rank = (trainer.current_epoch, trainer.global_rank) if trainer else (0, 0)
        seed = self.data.config.seed * 1_000_003 + epoch
        batches = self.plan(torch.Generator().manual_seed(seed))
        # Every process needs as many: the first ones are taken twice where they do not divide.
        batches += batches[: -len(batches) % self._processes]
        done = self.data.start[1] if self.data.start[0] == epoch else 0
        yield from batches[rank :: self._processes][done:]

    def __len__(self) -> int:
        return -(-self.count // self._processes)

    @property
    def _processes(self) -> int:
        return self.data.trainer.world_size if self.data.trainer else 1


def cut(order: Sequence[int], size: int) -> list[list[int]]:
    """Runs of ``size``, and what is left."""
    return [list(order[begin : begin + size]) for begin in range(0, len(order), size)]


def shuffled(count: int, generator: torch.Generator) -> list[int]:
    """0 … count - 1 in an order of chance."""
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def by_length(lengths: Sequence[int], size: int) -> Plan:
    """Batches of examples of like length, in an order of chance: little padding, no bias."""

    def plan(generator: torch.Generator) -> list[list[int]]:
        order = shuffled(len(lengths), generator)
        batches = []
        for window in cut(order, WINDOW * size):
            batches += cut(sorted(window, key=lambda index: lengths[index]), size)
        return [batches[index] for index in shuffled(len(batches), generator)]

    return plan


def in_order(count: int, size: int) -> list[list[int]]:
    """Batches for evaluation: as the file has them."""
    return cut(range(count), size)
