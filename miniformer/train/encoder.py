"""Train a sentence encoder: the one call behind ``retrieval train encoder``."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from miniformer.minilm.tokenizer import MiniLMTokenizer
from miniformer.train.contrastive import Loss
from miniformer.train.encoder_config import EncoderConfig
from miniformer.train.encoder_data import EncoderData
from miniformer.train.encoder_module import EncoderLitModule
from miniformer.train.pairs import Example
from miniformer.train.runner import Run, fit

Evaluate = Callable[[Path], Mapping[str, float]]  # a model folder to its metrics, the first decides
Mine = Callable[[Path, Sequence[Example], int], Sequence[Example]]  # … to examples with negatives


def train_encoder(
    config: EncoderConfig,
    *,
    evaluate: Evaluate | None = None,
    mine: Mine | None = None,
    loss: Loss | None = None,
) -> dict[str, float]:
    """Train and leave the best model in ``config.output``, as sentence-transformers opens it too.

    ``evaluate`` measures every epoch (and the base, as ``before_…``); its first metric decides
    which is best. ``mine`` brings the hard negatives of every epoch. ``loss`` is one of one's own.
    Logs, curves, results and checkpoints lie in ``training/`` inside the output. FileExistsError
    where the output holds a model already and the run does not resume; the other errors are those
    of :func:`~miniformer.train.runner.fit` and of the records.
    """
    output = Path(config.output)
    run = Run(config, output / "training", output, output.name)
    run.check_output()
    data = EncoderData(config)
    module = EncoderLitModule(config, loss)
    length = module.model.model.max_length
    data.tokenizer = MiniLMTokenizer(
        str(module.folder), length, lower_case=module.spec.do_lower_case
    )
    callbacks: list[Callback] = []
    brought = len(data.examples[0].texts) - 2  # negatives that the file has
    if mine is not None and config.hard_negatives > max(0, brought):
        callbacks.append(Mining(mine, run.folder / "candidate"))
    evaluation = None if evaluate is None else Evaluation(evaluate, run.folder / "candidate")
    metric = config.checkpoint_metric or ("val_loss" if data.validation else "")
    if evaluation is not None:
        callbacks.append(evaluation)
        metric = config.checkpoint_metric or evaluation.first(module)
    results = fit(run, module, data, module.export, callbacks, metric=metric)
    return {**(evaluation.before if evaluation else {}), **results}


class Evaluation(Callback):
    """Measure the model at the end of every epoch, through whatever searches with its folder."""

    def __init__(self, evaluate: Evaluate, folder: Path) -> None:
        self.evaluate, self.folder = evaluate, folder
        self.before: dict[str, float] = {}

    def first(self, module: EncoderLitModule) -> str:
        """Measure the base; the name of the metric that decides."""
        metrics = self._measure(module)
        self.before = {f"before_{name}": value for name, value in metrics.items()}
        return next(iter(metrics))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log the metrics of the epoch; one process measures for all."""
        metrics = self._measure(pl_module) if trainer.is_global_zero else {}
        pl_module.log_dict(trainer.strategy.broadcast(metrics), rank_zero_only=True)

    def _measure(self, module: pl.LightningModule) -> dict[str, float]:
        module.export(self.folder)  # type: ignore[operator]
        try:
            return dict(self.evaluate(self.folder))
        finally:
            shutil.rmtree(self.folder)


class Mining(Callback):
    """Before every epoch, find the texts that the model takes for answers and that are none."""

    def __init__(self, mine: Mine, folder: Path) -> None:
        self.mine, self.folder = mine, folder

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the negatives of all examples."""
        data: EncoderData = trainer.datamodule  # type: ignore[attr-defined]
        found: Sequence[Example] | None = None
        if trainer.is_global_zero:
            pl_module.export(self.folder)  # type: ignore[operator]
            found = self.mine(self.folder, data.examples, data.config.hard_negatives)
            shutil.rmtree(self.folder)
        data.examples[:] = trainer.strategy.broadcast(found or data.examples)
