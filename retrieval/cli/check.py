"""``retrieval check``: whether an index is what it says it is."""

from pathlib import Path

import click

from retrieval.cli.options import as_json, index_folder
from retrieval.cli.output import plain


@click.command()
@index_folder
@click.option("--full", is_flag=True, help="Hash every file, also those above 64 MiB.")
@click.option("--repair", is_flag=True, help="Put right what can be; no other check writes.")
@click.option(
    "--quality",
    is_flag=True,
    help="Instead, ask for up to 500 documents by their titles and sentences, and say how they "
    "are found; what was truncated, and what is nearly twice there.",
)
@as_json
def check(folder: Path, full: bool, repair: bool, quality: bool, as_json: bool) -> int:
    """Check every row of an index, its files, its counts, and the model that built it.

    Exit code 1 and a line for each problem when it is not what it says it is.
    """
    if quality:
        if full or repair:
            raise click.UsageError("--quality writes nothing and reads a sample; leave the other")
        return _check_quality(folder, as_json)
    from retrieval.checking import check_index
    from retrieval.cli.output import print_facts, print_json, wants_json

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


def _check_quality(folder: Path, as_json: bool) -> int:
    from retrieval.cli.estimates import figures
    from retrieval.cli.output import print_facts, print_json, print_table, wants_json
    from retrieval.quality import check_quality

    report = check_quality(folder)
    if wants_json(as_json):
        print_json(report.to_dict())
        return 0
    named = ("rows", "sampled", "kind", "kind_recall", "truncated", "near_duplicates")
    facts = {name: getattr(report, name) for name in named}
    shown = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in facts.items()}
    print_facts((name, "not known" if value is None else value) for name, value in shown.items())
    rows = [
        (mode, metric, *figures(estimate))
        for mode, found in report.modes.items()
        for metric, estimate in found.items()
    ]
    caption = f"{report.questions} questions made of titles and sentences"
    print_table(("mode", "metric", "mean", "95 % interval"), rows, caption=caption)
    for each in report.examples:
        click.echo(plain(f"near-duplicates: {each.id} and {each.other}, cosine {each.cosine:.4f}"))
    return 0
