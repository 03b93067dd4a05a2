"""Training with Lightning: every Miniformer task, and sentence encoders."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miniformer.train.contrastive import LOSSES, Embedded, LossKind
    from miniformer.train.datamodule import JSONLinesDataset, MiniFormerDataModule
    from miniformer.train.encoder import train_encoder
    from miniformer.train.encoder_config import EncoderConfig
    from miniformer.train.module import MiniFormerLitModule
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
    "TASKS": "tasks",
    "TrainConfig": "train_config",
    "train": "trainer",
    "train_encoder": "encoder",
}
__all__ = [
    "LOSSES",
    "TASKS",
    "Embedded",
    "EncoderConfig",
    "GeneratorConfig",
    "JSONLinesDataset",
    "LossKind",
    "MiniFormerDataModule",
    "MiniFormerLitModule",
    "TrainConfig",
    "train",
    "train_encoder",
]


def __getattr__(name: str) -> object:
    """Import a public name the first time it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'miniformer.train' has no attribute {name!r}")
    return getattr(import_module(f"miniformer.train.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
