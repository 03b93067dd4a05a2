"""What happens beside the steps of a run: keeping the best, stopping and taking up again."""

import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback

SAVE_EVERY = 300.0  # seconds


class KeepBest(Callback):
    """Export the model when an epoch has the best metric so far (the last epoch, without one)."""

    def __init__(
        self, export: Callable[[Path], None], folder: Path, metric: str, mode: str
    ) -> None:
        self.export, self.folder, self.metric = export, folder, metric
        self.sign = 1.0 if mode == "max" else -1.0
        self.best: float | None = None
        self.epoch = -1

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare, and write the folder where the epoch is better."""
        measured = trainer.callback_metrics
        if self.metric and self.metric not in measured:
            known = ", ".join(name for name in measured if name != "lr")
            raise ValueError(
                f"checkpoint_metric {self.metric!r} is not measured; there are {known}"
            )
        number = float(measured[self.metric]) if self.metric else None
        if number is not None and self.best is not None and not self._better(number, self.best):
            return
        self.best, self.epoch = number, trainer.current_epoch
        if trainer.is_global_zero:
            self.export(self.folder)

    def _better(self, new: float, old: float) -> bool:
        return self.sign * new > self.sign * old

    def state_dict(self) -> dict[str, Any]:
        """The best metric so far."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with it."""
        self.best, self.epoch = state_dict["best"], state_dict["epoch"]


class TakeUp(Callback):
    """Make an interrupted run go on, bit by bit as if nothing had been.

    Saves ``path`` every few minutes and when a signal asks to stop, always between two steps; keeps
    the states of the generators of chance, and how far the epoch is.
    """

    def __init__(self, path: Path, every: float = SAVE_EVERY) -> None:
        self.path, self.every = path, every
        self.saved = time.monotonic()
        self.asked: int | None = None
        self.chance: dict[str, Any] = {}
        self.done = 0
        self.before: dict[int, Any] = {}

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to SIGINT and SIGTERM: the first stops between steps, the second at once."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._ask)

    def _ask(self, number: int, frame: Any) -> None:
        self._restore_handlers()
        self.asked = number

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the generators back to where the checkpoint has them."""
        if self.chance:
            restore_chance(self.chance)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time; stop when it was asked for."""
        self.done = batch_idx
        whole = batch_idx % trainer.accumulate_grad_batches == 0
        if whole and (self.asked or time.monotonic() - self.saved > self.every):
            trainer.save_checkpoint(self.path)
            self.saved = time.monotonic()
            if self.asked == signal.SIGTERM:
                raise SystemExit(128 + signal.SIGTERM)
            if self.asked:
                raise KeyboardInterrupt

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """The epoch is whole."""
        self.done = 0

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listen no more."""
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        while self.before:
            number, handler = self.before.popitem()
            signal.signal(number, handler)

    def state_dict(self) -> dict[str, Any]:
        """Batches done in the epoch, and the generators' states as plain data."""
        return {"done": self.done, "chance": read_chance()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Remember them until training starts."""
        self.done, self.chance = state_dict["done"], state_dict["chance"]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Tell the data where the epoch goes on."""
        done = checkpoint["callbacks"][self.state_key]["done"]
        trainer.datamodule.start = (checkpoint["epoch"], done)  # type: ignore[attr-defined]


def read_chance() -> dict[str, Any]:
    """The states of torch's and Python's generators, as lists and tensors."""
    version, internal, gauss = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "python": [version, list(internal), gauss],
    }


def restore_chance(state: dict[str, Any]) -> None:
    """Put back what :func:`read_chance` read."""
    torch.set_rng_state(state["torch"].cpu())
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


class FiniteLoss(Callback):
    """Stop at a loss that is no number: the weights before it are those of the last checkpoint."""

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """FloatingPointError names the step."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if loss is not None and not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {float(loss)} at step {trainer.global_step} (epoch "
                f"{trainer.current_epoch}, batch {batch_idx}); the last checkpoint stays. "
                "Try a lower lr, a longer warm-up or gradient_clip_val"
            )
