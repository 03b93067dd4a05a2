"""``retrieval ask``: a question to an answer with its quotes."""

import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import click

from retrieval.cli.options import (
    answer_options,
    as_json,
    finding_options,
    index_folder,
    model_options,
)


@click.command()
@click.argument("text")
@index_folder
@answer_options
@finding_options
@click.option("--stream", is_flag=True, help="Show the answer as text, as it is written.")
@as_json
@model_options
def ask(
    text: str,
    folder: Path,
    stream: bool,
    as_json: bool,
    device: str,
    dtype: str,
    **how: Any,
) -> None:
    """Answer TEXT from the passages of the index, with the quotes that the answer rests on.

    Says plainly when the passages do not hold an answer. Elsewhere than on a terminal, one JSON
    object: answer (null when there is none), confidence, citations (id, start, end, quote), hits.
    """
    from retrieval.cli.output import print_answer, print_json, wants_json
    from retrieval.searcher import Searcher

    if not text.strip():
        raise click.UsageError("the question is empty")
    searcher = Searcher(folder, device=device, dtype=dtype)
    k = how.pop("top_k")
    if stream:
        answer = _shown(searcher.ask_stream(text, k, **how), to_screen=not as_json)
    else:
        answer = searcher.ask(text, k, **how)
    if as_json or (wants_json(as_json) and not stream):
        print_json({"question": text, **answer.to_dict()})
    else:
        print_answer(answer, written=stream)


def _shown(pieces: Generator[str, None, Any], *, to_screen: bool) -> Any:
    """Write the pieces as they come; what the generator returns."""
    from retrieval.cli.output import harmless

    while True:
        try:
            piece = next(pieces)
        except StopIteration as end:
            return end.value
        if to_screen:
            click.echo(harmless(piece), nl=False)
            sys.stdout.flush()
