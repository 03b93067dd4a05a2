"""A Miniformer model under training, as Lightning drives it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from miniformer.config.model_config import TransformerConfig
from miniformer.model.pretrained import minilm_config, warm_start
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.tables import row
from miniformer.model.transformer import Transformer
from miniformer.train.answers import ANSWER_METRICS, best_of
from miniformer.train.collate import IGNORED, TaskBatch
from miniformer.train.lora import add_lora, merged, save_adapter
from miniformer.train.steps import SteppingModule
from miniformer.train.tasks import TASKS, hide
from miniformer.train.tokenization import special_ids
from miniformer.train.train_config import TrainConfig, is_bert

CLASSES = {"transformer": Transformer, "seq2seq": Seq2SeqTransformer}


class MiniFormerLitModule(SteppingModule):
    """Teach a :class:`Transformer` or :class:`Seq2SeqTransformer` the configured task.

    Logs ``train_loss``, ``val_loss`` and the task's metrics. ``scale`` (mean, deviation) is that of
    regression's numbers: the model learns them at a deviation of 1 and gives them back as they were
    once it is exported.
    """

    config: TrainConfig

    def __init__(
        self,
        train_config: TrainConfig,
        tokenizer: Any = None,
        outputs: int | None = None,
        scale: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        self.config = train_config
        self.task = row(TASKS, train_config.task, "task")
        if train_config.model not in self.task.models:
            known = ", ".join(self.task.models)
            raise ValueError(f"{train_config.task} is learned by {known}, not {train_config.model}")
        self.tokenizer = tokenizer
        self.mean, self.deviation = scale
        self.model = build_model(train_config, tokenizer, outputs)
        if train_config.lora_rank:
            add_lora(
                *(self.model, train_config.lora_rank),
                *(train_config.lora_alpha, train_config.lora_targets),
            )
        self.answered = 0
        self.save_hyperparameters({**train_config.to_dict(), "outputs": outputs, "scale": scale})

    def training_step(self, batch: TaskBatch, index: int) -> Tensor:
        """The loss of a batch, logged as ``train_loss``."""
        if self.task.masked:
            batch = hide(batch, self.tokenizer)
        predicted = self.predict(batch)
        loss = self.task.loss(predicted, self._scaled(batch.target), self.config.label_smoothing)
        self.log("train_loss", loss, batch_size=len(batch.source), on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: TaskBatch, index: int) -> None:
        """Loss and metrics of a batch, as ``val_…``."""
        self._measure(batch, "val", index)

    def test_step(self, batch: TaskBatch, index: int) -> None:
        """Loss and metrics of a batch, as ``test_…``."""
        self._measure(batch, "test", index)

    def on_validation_epoch_start(self) -> None:
        """Answers are counted anew."""
        self.answered = 0

    def on_validation_epoch_end(self) -> None:
        """Perplexity from the loss, the root of the squared error."""
        self._derive("val")

    on_test_epoch_start = on_validation_epoch_start

    def on_test_epoch_end(self) -> None:
        """As for validation."""
        self._derive("test")

    def predict(self, batch: TaskBatch) -> Tensor:
        """What stands where targets are: [B, T, outputs], or [B, outputs] for one a text."""
        single = batch.target.dim() == 1
        if isinstance(self.model, Transformer):
            logits: Tensor = self.model(batch.source, batch.mask)
        else:
            logits = self.model(batch.source, self._written_before(batch), batch.mask)[0]
        return logits[:, 0] if single else logits

    def _written_before(self, batch: TaskBatch) -> Tensor:
        """What a decoder has written before each target, [B, T]: first the start token."""
        config = self.model.config
        start = batch.source.new_full((len(batch.source), 1), config.start_token_id)
        if batch.target.dim() == 1:
            return start
        before = batch.target[:, :-1]
        return torch.cat([start, before.masked_fill(before == IGNORED, config.pad_token_id)], 1)

    def _scaled(self, target: Tensor) -> Tensor:
        if not target.is_floating_point():
            return target
        return (target - self.mean) / self.deviation

    def _measure(self, batch: TaskBatch, stage: str, index: int) -> None:
        if self.task.masked:  # the same tokens each time
            batch = hide(batch, self.tokenizer, torch.Generator().manual_seed(index))
        predicted, target = self.predict(batch), self._scaled(batch.target)
        size = int((target != IGNORED).sum())
        loss = self.task.loss(predicted, target, 0.0)
        self.log(f"{stage}_loss", loss, batch_size=size, prog_bar=True, sync_dist=True)
        name, metric = self.task.metric
        value, count = metric(predicted, target)
        if count:
            self.log(f"{stage}_{name}", value, batch_size=count, sync_dist=True)
        if self.task.answer and self.answered < self.config.generate_examples:
            self._answer(batch, stage)

    def _answer(self, batch: TaskBatch, stage: str) -> None:
        """Write answers and compare them with the right ones."""
        assert self.task.answer is not None
        self.answered += len(batch.source)
        written = self.task.answer(self.model, batch, self.tokenizer)
        for name, metric in ANSWER_METRICS.items():
            scores = [best_of(metric, a, g) for a, g in zip(written, batch.golds, strict=True)]
            mean = sum(scores) / len(scores)
            self.log(f"{stage}_{name}", mean, batch_size=len(scores), sync_dist=True)

    def _derive(self, stage: str) -> None:
        metrics = self.trainer.callback_metrics
        loss, error = metrics.get(f"{stage}_loss"), metrics.get(f"{stage}_squared_error")
        if loss is not None and self.task.outputs is None:
            self.log(f"{stage}_perplexity", loss.exp())
        if error is not None:
            self.log(f"{stage}_rmse", error.sqrt() * self.deviation)

    def export(self, folder: Path) -> None:
        """Write the model folder and its tokenizer, as ``from_pretrained`` reads them."""
        save_adapter(self.model, folder / "adapter.safetensors")
        compact = getattr(self.config, "compact", "")
        how = (None, compact) if compact else (self.tokenizer,)  # the base has the tokenizer too
        with merged(self.model), self._unscaled():
            self.model.save_pretrained(folder, *how)

    @contextmanager
    def _unscaled(self) -> Iterator[None]:
        """While it lasts the head gives regression's numbers as the file has them."""
        if (self.mean, self.deviation) == (0.0, 1.0):
            yield
            return
        head = self.model.output_projection
        assert isinstance(head, nn.Linear)
        before = head.weight.data, head.bias.data
        head.weight.data = before[0] * self.deviation
        head.bias.data = before[1] * self.deviation + self.mean
        try:
            yield
        finally:
            head.weight.data, head.bias.data = before


