"""``retrieval train reranker``: a cross-encoder from questions and passages."""

from pathlib import Path
from typing import Any

import click

from miniformer.train.reranker_config import RerankerConfig
from retrieval.cli.training_options import (
    config_options,
    output_options,
    print_results,
    training_errors,
)


@click.command("reranker")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@output_options
@config_options(RerankerConfig)
def train_reranker(
    files: tuple[Path, ...], output: Path, resume: bool, as_json: bool, **options: Any
) -> None:
    """Train a reranker on FILES, JSON lines or Parquet, and write a folder for --rerank.

    Each row has query and positive, or question and context, where several passages that answer are
    a list; and negatives, passages that do not. Those that are lacking are mined by the encoder
    --miner, or drawn from the passages of other questions.
    """
    from miniformer.train.reranker import train_reranker as train
    from retrieval.training import mine_negatives

    given = {name: value for name, value in options.items() if value is not None}
    with training_errors():
        config = RerankerConfig(
            train_path=[str(file) for file in files],
            output=str(output),
            resume="last" if resume else "",
            **given,
        )
        results = train(config, mine=mine_negatives)
    print_results(results, output, as_json=as_json)
