"""A sentence encoder under training, as Lightning drives it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from miniformer.minilm.folder import SentenceSpec, read_spec
from miniformer.minilm.mini_lm_model import SentenceTransformer
from miniformer.minilm.model_loader import load_folder
from miniformer.minilm.saving import save_sentence_transformer
from miniformer.train.contrastive import Embedded, Loss, make_loss
from miniformer.train.encoder_config import EncoderConfig
from miniformer.train.lora import add_lora, merged, save_adapter
from miniformer.train.pairs import PairBatch
from miniformer.train.steps import SteppingModule
from miniformer.weights import find_model

TOKEN_TABLE = "model.embeddings.word_embeddings.weight"


class EncoderLitModule(SteppingModule):
    """Teach a :class:`SentenceTransformer` by one of :data:`LOSSES`.

    ``loss`` replaces the configured one. With ``cached`` the activations of a batch are forgotten
    and computed again chunk by chunk, under the same dropout, when their gradients are due (Gao et
    al. 2021): memory is that of one chunk, the gradient that of the whole batch.
    """

    config: EncoderConfig

    def __init__(self, config: EncoderConfig, loss: Loss | None = None) -> None:
        super().__init__()
        self.config = config
        self.folder = find_model(config.base).path
        self.spec = read_spec(self.folder)
        self.model = build_encoder(self.folder, self.spec, config)
        self.loss = loss or make_loss(config.kind, vars(config), config.dims)
        self.teacher: SentenceTransformer | None = None
        self.save_hyperparameters(config.to_dict())

    def setup(self, stage: str) -> None:
        """Load the teacher where the loss wants one and the records do not bring its embeddings."""
        if self.config.kind.taught and not self.trainer.datamodule.has_targets:  # type: ignore[attr-defined]
            self.teacher = SentenceTransformer.from_pretrained(
                self.config.teacher, max_length=self.model.model.max_length
            ).requires_grad_(False)

    def on_fit_start(self) -> None:
        """Teachers hold still: no dropout, and weights that are converted once."""
        if self.teacher is not None:
            half = self.trainer.precision == "bf16-mixed"
            self.teacher.eval().to(self.device, torch.bfloat16 if half else torch.float32)

    def training_step(self, batch: PairBatch, index: int) -> Tensor:
        """The loss of a batch, logged as ``train_loss``."""
        loss = self.loss(self.embed(batch))
        size = batch.texts.size(1)
        self.log("train_loss", loss, batch_size=size, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: PairBatch, index: int) -> None:
        """The loss of a batch of the validation file, as ``val_loss``."""
        loss = self.loss(self.embed(batch))
        size = batch.texts.size(1)
        self.log("val_loss", loss, batch_size=size, prog_bar=True, sync_dist=True)

    def embed(self, batch: PairBatch) -> Embedded:
        """Encode a batch chunk by chunk and put the rows into their columns."""
        targets = batch.targets
        if self.teacher is not None:
            with torch.no_grad():
                targets = self._encode(self.teacher, batch)
        cached = self.config.cached or self.config.gradient_checkpointing
        columns = self._encode(self.model, batch, cached=cached)
        return Embedded(columns, batch.texts, batch.scores, targets)

    def _encode(
        self, model: SentenceTransformer, batch: PairBatch, *, cached: bool = False
    ) -> Tensor:
        """The columns [C, B, dim]. The token table's rows are picked once for all chunks, each of
        which would otherwise make a gradient of the whole table.
        """
        table = model.model.embeddings.word_embeddings.weight[batch.tokens]  # [U, hidden]

        def encode(table: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
            encoded: Tensor = functional_call(model, {TOKEN_TABLE: table}, (ids, mask))
            return encoded

        if cached and torch.is_grad_enabled():
            encode = partial(checkpoint, encode, use_reentrant=False)
        chunks = [encode(table, ids, mask) for ids, mask in batch.chunks]
        return torch.cat(chunks)[batch.order].view(*batch.texts.shape, -1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The teacher is found again by its name."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {n: t for n, t in state.items() if not n.startswith("teacher.")}

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """A teacher that stands beside the checkpoint is complete already."""
        if self.teacher is not None:
            for name, tensor in self.teacher.state_dict().items():
                checkpoint["state_dict"][f"teacher.{name}"] = tensor

    def export(self, folder: Path) -> None:
        """Write the model folder that ``--model`` and sentence-transformers open, the weights
        averaged with the base's by ``base_share``.
        """
        save_adapter(self.model, folder / "adapter.safetensors")
        with merged(self.model):
            saved = self._averaged() if self.config.base_share else self.model
            save_sentence_transformer(saved, self.spec, self.folder, folder)

    @torch.no_grad()
    def _averaged(self) -> SentenceTransformer:
        """Between base and fine-tuned weights: what the base knew is kept where the training texts
        have nothing of it (Wortsman et al. 2022, Robust fine-tuning of zero-shot models).
        """
        between = build_encoder(self.folder, self.spec, self.config)
        trained = self.model.state_dict()
        for name, weights in between.state_dict().items():
            weights.lerp_(trained[name].to(weights), 1 - self.config.base_share)
        return between


def build_encoder(folder: Path, spec: SentenceSpec, config: EncoderConfig) -> SentenceTransformer:
    """The base's weights, at the configured depth, with what is not to learn held still."""
    rate = 0.0 if config.dropout is None and config.kind.taught else config.dropout
    body = {**spec.body} if rate is None else {**spec.body, "hidden_dropout_prob": rate}
    shape = replace(spec, body=body)
    model = SentenceTransformer.from_spec(shape, max_length=config.max_length or None)
    load_folder(model, folder).train()
    layers = model.model.encoder.layer
    if config.layer_numbers:
        kept = chosen_layers(len(layers), config.layer_numbers)
        model.model.encoder.layer = nn.ModuleList(layers[index] for index in kept)
    model.model.pooler.requires_grad_(False)  # no embedding reads it
    if config.freeze_embeddings:
        model.model.embeddings.requires_grad_(False)
    if config.lora_rank:
        add_lora(model, config.lora_rank, config.lora_alpha, config.lora_targets)
    return model


def chosen_layers(layers: int, asked: Sequence[int]) -> list[int]:
    """Which of ``layers`` layers stay: those that are listed or, of one number, so many, evenly
    spread, the last among them. ValueError where there are not enough.
    """
    if len(asked) > 1:
        if max(asked) >= layers:
            raise ValueError(f"layer {max(asked)} is asked for; the base's are 0 … {layers - 1}")
        return list(asked)
    (kept,) = asked
    if not 0 < kept <= layers:
        raise ValueError(f"layers {kept} is asked for; the base has 1 … {layers}")
    return [(index + 1) * layers // kept - 1 for index in range(kept)]
