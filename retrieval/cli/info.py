"""``retrieval info``: what an index holds."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from retrieval.cli.options import as_json, index_folder

if TYPE_CHECKING:
    from indexes.manifest import Content
    from indexes.view import View


@click.command()
@index_folder
@as_json
def info(folder: Path, as_json: bool) -> None:
    """Show what an index holds: rows, model, size, and how much text was too long for the model."""
    from indexes.view import View
    from retrieval.cli.output import print_record

    print_record(_facts(View(folder)), as_json=as_json)


def _approximation(content: "Content") -> dict[str, object]:
    """What the index promises, where it does not score every row."""
    if content.ann is None:
        return {"searched": "exactly"}
    ann = content.ann
    return {
        "searched": f"through {ann['kind']}, found exactly with --exact",
        "recall@10": round(ann["recall"], 4),
        "recall_target": ann["target"],
        "recall_reached": ann["reached"],
        "queries_per_second": round(ann["queries_per_second"]),
        "setting": ann["knob"],
    }


def _facts(view: "View") -> dict[str, object]:
    content = view.content
    return {
        "rows": content.rows,
        "skipped": content.source.get("skipped", 0),
        "dim": content.dim,
        "dtype": content.dtype,
        "model": content.model.get("name"),
        "fingerprint": content.model["fingerprint"],
        "computed_in": content.model.get("dtype"),
        "device": content.model.get("device"),
        "deterministic": content.model.get("deterministic", False),
        "kind": content.kind,
        **_approximation(content),
        "bytes": content.bytes,
        "generation": view.manifest.generation,
        "truncated": content.source.get("truncated", 0),
        "truncated_tokens": content.source.get("truncated_tokens", 0),
    }
