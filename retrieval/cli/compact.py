"""``retrieval compact``: an index without deleted rows, in as few segments as will do."""

from pathlib import Path

import click

from retrieval.cli.options import as_json, index_folder, model_options


@click.command()
@index_folder
@click.option("--model", help="Encode every row again with this model: a name or a folder.")
@click.option("--max-length", type=click.IntRange(min=3), help="Tokens that it reads of each text.")
@as_json
@model_options
def compact(
    folder: Path,
    model: str | None,
    max_length: int | None,
    as_json: bool,
    device: str,
    dtype: str,
) -> None:
    """Copy the live rows together; readers go on with what they have opened.

    With --model the index moves over to another model, and answers as before until it is complete.
    Interrupted, the same command goes on.
    """
    from indexes.view import View
    from indexes.writer import IndexWriter
    from retrieval.changing import reencode
    from retrieval.cli.output import print_record
    from retrieval.sidecars import SIDECARS

    if max_length is not None and model is None:
        raise click.UsageError("--max-length is of another --model")
    if model is None:
        with IndexWriter(folder, sidecars=SIDECARS) as writer:
            writer.compact()
    else:
        reencode(folder, model=model, max_length=max_length, device=device, dtype=dtype)
    content = View(folder).content
    facts = {"rows": content.rows, "segments": len(content.segments), "bytes": content.bytes}
    print_record(facts, as_json=as_json)
