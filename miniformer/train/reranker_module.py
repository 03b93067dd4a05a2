"""A reranker under training, as Lightning drives it."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from miniformer.minilm.cross_encoder import CrossEncoder, load_cross_encoder, save_cross_encoder
from miniformer.minilm.folder import SentenceSpec, read_spec
from miniformer.train.lora import add_lora, merged
from miniformer.train.ranking import RANKING_LOSSES, RankingLoss, reciprocal_rank
from miniformer.train.reranker_config import RerankerConfig
from miniformer.train.reranker_data import RankingBatch
from miniformer.train.steps import SteppingModule
from miniformer.weights import find_model

TOKEN_TABLE = "bert.embeddings.word_embeddings.weight"


class RerankerLitModule(SteppingModule):
    """Teach a :class:`CrossEncoder` by one of :data:`RANKING_LOSSES`; ``loss`` replaces it."""

    config: RerankerConfig

    def __init__(self, config: RerankerConfig, loss: RankingLoss | None = None) -> None:
        super().__init__()
        self.config = config
        self.folder = find_model(config.base).path
        self.spec = read_spec(self.folder)
        self.model = build_reranker(self.folder, self.spec, config)
        self.loss = loss or RANKING_LOSSES[config.loss]
        self.save_hyperparameters(config.to_dict())

    def training_step(self, batch: RankingBatch, index: int) -> Tensor:
        """The loss of a batch, logged as ``train_loss``."""
        loss = self.loss(self.score(batch))
        self.log("train_loss", loss, batch_size=batch.shape[0], on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: RankingBatch, index: int) -> None:
        """Loss and mean reciprocal rank on the validation file, as ``val_loss`` and ``val_mrr``."""
        scores = self.score(batch)
        metrics = {"val_loss": self.loss(scores), "val_mrr": reciprocal_rank(scores)}
        self.log_dict(metrics, batch_size=batch.shape[0], prog_bar=True, sync_dist=True)

    def score(self, batch: RankingBatch) -> Tensor:
        """The scores [B, C], chunk by chunk. The token table's rows are picked once for all chunks,
        each of which would otherwise make a gradient of the whole table.
        """
        table = self.model.bert.embeddings.word_embeddings.weight[batch.tokens]  # [U, hidden]

        def score(table: Tensor, *chunk: Tensor) -> Tensor:
            scored: Tensor = functional_call(self.model, {TOKEN_TABLE: table}, chunk)
            return scored

        if self.config.gradient_checkpointing and torch.is_grad_enabled():
            score = partial(checkpoint, score, use_reentrant=False)
        scores = torch.cat([score(table, *chunk) for chunk in batch.chunks])
        return scores[batch.order].view(batch.shape).float()

    def export(self, folder: Path) -> None:
        """Write the model folder that ``--rerank``, sentence-transformers and transformers open."""
        with merged(self.model):
            save_cross_encoder(self.model, self.spec, self.folder, folder)


def build_reranker(folder: Path, spec: SentenceSpec, config: RerankerConfig) -> CrossEncoder:
    """The base's weights, under a fresh head where it has none, with what is not to learn held
    still.
    """
    rate = config.dropout
    changes = {} if rate is None else {"hidden_dropout_prob": rate, "classifier_dropout": rate}
    shape = replace(spec, body={**spec.body, **changes})
    length = min(config.max_length, spec.body["max_position_embeddings"])
    model = CrossEncoder.from_spec(shape, max_length=length)
    torch.manual_seed(config.seed)
    load_cross_encoder(model, folder, fresh_heads=True).train()
    if config.freeze_embeddings:
        model.bert.embeddings.requires_grad_(False)
    if config.lora_rank:
        add_lora(model, config.lora_rank, config.lora_alpha, config.lora_targets)
        model.classifier.requires_grad_(True)  # fresh, or of another task: a rank is not enough
    return model
