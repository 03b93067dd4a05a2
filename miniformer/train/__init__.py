"""Training with Lightning: every Miniformer task, sentence encoders and rerankers."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miniformer.train.contrastive import LOSSES, Embedded, LossKind
    from miniformer.train.datamodule import JSONLinesDataset, MiniFormerDataModule
    from miniformer.train.encoder import train_encoder
    from miniformer.train.encoder_config import EncoderConfig
    from miniformer.train.module import MiniFormerLitModule
    from miniformer.train.ranking import RANKING_LOSSES
    from miniformer.train.reranker import train_reranker
    from miniformer.train.reranker_config import RerankerConfig
    from miniformer.train.tasks import TASKS
    from miniformer.train.train_config import GeneratorConfig, TrainConfig
    from miniformer.train.trainer import train

_HOMES = {
    "Embedded": "contrastive",
    "EncoderConfig": "encoder_config",
    "GeneratorConfig": "train_config",
    "JSONLinesDataset": "datamodule",
    "LOSSES": "contrastive",
    "LossKind": "contrastive",
    "MiniFormerDataModule": "datamodule",
    "MiniFormerLitModule": "module",
    "RANKING_LOSSES": "ranking",
    "RerankerConfig": "reranker_config",
    "TASKS": "tasks",
    "TrainConfig": "train_config",
    "train": "trainer",
    "train_encoder": "encoder",
    "train_reranker": "reranker",
}
__all__ = [
    "LOSSES",
    "RANKING_LOSSES",
    "TASKS",
    "Embedded",
    "EncoderConfig",
    "GeneratorConfig",
    "JSONLinesDataset",
    "LossKind",
    "MiniFormerDataModule",
    "MiniFormerLitModule",
    "RerankerConfig",
    "TrainConfig",
    "train",
    "train_encoder",
    "train_reranker",
]


def __getattr__(name: str) -> object:
    """Import a public name the first time it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'miniformer.train' has no attribute {name!r}")
    return getattr(import_module(f"miniformer.train.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
