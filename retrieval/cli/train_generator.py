"""``retrieval train generator``: a model that answers from passages."""

from pathlib import Path
from typing import Any

import click

from miniformer.train.train_config import GeneratorConfig
from retrieval.cli.training_options import (
    config_options,
    output_options,
    print_results,
    training_errors,
)


@click.command("generator")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_options
@config_options(GeneratorConfig)
def train_generator(
    files: tuple[Path, ...], output: Path, resume: bool, as_json: bool, **options: Any
) -> None:
    """Train a generator on FILES, JSON lines or Parquet: a model folder with its tokenizer.

    Each row has source and target, or question, context (or passages) and answers. With a
    validation file every epoch is measured by the answers that are written: exact match, F1,
    ROUGE-L.
    """
    from miniformer.train.runner import Run
    from miniformer.train.trainer import train

    given = {name: value for name, value in options.items() if value is not None}
    with training_errors():
        config = GeneratorConfig(
            train_path=[str(file) for file in files], resume="last" if resume else "", **given
        )
        run = Run(config, output / "training", output, output.name)
        run.check_output()
        results = train(config, run)
    print_results(results, output, as_json=as_json)
