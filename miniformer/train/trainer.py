"""The command line of training: ``python -m miniformer.train.trainer --help``."""

import logging
import sys
from collections.abc import Sequence
from statistics import fmean, pstdev

from rich.console import Console
from rich.table import Table

from miniformer.train.datamodule import MiniFormerDataModule
from miniformer.train.module import MiniFormerLitModule
from miniformer.train.runner import Run, fit
from miniformer.train.train_config import TrainConfig

INTERRUPTED = 130


def train(config: TrainConfig, run: Run | None = None) -> dict[str, float]:
    """Train one task; the metrics of the best epoch, and of the test file where there is one.

    In ``<work_dir>/<experiment_name>`` are logs, curves and results, in its ``checkpoints`` the
    best model, as the folder ``best_model`` with its tokenizer, and the states to go on from;
    ``run`` puts them elsewhere.
    """
    data = MiniFormerDataModule(config=config)
    scale = (0.0, 1.0)
    if data.task.outputs == 1 and data.train is not None:
        values = [example.target for example in data.train.examples]
        scale = fmean(values), pstdev(values) or 1.0
    module = MiniFormerLitModule(config, data.tokenizer, data.outputs, scale)
    if run is None:
        best = config.folder / "checkpoints" / "best_model"
        run = Run(config, config.folder, best, config.experiment_name)
    metric = config.checkpoint_metric if config.val_path else ""
    return fit(run, module, data, module.export, metric=metric, test=config.test_path is not None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train as the flags say, show what was reached; exit codes 0, 1, 2 (flags), 130."""
    logging.basicConfig(format="miniformer: %(message)s")
    logging.getLogger("miniformer").setLevel(logging.INFO)
    config = TrainConfig.from_cli(arguments)
    try:
        results = train(config)
    except (OSError, ValueError, ImportError, FloatingPointError) as error:
        print(f"miniformer: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except KeyboardInterrupt:
        print("miniformer: interrupted; --resume last goes on", file=sys.stderr)  # noqa: T201
        return INTERRUPTED
    table = Table(title=f"{config.task}: the best epoch of {config.folder}")
    table.add_column("metric")
    table.add_column("value", justify="right")
    for name, value in results.items():
        table.add_row(name, f"{value:.4g}")
    Console().print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
