"""One run of Lightning, from a configuration to the best model and a table of what was reached."""

import json
import logging
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import (
    Callback,
    EarlyStopping,
    ModelCheckpoint,
)

from miniformer.minilm.devices import pick_device, pick_dtype
from miniformer.train.callbacks import FiniteLoss, KeepBest, TakeUp
from miniformer.train.checkpoints import WholeFiles
from miniformer.train.loggers import make_loggers
from miniformer.train.quiet import quieted
from miniformer.train.run_config import RunConfig

logger = logging.getLogger(__name__)
LOWER_IS_BETTER = re.compile(r"loss|perplexity|error|rmse|mse|mae")
PRECISIONS = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed"}


@dataclass(frozen=True)
class Run:
    """Where a run keeps its files: ``folder`` for checkpoints, logs, curves and the table, ``best``
    for the model folder of the best epoch.
    """

    config: RunConfig
    folder: Path
    best: Path
    name: str = "run"

    @property
    def last(self) -> Path:
        """The checkpoint that ``resume`` goes on from."""
        return self.folder / "checkpoints" / "last.ckpt"

    def check_output(self) -> None:
        """FileExistsError where a model lies already that this run would not go on from."""
        if (self.best / "config.json").exists() and not self.config.resume:
            raise FileExistsError(
                f"{self.best} holds a model; choose another folder, or resume its run"
            )


def fit(
    run: Run,
    module: pl.LightningModule,
    data: pl.LightningDataModule,
    export: Callable[[Path], None],
    callbacks: Sequence[Callback] = (),
    *,
    metric: str,
    test: bool = False,
) -> dict[str, float]:
    """Train, keep the best, and return the metrics of the best epoch and of the test.

    ``callbacks`` come before those that compare epochs. KeyboardInterrupt when it was interrupted:
    what is kept goes on with ``resume``. FloatingPointError for a loss that is no number, OSError
    for a checkpoint that cannot be written, ValueError for one that cannot be read.
    """
    config = run.config
    loggers = make_loggers(config.logger, run.folder, run.name)
    resumed = checkpoint_of(run)
    keep = KeepBest(export, run.best, metric, direction(metric))
    history = History()
    began = time.monotonic()
    with quieted():
        try:
            trainer = make_trainer(run, loggers, [*callbacks, history, keep], metric)
            trainer.fit(module, datamodule=data, ckpt_path=resumed, weights_only=True)
        except MisconfigurationException as error:  # Lightning's own, of a strategy or device
            raise ValueError(" ".join(str(error).split())) from None
        except RuntimeError as error:
            if "loading state_dict" not in str(error):
                raise
            differences = " ".join(str(error).split())
            raise ValueError(f"{resumed} is of another model: {differences}") from None
        except SystemExit as end:
            if trainer.interrupted and end.code == 1:  # Lightning's way to end on Ctrl-C
                raise KeyboardInterrupt("what was kept goes on with resume") from None
            raise
        results = history.at(keep.epoch)
        if test:
            (tested,) = trainer.test(
                module, datamodule=data, ckpt_path="best", weights_only=True, verbose=False
            )
            results |= {name: float(value) for name, value in tested.items()}
    results["seconds"] = time.monotonic() - began
    if trainer.is_global_zero:
        finish(run, results, history)
    return results


def make_trainer(
    run: Run, loggers: list[Any], callbacks: Sequence[Callback], metric: str
) -> pl.Trainer:
    """Lightning's trainer for a run."""
    config = run.config
    mode = direction(metric)
    watched: dict[str, Any] = {"monitor": metric, "mode": mode} if metric else {}
    comparing: list[Callback] = [
        ModelCheckpoint(
            run.last.parent,
            "best",
            save_last=True,
            enable_version_counter=False,
            save_on_train_epoch_end=True,
            **watched,
        )
    ]
    if metric and config.early_stopping_patience:
        patience = config.early_stopping_patience
        comparing.append(
            EarlyStopping(metric, patience=patience, mode=mode, check_on_train_epoch_end=True)
        )
    pl.seed_everything(config.seed, workers=True, verbose=False)
    return pl.Trainer(
        **hardware(config),
        strategy=config.strategy,
        num_nodes=config.num_nodes,
        max_epochs=config.max_epochs,
        accumulate_grad_batches=config.accumulate_grad_batches,
        gradient_clip_val=config.gradient_clip_val or None,
        callbacks=[*callbacks, *comparing, FiniteLoss(), TakeUp(run.last)],
        logger=loggers or False,
        plugins=[WholeFiles()],
        default_root_dir=run.folder,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=10,
    )


def direction(metric: str) -> str:
    """Whether a metric is better when it is lower, ``min``, or higher, ``max``."""
    return "min" if LOWER_IS_BETTER.search(metric) else "max"


def hardware(config: RunConfig) -> dict[str, Any]:
    """Accelerator, devices and precision; a word where GPUs were asked for and there are none."""
    there = torch.cuda.device_count() or int(torch.backends.mps.is_available())
    if config.gpus > there:
        logger.warning(
            "gpus=%d, but this machine has %d; training on %s",
            config.gpus,
            there,
            ("them" if there else "the CPU"),
        )
    on_gpu = min(config.gpus, there) > 0
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if pick_dtype("auto", pick_device("auto")) == torch.bfloat16 else "32"
    return {
        "accelerator": "gpu" if on_gpu else "cpu",
        "devices": config.devices or (min(config.gpus, there) if on_gpu else 1),
        "precision": PRECISIONS[precision],
    }


def checkpoint_of(run: Run) -> str | None:
    """The checkpoint to go on from; FileNotFoundError where it is not there."""
    if not run.config.resume:
        return None
    path = run.last if run.config.resume == "last" else Path(run.config.resume)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no checkpoint to go on from; start without resume")
    return str(path)


class History(Callback):
    """The metrics of every epoch."""

    def __init__(self) -> None:
        self.epochs: dict[int, dict[str, float]] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note what the epoch reached."""
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name != "lr" and not name.endswith(("_step", "_epoch"))
        }
        self.epochs[trainer.current_epoch] = metrics
        shown = [f"{name} {value:.4g}" for name, value in metrics.items()]
        logger.info(
            "epoch %d of %s: %s", trainer.current_epoch + 1, trainer.max_epochs, ", ".join(shown)
        )

    def at(self, epoch: int) -> dict[str, float]:
        """The metrics of an epoch; none where it was not run."""
        return {"epoch": float(epoch), **self.epochs.get(epoch, {})}

    def state_dict(self) -> dict[str, Any]:
        """Every epoch so far."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Every epoch so far."""
        self.epochs = state_dict["epochs"]


def finish(run: Run, results: Mapping[str, float], history: History) -> None:
    """Write ``results.json`` and, where there is matplotlib, ``curves.png``."""
    described = {"best": dict(results), "epochs": history.epochs, "config": run.config.to_dict()}
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "results.json").write_text(json.dumps(described, indent=2) + "\n")
    if not (run.folder / "logs").is_dir():
        return
    try:
        from miniformer.visualization.curves import plot_training

        plot_training(run.folder / "logs", path=run.folder / "curves.png")
    except (ImportError, FileNotFoundError, ValueError) as error:
        logger.info("no curves are drawn: %s", error)
