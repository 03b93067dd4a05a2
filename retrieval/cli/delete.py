"""``retrieval delete``: documents out of an index."""

import sys
from pathlib import Path

import click

from retrieval.cli.options import as_json, index_folder, where


@click.command()
@click.argument("ids", nargs=-1)
@index_folder
@where
@as_json
def delete(ids: tuple[str, ...], folder: Path, where: str | None, as_json: bool) -> None:
    """Delete the documents with these IDS, all their passages with them, in one commit; - reads ids
    from standard input, one a line. Or, without ids, those that --where selects.

    An id that the index does not have is no error: the number of deleted documents is printed.
    """
    from retrieval.changing import delete_rows
    from retrieval.cli.output import print_record

    if bool(ids) == bool(where):
        raise click.UsageError("give ids, or - for standard input, or --where")
    wanted = [line.rstrip("\r\n") for line in sys.stdin] if ids == ("-",) else list(ids)
    facts = {"deleted": delete_rows(folder, wanted, where=where)}
    print_record(facts, as_json=as_json)
