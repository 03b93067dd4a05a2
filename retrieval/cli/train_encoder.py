"""``retrieval train encoder``: a sentence encoder from pairs."""

from pathlib import Path
from typing import Any

import click

from miniformer.train.encoder_config import EncoderConfig
from retrieval.cli.training_options import (
    config_options,
    output_options,
    print_results,
    training_errors,
)


@click.command("encoder")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@output_options
@click.option(
    "--from-index",
    "index",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Instead of FILES: adapt the model of this index to its documents, without labels. Titles "
    "and sentences ask for their passages; the weights are averaged with the base's.",
)
@click.option(
    "--pairs",
    type=click.IntRange(min=2),
    default=2_000,
    show_default=True,
    help="With --from-index: how many are made, at most.",
)
@click.option(
    "--eval",
    "sources",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Measure every epoch on a BEIR folder or a file of scored pairs (repeatable); the best "
    "epoch is kept.",
)
@config_options(EncoderConfig)
def train_encoder(
    files: tuple[Path, ...],
    output: Path,
    index: Path | None,
    pairs: int,
    sources: tuple[Path, ...],
    resume: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Fine-tune an encoder on FILES, JSON lines or Parquet, and write a folder for --model.

    The fields decide what is learned: query and positive (and negatives), anchor and positive,
    question and context: which text belongs to which; sentence1, sentence2 and score: how similar
    they are; text (and embedding): to embed as a teacher does.

    With --from-index DIR, move the index over to what comes out by retrieval compact --model.
    """
    from miniformer.train.encoder import train_encoder as train
    from retrieval.training import adapting, evaluator, mine_negatives, write_pairs

    if (index is None) == (not files):
        raise click.UsageError("give FILES to learn from, or --from-index DIR")
    given = {name: value for name, value in options.items() if value is not None}
    with training_errors():
        if index is not None:
            files = (output / "training" / "pairs.jsonl",)
            given = {**adapting(index), **given}
        config = EncoderConfig(
            train_path=[str(file) for file in files],
            output=str(output),
            resume="last" if resume else "",
            **given,
        )
        if index is not None and not (resume or (output / "config.json").exists()):
            write_pairs(index, files[0], pairs)
        evaluate = evaluator(sources) if sources else None
        results = train(config, evaluate=evaluate, mine=mine_negatives)
    print_results(results, output, as_json=as_json)
