"""``retrieval export``: an index to files that other tools read."""

from pathlib import Path

import click

from retrieval.cli.options import index_folder


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@index_folder
@click.option(
    "--to",
    type=click.Choice(["faiss", "parquet"]),
    required=True,
    help="A FAISS IndexFlatIP beside OUT.jsonl, or one Parquet file.",
)
@click.option("--overwrite", is_flag=True, help="Replace the files that are there.")
def export(out: Path, folder: Path, to: str, overwrite: bool) -> None:
    """Write the rows of an index, with their vectors, to OUT; retrieval import reads them back.

    A metadata column with the name of another column becomes metadata.NAME.
    """
    from retrieval.exchange import export_index

    files = export_index(folder, to, out, overwrite=overwrite)
    click.echo(f"{folder} is in {' and '.join(map(str, files))}", err=True)