def build_model(config: TrainConfig, tokenizer: Any, outputs: int | None) -> Any:
    """A fresh model of the configuration, or the base with what the configuration changes."""
    cls = CLASSES[config.model]
    task = row(TASKS, config.task, "task")
    changes: dict[str, Any] = dict(config.model_config)
    if outputs is not None:
        changes["output_dim"] = outputs
    if task.causal and config.model == "transformer":
        changes["causal"] = True
    if config.gradient_checkpointing:
        changes["gradient_checkpointing"] = True
    torch.manual_seed(config.seed)
    if config.base:
        model = _from_base(cls, config.base, changes)
        if config.freeze_embeddings:
            freeze_embeddings(model)
        return model
    if tokenizer is not None:
        changes = {"vocab_size": len(tokenizer), **special_ids(tokenizer), **changes}
        if changes["vocab_size"] < len(tokenizer):
            wanted, given = len(tokenizer), changes["vocab_size"]
            raise ValueError(f"the tokenizer has {wanted} tokens, vocab_size is {given}")
    return cls(TransformerConfig.from_dict(changes))


def freeze_embeddings(model: Any) -> None:
    """Leave what the encoder reads, tokens and places, as it is: it needs no gradient, and a folder
    of the base has it already.
    """
    for part in (model.token_embedding, model.encoder.position, model.encoder.input):
        part.requires_grad_(False)


def _from_base(cls: Any, base: str, changes: dict[str, Any]) -> Any:
    if is_bert(base):
        if cls is not Seq2SeqTransformer:
            raise ValueError(f"{base} can only be the encoder half of a seq2seq model")
        return warm_start(cls(minilm_config(base, **changes)), base)
    model = cls.from_pretrained(base)
    unknown = changes.keys() - {each.name for each in fields(TransformerConfig)}
    built = {n for n, v in changes.items() if n in unknown or getattr(model.config, n) != v}
    if built - {"dropout", "gradient_checkpointing"}:
        raise ValueError(f"{base} cannot be given another {', '.join(sorted(built))}")
    if not built:
        return model
    changed = cls(replace(model.config, **changes))
    changed.load_state_dict(model.state_dict())
    return changed
