"""``retrieval evaluate``: how good the answers are."""

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from retrieval.cli.options import answer_options, as_json, index_folder, model_options


@click.command()
@click.option(
    "--answers",
    "file",
    type=click.Path(path_type=Path),
    required=True,
    help="Questions with their answers: Parquet or JSON lines.",
)
@index_folder
@answer_options
@click.option(
    "--calibrate",
    is_flag=True,
    help="Write what makes confidences probabilities, and the best threshold, into the generator.",
)
@as_json
@model_options
@click.pass_context
def evaluate(
    context: click.Context,
    /,
    file: Path,
    folder: Path,
    calibrate: bool,
    as_json: bool,
    device: str,
    dtype: str,
    **how: Any,
) -> None:
    """Measure a generator on questions whose answers are known.

    Each row has question, answers (empty where there is none) and context (or passages). With an
    index the passages are those that it finds; without -i they are the row's own.
    """
    from retrieval.answer_evaluation import measures, read_asked
    from retrieval.cli.output import print_facts, print_json, wants_json

    asked = read_asked(file)
    source = context.get_parameter_source("folder")
    own = source is not ParameterSource.COMMANDLINE  # an index in the environment is not asked for
    judged, threshold = _ask_all(asked, None if own else folder, calibrate, device, dtype, how)
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
