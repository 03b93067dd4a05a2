"""How good a ranking is, by judgments: nDCG, reciprocal rank, average precision, recall, precision.

The values are trec_eval's: graded relevance, a document without a judgment or with a negative one
is not relevant, and equal scores rank by document id, the last one first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import log2

import numpy as np

from retrieval.documents import Qrel

Ranking = Sequence[str]
Scores = Mapping[str, float]
Relevance = Mapping[str, int]
Measure = Callable[[Ranking, Relevance, int], float]
Rankings = Mapping[str, Ranking] | Mapping[str, Scores]


def ranked(given: Ranking | Scores) -> Ranking:
    """Document ids, best first: a ranking as it is, scores from the highest to the lowest.

    Scores are compared as float32 and equal ones go by document id, descending, as in trec_eval:
    a run then has the same metrics here and there.
    """
    if not isinstance(given, Mapping):
        return given
    with np.errstate(over="ignore"):  # beyond float32 is infinite, there too
        scores = np.array(list(given.values()), np.float64).astype(np.float32).tolist()
    pairs = sorted(zip(scores, given, strict=True), reverse=True)
    return [doc_id for _, doc_id in pairs]


def ndcg(ranking: Ranking, relevance: Relevance, k: int) -> float:
    """nDCG@k in [0, 1] with linear gains (Järvelin & Kekäläinen 2002): Σ gain / log2(rank + 1)
    over the first k, divided by the same sum for the best order. 0 when nothing is relevant.
    """
    ideal = sorted((max(0, gain) for gain in relevance.values()), reverse=True)[:k]
    best = _discounted(ideal)
    return _discounted(max(0, relevance.get(i, 0)) for i in ranking[:k]) / best if best else 0.0


def _discounted(gains: Iterable[int]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def reciprocal_rank(ranking: Ranking, relevance: Relevance, k: int) -> float:
    """1 / the rank of the first relevant document; 0 when there is none among the first k."""
    return next((1 / rank for rank in _relevant_ranks(ranking, relevance, k)), 0.0)


def average_precision(ranking: Ranking, relevance: Relevance, k: int) -> float:
    """The mean, over all relevant documents, of the precision at the rank of each; 0 for one that
    is not among the first k.
    """
    ranks = _relevant_ranks(ranking, relevance, k)
    return _share(sum(found / rank for found, rank in enumerate(ranks, start=1)), relevance)


def recall(ranking: Ranking, relevance: Relevance, k: int) -> float:
    """The share of the relevant documents that stand among the first k; 0 when there are none."""
    return _share(len(_relevant_ranks(ranking, relevance, k)), relevance)


def precision(ranking: Ranking, relevance: Relevance, k: int) -> float:
    """The share of the first k that is relevant; where there are fewer, the rest is not."""
    return len(_relevant_ranks(ranking, relevance, k)) / k


def judged(ranking: Ranking, relevance: Relevance, k: int) -> float:
    """The share of the first k, or of as many as there are, that has a judgment at all: where it is
    low, the other metrics tell more of the judgments than of the ranking.
    """
    first = ranking[:k]
    return sum(doc_id in relevance for doc_id in first) / len(first) if first else 0.0


def _relevant_ranks(ranking: Ranking, relevance: Relevance, k: int) -> list[int]:
    first = enumerate(ranking[:k], start=1)
    return [rank for rank, doc_id in first if relevance.get(doc_id, 0) > 0]


def _share(part: float, relevance: Relevance) -> float:
    relevant = sum(gain > 0 for gain in relevance.values())
    return part / relevant if relevant else 0.0


METRICS: Mapping[str, Measure] = {
    "ndcg": ndcg,
    "mrr": reciprocal_rank,
    "map": average_precision,
    "recall": recall,
    "precision": precision,
    "judged": judged,
}


def parse_metric(metric: str) -> tuple[Measure, int]:
    """The function and the k of a name such as ``ndcg@10``; ValueError lists the known ones."""
    name, _, cutoff = metric.partition("@")
    if name not in METRICS or not cutoff.isdecimal() or int(cutoff) < 1:
        known = ", ".join(f"{name}@k" for name in METRICS)
        raise ValueError(f"unknown metric {metric!r}; known: {known}, with k of at least 1")
    return METRICS[name], int(cutoff)


def per_query(
    run: Rankings, qrels: Iterable[Qrel], metrics: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Each metric's value for each query that has a relevant document; one without a ranking has 0.

    ``run`` maps a query id to document ids, best first and each once, or to their scores.
    ValueError for an unknown metric.
    """
    measures = {metric: parse_metric(metric) for metric in metrics}
    judgments: dict[str, dict[str, int]] = {}
    for qrel in qrels:
        judgments.setdefault(qrel.query_id, {})[qrel.doc_id] = qrel.relevance
    asked = {query: gains for query, gains in judgments.items() if max(gains.values()) > 0}
    rankings = {query: ranked(run[query]) if query in run else () for query in asked}
    return {
        metric: {query: measure(rankings[query], gains, k) for query, gains in asked.items()}
        for metric, (measure, k) in measures.items()
    }


def means(run: Rankings, qrels: Iterable[Qrel], metrics: Sequence[str]) -> dict[str, float]:
    """The mean of each metric of :func:`per_query`; 0 where no query has a relevant document."""
    values = per_query(run, qrels, metrics)
    return {metric: sum(of.values()) / len(of) if of else 0.0 for metric, of in values.items()}
