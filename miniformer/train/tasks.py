"""What can be learned: for each task how a record becomes ids, and which loss and metric it has."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from miniformer.model.passages import plain
from miniformer.train.collate import IGNORED, Collate, Example, TaskBatch, collate, collate_passages
from miniformer.train.pointing import (
    answers_of,
    passages_of,
    point_out,
    pointing_example,
    pointing_loss,
)
from miniformer.train.records import Record

ASKED = 0.15  # of the tokens by masked_lm
MASKED, RANDOM = 0.8, 0.1  # of these


@dataclass(frozen=True)
class Reading:
    """With what records are read: a tokenizer, the most tokens, the architecture, the outputs."""

    tokenizer: Any
    max_length: int
    model: str
    outputs: int | None = None

    def ids(self, text: str) -> list[int]:
        """A text as the model will be given it in use."""
        ids: list[int] = self.tokenizer(text, truncation=True, max_length=self.max_length).input_ids
        return ids

    def target(self, text: str) -> list[int]:
        """A text as it is to be written, with its end."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return [*ids[: self.max_length - 1], self.end]

    @cached_property
    def plain_tokenizer(self) -> Any:
        """For whole passages, and what stands in them; ValueError where there is none."""
        fast = getattr(self.tokenizer, "backend_tokenizer", None)
        if fast is None or None in (fast.token_to_id("[CLS]"), fast.token_to_id("[SEP]")):
            raise ValueError("pointing needs a fast tokenizer with [CLS] and [SEP], as MiniLM's")
        return plain(fast)

    @property
    def end(self) -> int:
        """The token that ends a text."""
        eos = self.tokenizer.eos_token_id
        return int(self.tokenizer.sep_token_id if eos is None else eos)


