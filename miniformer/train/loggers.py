"""Where the numbers of a run go; each logger is imported only when it is asked for."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger

from miniformer.model.tables import row

logger = logging.getLogger(__name__)


def _tensorboard(folder: Path, name: str) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(folder, name="", version="tensorboard")


def _wandb(folder: Path, name: str) -> Logger:
    from lightning.pytorch.loggers import WandbLogger

    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    return WandbLogger(name=name, save_dir=folder, project="miniformer")


LOGGERS: Mapping[str, Callable[[Path, str], Logger] | None] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "csv": None,  # written always: the curves are drawn from it
    "none": None,
}


def make_loggers(name: str, folder: Path, experiment: str) -> list[Any]:
    """The CSV log of a run and the logger of this name; ``none`` is neither.

    ImportError names what to install, except for TensorBoard, the default of old: without it the
    CSV log has to do, with a word.
    """
    make = row(LOGGERS, name, "logger")
    if name == "none":
        return []
    loggers: list[Any] = [CSVLogger(folder, name="logs")]
    if make is None:
        return loggers
    try:
        return [*loggers, make(folder, experiment)]
    except ModuleNotFoundError:
        install = f"pip install 'miniformer-retrieval[{name}]'"
        if name != "tensorboard":
            raise ImportError(f"the {name} logger is not installed: {install}") from None
        logger.warning("TensorBoard is not installed (%s); logging to CSV alone", install)
        return loggers
