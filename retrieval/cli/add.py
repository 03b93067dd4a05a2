"""``retrieval add``: files into an index that is there."""

from pathlib import Path
from typing import Any

import click

from retrieval.cli.options import (
    as_json,
    corpus_options,
    deterministic,
    index_folder,
    model_options,
    on_duplicate,
)


@click.command()
@click.argument("files", nargs=-1, required=True)
@index_folder
@corpus_options
@on_duplicate
@click.option("--prune", is_flag=True, help="Remove the documents that FILES do not have.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@as_json
@model_options
@deterministic
def add(
    files: tuple[str, ...],
    folder: Path,
    metadata_columns: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Put FILES into the index, each document in the place of that with its id; in one commit.

    Documents are cut into passages as they were when the index was built; those that have not
    changed are not encoded again. Interrupted, what was encoded is kept, and the same command goes
    on.
    """
    from dataclasses import asdict

    from retrieval.changing import change_index
    from retrieval.cli.output import print_record
    from retrieval.cli.progress import progress_line

    with progress_line(resumable=True) as progress:
        report = change_index(
            list(files),
            folder,
            metadata_columns=list(metadata_columns) or None,
            progress=progress,
            **options,
        )
    facts = asdict(report) | {"dry_run": options["dry_run"]}
    print_record(facts, as_json=as_json)
