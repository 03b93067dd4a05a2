"""From examples to the tensors of a batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from miniformer.minilm.tokenizer import pad
from miniformer.model.passages import PassageRows, stack_rows
from miniformer.model.pointer import NOWHERE

IGNORED = -100  # a position without a target


@dataclass(frozen=True)
class Example:
    """What is read (ids, or rows of passages), what is to be predicted, and the texts that an
    answer is compared with.
    """

    source: Any
    target: Any  # list[int], int, float, or the row, first and last place of a span
    golds: tuple[str, ...] = ()


@dataclass
class TaskBatch:
    """Ids [B, S] (or [B, k, S]) and mask; targets [B, T] (−100 where there is none) or [B]; the
    right answers, and for pointing what was read and where a span may lie, bool [B, k, S].
    """

    source: Tensor
    mask: Tensor
    target: Tensor
    golds: list[tuple[str, ...]] = field(default_factory=list)
    read: list[PassageRows] = field(default_factory=list)
    windows: Tensor | None = None


Collate = Callable[[Sequence[Example], int], TaskBatch]


def collate(examples: Sequence[Example], pad_token_id: int) -> TaskBatch:
    """Pad examples into a batch."""
    source, mask = pad([example.source for example in examples])
    source = torch.where(mask.bool(), source, pad_token_id)
    targets = [example.target for example in examples]
    target = _padded(targets) if isinstance(targets[0], list) else torch.tensor(targets)
    return TaskBatch(source, mask, target, [example.golds for example in examples])


def _padded(targets: Sequence[list[int]]) -> Tensor:
    padded, real = pad(targets)
    return torch.where(real.bool(), padded, IGNORED)


def collate_passages(examples: Sequence[Example], pad_token_id: int) -> TaskBatch:
    """Stack the rows of each example; a span becomes the two outputs that point at its ends."""
    read = [example.source for example in examples]
    source, mask, windows = stack_rows(read)
    source = torch.where(mask.bool(), source, pad_token_id)
    target = torch.full((len(examples), 2), IGNORED)
    for index, example in enumerate(examples):
        if example.target is None:
            target[index, 0] = NOWHERE
            continue
        row, *ends = example.target
        target[index] = 1 + row * source.size(2) + torch.tensor(ends)
    return TaskBatch(source, mask, target, [example.golds for example in examples], read, windows)
