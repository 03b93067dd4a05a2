"""How good a ranking is, by judged questions: BEIR folders, nDCG, recall."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Protocol

from retrieval.corpus import read_corpus
from retrieval.documents import Hit, Qrel
from retrieval.errors import CorpusError

Ranking = Sequence[str]
Relevance = Mapping[str, int]
QRELS_FILES = ("qrels.tsv", "qrels/test.tsv")
DEFAULT_METRICS = ("ndcg@10", "recall@100")


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


def read_beir(folder: str | Path) -> JudgedCorpus:
    """Read a folder in BEIR's layout (Thakur et al. 2021): corpus.jsonl, queries.jsonl, and
    judgments in qrels.tsv or qrels/test.tsv. CorpusError names the file and line.
    """
    folder = Path(folder)
    for name in ("corpus.jsonl", "queries.jsonl"):
        if not (folder / name).is_file():
            raise CorpusError(f"{folder / name}: no such file; expected a folder in BEIR's layout")
    judged = next((folder / name for name in QRELS_FILES if (folder / name).is_file()), None)
    if judged is None:
        raise CorpusError(f"{folder}: no judgments; expected one of {', '.join(QRELS_FILES)}")
    queries = read_corpus(folder / "queries.jsonl", metadata_columns=[])
    return JudgedCorpus(
        corpus=folder / "corpus.jsonl",
        queries={query.id: query.text for query in queries},
        qrels=read_qrels(judged),
    )


def read_qrels(path: Path) -> list[Qrel]:
    """Judgments from a tab-separated file: query, document, whole-number relevance; a first line
    that is a header is passed over. CorpusError names the line.
    """
    qrels = []
    for number, line in enumerate(path.read_bytes().decode().split("\n"), start=1):
        fields = line.rstrip("\r").split("\t")
        if fields == [""] or (number == 1 and not _is_judgment(fields)):
            continue
        if not _is_judgment(fields):
            raise CorpusError(
                f"{path}, line {number}: expected query, document and a whole number, "
                f"separated by tabs; found {line[:60]!r}"
            )
        qrels.append(Qrel(fields[0], fields[1], int(fields[2])))
    return qrels


def _is_judgment(fields: Sequence[str]) -> bool:
    return len(fields) == 3 and fields[2].removeprefix("-").isdecimal()


def ndcg(ranking: Ranking, relevance: Relevance, k: int) -> float:
    """nDCG@k in [0, 1] with linear gains (Järvelin & Kekäläinen 2002): Σ gain / log2(rank + 1)
    over the first k, divided by the same sum for the best order. 0 when nothing is relevant.
    """
    ideal = sorted((max(0, gain) for gain in relevance.values()), reverse=True)[:k]
    best = _discounted(ideal)
    return _discounted(max(0, relevance.get(i, 0)) for i in ranking[:k]) / best if best else 0.0


def _discounted(gains: Iterable[int]) -> float:
    return sum(gain / log2(rank + 1) for rank, gain in enumerate(gains, start=1))


def recall(ranking: Ranking, relevance: Relevance, k: int) -> float:
    """The share of the relevant documents that stand among the first k; 0 when there are none."""
    relevant = {doc_id for doc_id, gain in relevance.items() if gain > 0}
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


METRICS: Mapping[str, Callable[[Ranking, Relevance, int], float]] = {"ndcg": ndcg, "recall": recall}


def evaluate(
    run: Mapping[str, Ranking],
    qrels: Iterable[Qrel],
    metrics: Sequence[str] = DEFAULT_METRICS,
) -> dict[str, float]:
    """Means over the questions with at least one relevant document; one without a ranking counts
    as 0. ``run`` maps a query id to document ids, best first. ValueError for an unknown metric.
    """
    judged: dict[str, dict[str, int]] = {}
    for qrel in qrels:
        judged.setdefault(qrel.query_id, {})[qrel.doc_id] = qrel.relevance
    asked = {query: gains for query, gains in judged.items() if max(gains.values()) > 0}
    means = {}
    for metric in metrics:
        measure, k = _parse(metric)
        values = [measure(run.get(query, ()), gains, k) for query, gains in asked.items()]
        means[metric] = sum(values) / len(values) if values else 0.0
    return means


def _parse(metric: str) -> tuple[Callable[[Ranking, Relevance, int], float], int]:
    name, _, cutoff = metric.partition("@")
    if name not in METRICS or not cutoff.isdecimal() or int(cutoff) < 1:
        known = ", ".join(f"{name}@k" for name in METRICS)
        raise ValueError(f"unknown metric {metric!r}; known: {known}, with k of at least 1")
    return METRICS[name], int(cutoff)


def search_all(
    searcher: BatchSearcher, queries: Mapping[str, str], k: int = 100
) -> dict[str, list[str]]:
    """A run: the ids of the ``k`` best documents for every question."""
    answers = searcher.search_batch(list(queries.values()), k)
    return {query: [hit.id for hit in hits] for query, hits in zip(queries, answers, strict=True)}
