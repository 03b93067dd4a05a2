"""``retrieval index``: files to an index folder."""

from pathlib import Path
from typing import Any

import click

from retrieval.cli.options import (
    corpus_options,
    deterministic,
    encoder_options,
    index_folder,
    kind_options,
    on_duplicate,
    passages,
    workers,
)


@click.command()
@click.argument("files", nargs=-1, required=True)
@index_folder
@encoder_options
@deterministic
@workers
@corpus_options
@on_duplicate
@passages
@kind_options
@click.option(
    "--vectors",
    type=click.Choice(["float32", "float16"]),
    default="float32",
    show_default=True,
    help="Number format on disk; scores are computed in float32 and finer.",
)
@click.option("--overwrite", is_flag=True, help="Replace the index that the folder holds.")
def index(
    files: tuple[str, ...], folder: Path, metadata_columns: tuple[str, ...], **options: Any
) -> None:
    """Index FILES: Parquet, JSONL, CSV or TSV (each also .gz), globs, or - for JSON lines.

    Interrupted, the same command goes on where it stopped.
    """
    from retrieval.building import build_index
    from retrieval.cli.progress import progress_line

    with progress_line(resumable=True) as progress:
        report = build_index(
            list(files),
            folder,
            metadata_columns=list(metadata_columns) or None,
            progress=progress,
            **options,
        )
    rate = max(0, report.rows - report.resumed) / report.seconds  # replaced rows count in resumed
    parts = [f"{report.rows:,} rows in {folder}", f"{report.seconds:.1f} s", f"{rate:,.0f} rows/s"]
    if report.resumed:
        parts.append(f"{report.resumed:,} of them encoded before the interruption")
    if report.skipped:
        parts.append(f"{report.skipped:,} skipped")
    click.echo(", ".join(parts), err=True)
    if report.looked_at and report.passages != "none":
        click.echo(
            f"{report.losing:,} of the first {report.looked_at:,} documents are longer than the "
            "model reads: cut into passages (--passages none leaves them whole)",
            err=True,
        )
    if report.truncated:
        click.echo(
            f"{report.truncated:,} texts are longer than the model reads: "
            f"{report.truncated_tokens:,} tokens were left out",
            err=True,
        )