def language_example(record: Record, reading: Reading) -> Example:
    """Every token from those before it; a seq2seq model reads the first half and goes on."""
    text = record.text("text")
    if reading.model == "transformer":
        ids = [i for i in reading.ids(text) if i != reading.end]
        return Example(ids, [*ids[1:], reading.end])
    offsets = reading.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    places = [begin for begin, _ in offsets.offset_mapping[: 2 * reading.max_length]]
    middle = places[len(places) // 2] if len(places) > 1 else 0
    rest = text[middle:]
    return Example(reading.ids(text[:middle]), reading.target(rest), (rest,))


def masked_example(record: Record, reading: Reading) -> Example:
    """The text; which of its tokens are asked for is drawn anew for every batch."""
    if reading.tokenizer.mask_token_id is None:
        raise ValueError("masked_lm needs a tokenizer with a mask token")
    ids = reading.ids(record.text("text"))
    return Example(ids, ids)


def class_example(record: Record, reading: Reading) -> Example:
    """The whole text and its class."""
    label = _label(record, record.field("label"), reading.outputs)
    return Example(reading.ids(record.text("input")), label)


def token_example(record: Record, reading: Reading) -> Example:
    """Words and a class for each, which stands at the word's first token."""
    words, labels = record.field("tokens"), record.field("labels")
    if not isinstance(words, list) or not isinstance(labels, list) or len(words) != len(labels):
        raise ValueError(f"{record.where}: 'tokens' and 'labels' must be lists of one length")
    ids, targets = list(reading.ids(""))[:1], [IGNORED]
    for word, label in zip(words, labels, strict=True):
        pieces = reading.tokenizer(f" {word}", add_special_tokens=False).input_ids
        ids += pieces
        targets += [_label(record, label, reading.outputs), *[IGNORED] * (len(pieces) - 1)]
    return Example(ids[: reading.max_length], targets[: reading.max_length])


def value_example(record: Record, reading: Reading) -> Example:
    """The whole text and its number."""
    return Example(reading.ids(record.text("input")), record.number("value", "label"))


def answer_example(record: Record, reading: Reading) -> Example:
    """A source and its target, or a question with what it is asked of and its answers."""
    if "question" not in record:
        target = record.text("target")
        return Example(reading.ids(record.text("source")), reading.target(target), (target,))
    passages, golds = passages_of(record), answers_of(record)
    if not golds:
        raise ValueError(f"{record.where}: 'answers' is empty; this task needs one to write")
    source = f"question: {record.text('question')} context: {' '.join(passages)}"
    return Example(reading.ids(source), reading.target(golds[0]), tuple(golds))


def _label(record: Record, label: Any, outputs: int | None) -> int:
    if isinstance(label, bool) or not isinstance(label, int) or label < 0:
        raise ValueError(f"{record.where}: a label must be a whole number from 0, found {label!r}")
    if outputs is not None and label >= outputs:
        raise ValueError(
            f"{record.where}: label {label} is out of range; output_dim {outputs} allows 0 … "
            f"{outputs - 1}"
        )
    return label


def token_loss(predicted: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy over classes or tokens, [..., C] against [...]: the mean where asked for."""
    flat = predicted.flatten(0, -2).float()
    return F.cross_entropy(flat, target.flatten(), ignore_index=IGNORED, label_smoothing=smoothing)


def value_loss(predicted: Tensor, target: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean squared error of [B, 1] against [B]."""
    return F.mse_loss(predicted[..., 0].float(), target)


def accuracy(predicted: Tensor, target: Tensor) -> tuple[Tensor, int]:
    """The share of right classes or tokens, and of how many."""
    asked = target != IGNORED
    right = (predicted.argmax(dim=-1) == target)[asked]
    return right.float().mean() if right.numel() else right.sum().float(), right.numel()


def squared_error(predicted: Tensor, target: Tensor) -> tuple[Tensor, int]:
    """Mean squared error, and of how many; its root is reported."""
    return value_loss(predicted, target), target.numel()


def write_out(model: Any, batch: TaskBatch, tokenizer: Any) -> list[str]:
    """What the model writes for each example."""
    length = max(8, batch.target.size(1))
    ids = model.generate(batch.source, batch.mask, max_new_tokens=length)
    written: list[str] = tokenizer.batch_decode(ids, skip_special_tokens=True)
    return written


def hide(batch: TaskBatch, tokenizer: Any, generator: torch.Generator | None = None) -> TaskBatch:
    """Ask for 15 % of the tokens (Devlin et al. 2019): of these 80 % masked, 10 % others, 10 % as
    they are. Special tokens are never asked for.
    """
    ids, real = batch.source, batch.mask.bool()
    for special in tokenizer.all_special_ids:
        real = real & (ids != special)
    # Drawn on the CPU, so that a seed hides the same tokens everywhere.
    chance, how = torch.rand(2, *ids.shape, generator=generator).to(ids.device)
    other = torch.randint(len(tokenizer), ids.shape, generator=generator).to(ids.device)
    asked = (chance < ASKED) & real
    hidden = torch.where(asked & (how < MASKED), tokenizer.mask_token_id, ids)
    hidden = torch.where(asked & (how >= MASKED) & (how < MASKED + RANDOM), other, hidden)
    return TaskBatch(hidden, batch.mask, torch.where(asked, ids, IGNORED), batch.golds)


@dataclass(frozen=True)
class Task:
    """A row of :data:`TASKS`. ``outputs`` is what the head gives: one a token of the vocabulary
    (None), one (1), or as many as there are classes (0). ``answer`` gives the answers of a batch.
    """

    line: str
    example: Callable[[Record, Reading], Example]
    outputs: int | None = None
    loss: Callable[[Tensor, Tensor, float], Tensor] = token_loss
    metric: tuple[str, Callable[[Tensor, Tensor], tuple[Tensor, int]]] = ("accuracy", accuracy)
    models: tuple[str, ...] = ("transformer", "seq2seq")
    causal: bool = False
    masked: bool = False
    collate: Collate = collate
    answer: Callable[[Any, TaskBatch, Any], list[str]] | None = None


TASKS: Mapping[str, Task] = {
    "language_modeling": Task('{"text": "…"}', language_example, causal=True),
    "masked_lm": Task('{"text": "…"}', masked_example, models=("transformer",), masked=True),
    "classification": Task('{"input": "…", "label": 1}', class_example, outputs=0),
    "token_classification": Task(
        '{"tokens": ["…", "…"], "labels": [0, 1]}',
        token_example,
        outputs=0,
        models=("transformer",),
    ),
    "regression": Task(
        '{"input": "…", "value": 32.0}',
        value_example,
        outputs=1,
        loss=value_loss,
        metric=("squared_error", squared_error),
    ),
    "seq2seq": Task(
        '{"source": "…", "target": "…"}', answer_example, models=("seq2seq",), answer=write_out
    ),
    "pointing": Task(
        '{"question": "…", "passages": ["…"], "answers": ["…"]}',
        pointing_example,
        loss=pointing_loss,
        models=("seq2seq",),
        collate=collate_passages,
        answer=point_out,
    ),
}
