"""How good a search is, by judged questions: BEIR folders, through an index, to metrics."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from retrieval.corpus import read_corpus
from retrieval.documents import Hit, Qrel
from retrieval.encoding import windows
from retrieval.errors import CorpusError
from retrieval.metrics import parse_metric, per_query
from retrieval.runs import Run, read_qrels, read_run, replace_lines
from retrieval.significance import Comparison, Estimate, compare, estimate_mean

logger = logging.getLogger(__name__)

QRELS_FILES = ("qrels.tsv", "qrels/test.tsv")
DEFAULT_METRICS = ("ndcg@10", "recall@100")
DEPTH = 100  # documents of a question that a run has at least


@dataclass(frozen=True)
class JudgedCorpus:
    """A collection with questions and judgments; ``corpus`` is the file to index."""

    corpus: Path
    queries: Mapping[str, str]
    qrels: Sequence[Qrel]


class BatchSearcher(Protocol):
    """What can be evaluated: ``Searcher``, or anything that ranks for several questions."""

    def search_batch(self, questions: Sequence[str], k: int) -> list[list[Hit]]:
        """The ``k`` best hits for each question, best first."""


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: each metric's mean over the questions that have a relevant
    document, with its 95 % interval; below it the values, metric → query id → value, and the run.
    """

    metrics: Mapping[str, Estimate]
    values: Mapping[str, Mapping[str, float]] = field(repr=False)
    run: Run = field(repr=False)

    @property
    def questions(self) -> int:
        """How many questions the means are of."""
        return max(map(len, self.values.values()), default=0)

    def __getitem__(self, metric: str) -> Estimate:
        return self.metrics[metric]

    def compare(self, other: "Evaluation", *, seed: int = 0) -> dict[str, Comparison]:
        """Against another one by each metric, question by question; ValueError unless both
        are of the same metrics and judgments.
        """
        if self.values.keys() != other.values.keys():
            both = " and ".join(", ".join(each.values) for each in (self, other))
            raise ValueError(f"the metrics differ: {both}")
        return {
            metric: compare(values, other.values[metric], seed=seed)
            for metric, values in self.values.items()
        }


def read_beir(folder: str | Path, *, qrels: str | Path | None = None) -> JudgedCorpus:
    """Read a folder in BEIR's layout (Thakur et al. 2021): corpus.jsonl, queries.jsonl, and
    judgments in qrels.tsv or qrels/test.tsv, or in the file ``qrels``, which may be TREC's.
    CorpusError names the file and line.
    """
    folder = Path(folder)
    for name in ("corpus.jsonl", "queries.jsonl"):
        if not (folder / name).is_file():
            raise CorpusError(f"{folder / name}: no such file; expected a folder in BEIR's layout")
    places = [folder / name for name in QRELS_FILES] if qrels is None else [Path(qrels)]
    judgments = next((place for place in places if place.is_file()), None)
    if judgments is None:
        raise CorpusError(f"{folder}: no judgments; expected one of {', '.join(map(str, places))}")
    queries = read_corpus(folder / "queries.jsonl", metadata_columns=[])
    return JudgedCorpus(
        corpus=folder / "corpus.jsonl",
        queries={query.id: query.text for query in queries},
        qrels=read_qrels(judgments),
    )


def search_all(
    searcher: BatchSearcher, queries: Mapping[str, str], k: int = DEPTH, **how: Any
) -> dict[str, dict[str, float]]:
    """A run: for every question the ids of the ``k`` best documents, and scores that fall with
    their ranks; a passage counts as its document, which judgments name. ``how`` goes to
    ``search_batch``.
    """
    run = {}
    for asked in windows(queries.items()):
        answers = searcher.search_batch([text for _, text in asked], k, **how)
        for (query, _), hits in zip(asked, answers, strict=True):
            run[query] = _falling(hits)
    return run


def _falling(hits: Iterable[Hit]) -> dict[str, float]:
    """The hits' scores, each that does not fall lowered to just below the one before: in a run only
    the scores tell the order, and the rank is ours. Of a document that is there twice the first.
    """
    scores: dict[str, float] = {}
    last, lowest = np.float32(np.inf), np.float32(-np.inf)
    for hit in hits:
        if hit.document_id not in scores:
            last = min(np.float32(hit.score), np.nextafter(last, lowest))
            scores[hit.document_id] = float(last)
    return scores


def evaluate(
    searcher: BatchSearcher,
    source: str | Path | JudgedCorpus,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    seed: int = 0,
    **how: Any,
) -> Evaluation:
    """Ask the judged questions of a BEIR folder, whose corpus the searcher's index holds, and
    measure the rankings: at least 100 documents deep, deeper where a metric looks deeper.

    Questions without a relevant document are left out, one without a ranking counts 0. ``how``
    goes to ``search_batch``; the seed is the bootstrap's. CorpusError where the folder cannot be
    read or has no question with a relevant document, ValueError for an unknown metric.
    """
    depth = max([DEPTH, *(parse_metric(metric)[1] for metric in metrics)])
    judged = source if isinstance(source, JudgedCorpus) else read_beir(source)
    asked = dict.fromkeys(qrel.query_id for qrel in judged.qrels)
    lost = [query for query in asked if query not in judged.queries]
    if lost:
        logger.warning(
            "%d judged questions have no text, %s among them; they count 0", len(lost), lost[0]
        )
    queries = {query: text for query, text in judged.queries.items() if query in asked}
    run = search_all(searcher, queries, depth, **how)
    return evaluate_run(run, judged.qrels, metrics, seed=seed)


def evaluate_run(
    run: Run | str | Path,
    qrels: Iterable[Qrel] | str | Path,
    metrics: Sequence[str] = DEFAULT_METRICS,
    *,
    seed: int = 0,
) -> Evaluation:
    """Measure rankings that are there already; both may be files (see :mod:`retrieval.runs`). The
    errors are those of :func:`evaluate`.
    """
    run = read_run(run) if isinstance(run, str | Path) else run
    qrels = read_qrels(qrels) if isinstance(qrels, str | Path) else list(qrels)
    values = per_query(run, qrels, metrics)
    if not all(values.values()):
        raise CorpusError(f"none of {len(qrels)} judgments calls a document relevant")
    if not any(qrel.doc_id in run.get(qrel.query_id, ()) for qrel in qrels):
        logger.warning("no document of the run has a judgment: do the ids belong together?")
    estimates = {
        metric: estimate_mean(list(of.values()), seed=seed) for metric, of in values.items()
    }
    return Evaluation(estimates, values, run)


def write_per_query(path: str | Path, ours: Evaluation, other: Evaluation | None = None) -> None:
    """Write a JSON line a question: query, and each metric's value; against another evaluation
    ours, other and difference. IndexWriteFailed.
    """
    records: dict[str, dict[str, Any]] = {}
    for metric, values in ours.values.items():
        for query, value in values.items():
            record = records.setdefault(query, {"query": query})
            record[metric] = value
            if other is not None:
                theirs = other.values[metric][query]
                record[metric] = {"ours": value, "other": theirs, "difference": value - theirs}
    replace_lines(path, (json.dumps(each, ensure_ascii=False) for each in records.values()))
