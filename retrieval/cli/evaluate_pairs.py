"""``retrieval evaluate`` of scored pairs: how good the vectors are."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

DEFAULT_MODEL = "all-MiniLM-L6-v2"


def evaluate_pairs(
    source: Path,
    *,
    folder: Path,
    asked: ParameterSource | None,
    model: str | None,
    as_json: bool,
    device: str,
    dtype: str,
    **_: Any,
) -> None:
    """Hold the cosines of pairs of sentences against their scores."""
    from retrieval import sts
    from retrieval.cli.estimates import figures, plain_records
    from retrieval.cli.output import print_json, print_table, wants_json

    if model is not None and asked is ParameterSource.COMMANDLINE:
        raise click.UsageError("--model names the model, or the index does: give one of them")
    pairs = sts.read_pairs(source)
    by_default = asked is ParameterSource.DEFAULT
    name, encoder = _encoder(model, folder, by_default, device=device, dtype=dtype)
    found = sts.evaluate_pairs(encoder, pairs)
    if wants_json(as_json):
        print_json({"pairs": len(pairs.scores), "model": name, "metrics": plain_records(found)})
    else:
        rows = [(which, *figures(each)) for which, each in found.items()]
        print_table(
            ("correlation", "value", "95 % interval"),
            rows,
            caption=f"{len(pairs.scores)} pairs, {name}",
        )


def _encoder(model: str | None, folder: Path, by_default: bool, **how: Any) -> tuple[str, Any]:
    """A model's name and its encoder: the one named, else that of the index; the default model
    where nobody asked for an index and none is there.
    """
    from indexes.errors import IndexNotFound
    from retrieval import assembly
    from retrieval.searcher import Searcher

    if model is None:
        try:
            searcher = Searcher(folder, **how)
            return str(searcher.content.model["name"]), searcher.encoder
        except IndexNotFound:
            if not by_default:
                raise
    name = model or DEFAULT_MODEL
    return name, assembly.Encoder(name, **how)
