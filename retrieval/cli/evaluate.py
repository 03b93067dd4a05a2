"""``retrieval evaluate``: how good the hits, the vectors or the answers are."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.core import ParameterSource

from retrieval.cli.evaluate_answers import evaluate_answers
from retrieval.cli.evaluate_pairs import evaluate_pairs
from retrieval.cli.evaluate_ranking import evaluate_ranking
from retrieval.cli.options import (
    answer_options,
    as_json,
    finding_options,
    index_folder,
    model_options,
)

A_FILE = click.Path(path_type=Path, dir_okay=False)
FINDING = ("min_score", "where", "exact", "mode", "rerank", "mmr")  # what goes to the search


class Form(NamedTuple):
    """One of the things that can be evaluated, and the options that belong to it alone."""

    name: str
    evaluate: Callable[..., None]
    options: tuple[str, ...]


ANSWERS = Form(
    "--answers",
    evaluate_answers,
    ("file", "top_k", "generator", "answer", "threshold", "calibrate"),
)
RANKING = Form(
    "a BEIR folder",
    evaluate_ranking,
    ("metrics", "qrels", "run", "against", "per_query", *FINDING),
)
PAIRS = Form("a file of scored pairs", evaluate_pairs, ("model",))
FORMS = (ANSWERS, RANKING, PAIRS)


class MetricName(click.ParamType):  # type: ignore[type-arg]
    """A name such as ``ndcg@10``."""

    name = "name@k"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name, where it is known."""
        from retrieval.metrics import parse_metric

        try:
            parse_metric(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)


@click.command()
@click.argument(
    "source",
    metavar="[BEIR_DIR|STS_FILE]",
    required=False,
    type=click.Path(exists=True, path_type=Path),
)
@click.option(
    "--answers",
    "file",
    type=click.Path(path_type=Path),
    help="Questions with their answers: Parquet or JSON lines.",
)
@index_folder
@click.option(
    "--metric",
    "metrics",
    type=MetricName(),
    multiple=True,
    default=("ndcg@10", "recall@100"),
    show_default=True,
    help="ndcg, mrr, map, recall, precision or judged, with its @k (repeatable).",
)
@click.option("--qrels", type=A_FILE, help="Judgments, as BEIR or TREC has them. Default: DIR's.")
@click.option("--run", type=A_FILE, help="Write the rankings there, in TREC's format.")
@click.option("--compare", "against", type=A_FILE, help="Test against the rankings of this run.")
@click.option("--per-query", type=A_FILE, help="Write each question's values there, a JSON line.")
@finding_options
@click.option("--model", help="For STS: a model's name or folder. Default: that of the index.")
@answer_options
@click.option(
    "--calibrate",
    is_flag=True,
    help="Write what makes confidences probabilities, and the best threshold, into the generator.",
)
@as_json
@model_options
@click.pass_context
def evaluate(context: click.Context, /, source: Path | None, **given: Any) -> None:
    """Measure hits, vectors or answers where the right ones are known.

    BEIR_DIR has corpus.jsonl, which the index holds, queries.jsonl and qrels: each metric's mean
    with its 95 % interval; --compare adds the difference, the p of a paired randomisation test,
    and how many questions are won, lost and tied.

    STS_FILE has sentence1, sentence2 and score: correlations with the cosines of the index's model.

    --answers measures a generator: each row has question, answers (empty where there is none) and
    context (or passages). With an index the passages are those that it finds; without -i they are
    the row's own.
    """
    if (source is None) == (given["file"] is None):
        raise click.UsageError("give a BEIR folder, a file of scored pairs, or --answers FILE")
    form = ANSWERS if source is None else RANKING if source.is_dir() else PAIRS
    for option in _foreign(context, form):
        raise click.UsageError(f"{option} does not go with {form.name}")
    asked = context.get_parameter_source("folder")
    finding = {name: given.pop(name) for name in FINDING}
    form.evaluate(source, asked=asked, finding=finding, **given)


def _foreign(context: click.Context, form: Form) -> Iterator[str]:
    """The options given that belong to another form."""
    foreign = {name for other in FORMS if other is not form for name in other.options}
    for parameter in context.command.params:
        name = str(parameter.name)
        if name in foreign and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            yield parameter.opts[-1]
