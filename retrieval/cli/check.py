"""``retrieval check``: whether an index is what it says it is."""

from pathlib import Path

import click

from retrieval.cli.options import as_json, index_folder


@click.command()
@index_folder
@click.option("--full", is_flag=True, help="Hash every file, also those above 64 MiB.")
@click.option("--repair", is_flag=True, help="Put right what can be; no other check writes.")
@as_json
def check(folder: Path, full: bool, repair: bool, as_json: bool) -> int:
    """Check every row of an index, its files, its counts, and the model that built it.

    Exit code 1 and a line for each problem when it is not what it says it is.
    """
    from retrieval.checking import check_index
    from retrieval.cli.output import plain, print_facts, print_json, wants_json

    report = check_index(folder, full=full, repair=repair)
    if wants_json(as_json):
        print_json(report.to_dict())
    else:
        lists = ("leftovers", "repaired", "problems")
        facts = {k: len(v) if k in lists else v for k, v in vars(report).items()}
        print_facts(facts.items())
    for line in report.repaired:
        click.echo(f"retrieval: {plain(line)}", err=True)
    for problem in report.problems:
        click.echo(f"retrieval: {plain(f'{folder}/{problem}')}", err=True)
    if report.problems:
        remedy = "restore these files from a copy, or build the index again"
        click.echo(f"retrieval: {'this cannot be repaired: ' * repair}{remedy}", err=True)
    return 1 if report.problems else 0
