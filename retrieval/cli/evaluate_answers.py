"""``retrieval evaluate --answers``: how good a generator is."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource


def evaluate_answers(
    source: None,
    *,
    file: Path,
    folder: Path,
    asked: ParameterSource | None,
    calibrate: bool,
    as_json: bool,
    device: str,
    dtype: str,
    **how: Any,
) -> None:
    """Ask questions whose answers are known."""
    from retrieval.answer_evaluation import measures, read_asked
    from retrieval.cli.output import print_facts, print_json, wants_json

    questions = read_asked(file)
    # An index in the environment is not asked for.
    index = folder if asked is ParameterSource.COMMANDLINE else None
    judged, threshold = _ask_all(questions, index, calibrate, device, dtype, how)
    figures = measures(judged, threshold)
    if wants_json(as_json):
        print_json({"threshold": threshold, **figures})
    else:
        print_facts((name, f"{value:.4g}") for name, value in figures.items())


def _ask_all(
    asked: Any, index: Path | None, calibrate: bool, device: str, dtype: str, how: dict[str, Any]
) -> tuple[Any, float]:
    from retrieval.answer_evaluation import calibrated, judge, save_calibration
    from retrieval.rag import answer_all, checked
    from retrieval.readers import DEFAULT_GENERATOR, PointingReader, open_generator
    from retrieval.searcher import Searcher

    name = how["generator"] or DEFAULT_GENERATOR
    generator = open_generator(name, dtype=dtype, device=device)
    if calibrate and not (isinstance(generator, PointingReader) and Path(name).is_dir()):
        raise click.UsageError("--calibrate needs --generator FOLDER, of one that points at quotes")
    mode, threshold = checked(generator, how["answer"], how["threshold"])
    searcher = index and Searcher(index, device=device, dtype=dtype)

    def answer(each: Any) -> Any:
        hits = searcher.search(each.question, how["top_k"]) if searcher else each.hits
        return answer_all(generator, [each.question], [hits], how=mode, threshold=0.0)[0]

    judged = list(judge(asked, answer))
    if calibrate:
        save_calibration(Path(name), calibrated(judged), generator)
        return _ask_all(asked, index, False, device, dtype, how)
    return judged, threshold
