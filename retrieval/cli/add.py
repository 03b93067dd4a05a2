"""``retrieval add``: files into an index that is there."""

from pathlib import Path
from typing import Any

import click

from retrieval.cli.options import (
    as_json,
    corpus_options,
    index_folder,
    model_options,
    on_duplicate,
)


@click.command()
@click.argument("files", nargs=-1, required=True)
@index_folder
@corpus_options
@on_duplicate
@click.option("--prune", is_flag=True, help="Remove the rows that FILES do not have.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@as_json
@model_options
def add(
    files: tuple[str, ...],
    folder: Path,
    metadata_columns: tuple[str, ...],
    as_json: bool,
    **options: Any,
) -> None:
    """Put FILES into the index, each row in the place of the row with its id; in one commit.

    Rows that have not changed are not encoded again. Interrupted, what was encoded is kept, and the
    same command goes on.
    """
    from dataclasses import asdict

    from retrieval.changing import change_index
    from retrieval.cli.output import print_facts, print_json, wants_json
    from retrieval.cli.progress import ProgressLine

    progress = ProgressLine()
    try:
        report = change_index(
            list(files),
            folder,
            metadata_columns=list(metadata_columns) or None,
            progress=progress,
            **options,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("what was kept goes on with the same command") from None
    finally:
        progress.close()
    facts = asdict(report) | {"dry_run": options["dry_run"]}
    if wants_json(as_json):
        print_json(facts)
    else:
        print_facts(facts.items())
