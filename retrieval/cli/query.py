"""``retrieval query``: questions to passages."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import click

from retrieval.cli.options import as_json, finding_options, index_folder, model_options

AT_ONCE = 64  # questions from standard input that are encoded together


@click.command()
@click.argument("text", required=False)
@index_folder
@click.option("-k", "--top-k", type=click.IntRange(min=1), default=10, show_default=True)
@click.option("--like", metavar="ID", help="Find what is near this document, without a question.")
@finding_options
@click.option("--explain", is_flag=True, help="Show the scores that the order goes by.")
@as_json
@model_options
def query(
    text: str | None,
    folder: Path,
    top_k: int,
    like: str | None,
    explain: bool,
    as_json: bool,
    device: str,
    dtype: str,
    **how: Any,
) -> None:
    """Find the passages nearest to TEXT, or to each line of standard input.

    Elsewhere than on a terminal, one JSON object a line: rank, id, score, text, title, metadata;
    with several questions, query comes first.
    """
    from retrieval.cli.output import print_hits, print_json, wants_json
    from retrieval.searcher import Searcher

    if like is not None and text is not None:
        raise click.UsageError("give a question or --like, not both")
    if text is None and like is None and sys.stdin.isatty():
        raise click.UsageError("give a question, or pipe questions in, one a line")
    if text is not None and not text.strip():
        raise click.UsageError("the question is empty")
    searcher = Searcher(folder, device=device, dtype=dtype)
    in_json = wants_json(as_json)
    several = text is None and like is None
    for question, hits in _asked(searcher, text, like, k=top_k, **how):
        if not in_json:
            print_hits(question, hits, explain=explain)
        for hit in hits if in_json else ():
            record = (hit if explain else replace(hit, scores={})).to_dict()
            print_json({"query": question, **record} if several else record)


def _asked(searcher: Any, text: str | None, like: str | None, **how: Any) -> Iterator[Any]:
    """Each question and its hits."""
    from retrieval.encoding import windows

    if like is not None:
        yield like, searcher.search(like=like, **how)
        return
    for group in [[text]] if text else windows(_lines(sys.stdin.buffer), AT_ONCE):
        yield from zip(group, searcher.search_batch(group, **how), strict=True)


def _lines(stream: BinaryIO) -> Iterator[str]:
    """The questions of standard input; blank lines are none."""
    for number, line in enumerate(stream, start=1):
        try:
            question = line.decode().strip()
        except UnicodeDecodeError as error:
            raise click.UsageError(f"standard input, line {number}: invalid UTF-8") from error
        if question:
            yield question
