"""``retrieval evaluate`` of a BEIR folder: how good the hits are."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click


def evaluate_ranking(
    source: Path,
    *,
    folder: Path,
    finding: Mapping[str, Any],
    metrics: tuple[str, ...],
    qrels: Path | None,
    run: Path | None,
    against: Path | None,
    per_query: Path | None,
    as_json: bool,
    device: str,
    dtype: str,
    **_: Any,
) -> None:
    """Search the questions of a BEIR folder, and measure the rankings."""
    from retrieval import evaluation
    from retrieval.cli.estimates import plain_records
    from retrieval.cli.output import print_json, wants_json
    from retrieval.runs import write_run
    from retrieval.searcher import Searcher

    _check_written((run, per_query), read=(against, qrels))
    judged = evaluation.read_beir(source, qrels=qrels)
    other = None if against is None else evaluation.evaluate_run(against, judged.qrels, metrics)
    with Searcher(folder, device=device, dtype=dtype) as searcher:
        ours = evaluation.evaluate(searcher, judged, metrics, **finding)
    if run is not None:
        write_run(run, ours.run)
    if per_query is not None:
        evaluation.write_per_query(per_query, ours, other)
    compared = ours.compare(other) if other else {}
    if wants_json(as_json):
        record = {"questions": ours.questions, "metrics": plain_records(ours.metrics)}
        print_json({**record, "compare": plain_records(compared)} if other else record)
    else:
        _print_ranking(ours, compared, against)


def _check_written(files: tuple[Path | None, ...], read: tuple[Path | None, ...]) -> None:
    """Refuse, before the long search, what could not be written after it."""
    seen = {path.resolve() for path in read if path is not None}
    for path in (path for path in files if path is not None):
        if path.resolve() in seen:
            raise click.UsageError(f"{path} is named twice; give each file a name of its own")
        if not path.absolute().parent.is_dir():
            raise click.UsageError(f"{path}: there is no folder {path.parent}")
        seen.add(path.resolve())


def _print_ranking(ours: Any, compared: Mapping[str, Any], against: Path | None) -> None:
    from retrieval.cli.estimates import figures
    from retrieval.cli.output import print_table

    header = ["metric", "mean", "95 % interval"]
    rows = [[name, *figures(each)] for name, each in ours.metrics.items()]
    if compared:
        header += [str(against), "difference", "95 % interval", "p", "won", "lost", "tied"]
    for row, each in zip(rows, compared.values(), strict=False):
        row += [f"{each.other:.4f}", *figures(each.difference, "+"), f"{each.p:.4f}"]
        row += [str(each.wins), str(each.losses), str(each.ties)]
    print_table(header, rows, caption=f"{ours.questions} questions")
