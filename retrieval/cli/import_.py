"""``retrieval import``: documents and vectors that are there already, to an index folder."""

from pathlib import Path
from typing import Any

import click

from retrieval.cli.options import (
    corpus_options,
    encoder_options,
    index_folder,
    kind_options,
    on_duplicate,
)

VECTOR_FILES = (".npy", ".faiss")


@click.command("import")
@click.argument("files", nargs=-1, required=True)
@index_folder
@click.option(
    "--vectors",
    type=click.Path(path_type=Path),
    help="The file of vectors, where its name does not end in .npy or .faiss.",
)
@click.option(
    "--vector-column",
    default="vector",
    show_default=True,
    help="The column of vectors, where no file holds them.",
)
@click.option(
    "--check/--no-check",
    default=True,
    show_default=True,
    help="Encode a sample of the texts and compare.",
)
@encoder_options
@corpus_options
@on_duplicate
@kind_options
@click.option("--overwrite", is_flag=True, help="Replace the index that the folder holds.")
def import_(
    files: tuple[str, ...],
    folder: Path,
    vectors: Path | None,
    metadata_columns: tuple[str, ...],
    **options: Any,
) -> None:
    """Make an index of FILES and the vectors that --model has made of their texts.

    FILES are documents as retrieval index reads them, with a column of vectors, or with one row
    for each row of a .npy matrix or of a flat FAISS file: texts.jsonl texts.npy.
    """
    from retrieval.cli.progress import progress_line
    from retrieval.importing import import_index

    beside = [name for name in files if name.lower().endswith(VECTOR_FILES)]
    given = [Path(name) for name in beside] + ([vectors] if vectors is not None else [])
    documents = [name for name in files if name not in beside]
    if len(given) > 1 or not documents:
        raise click.UsageError("give files of documents, and at most one of vectors beside them")
    with progress_line() as progress:
        report = import_index(
            documents,
            given[0] if given else None,
            folder,
            metadata_columns=list(metadata_columns) or None,
            progress=progress,
            **options,
        )
    parts = [f"{report.rows:,} rows in {folder}", f"{report.seconds:.1f} s"]
    if report.skipped:
        parts.append(f"{report.skipped:,} skipped")
    click.echo(", ".join(parts), err=True)
    if report.scaled:
        click.echo(
            f"{report.scaled:,} vectors were not of unit length and have been scaled", err=True
        )
