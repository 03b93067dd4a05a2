"""nDCG@10 of the ways to rank: ``python -m benchmarks.ranking [--collections cisi …]``.

Dense, lexical, their plain reciprocal rank fusion, and auto, on three judged collections and on the
questions of SquadShifts' dev splits (each to its own passage): means with their 95 % intervals by
bootstrap; what auto gains on each, and the p of a paired randomisation test of that.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pyarrow import parquet

from benchmarks.data import COLLECTIONS, data, machine
from retrieval import Document, Encoder, Evaluation, Qrel, Searcher, build_index
from retrieval.corpus import read_corpus
from retrieval.evaluation import evaluate_run, read_beir, search_all

SQUADSHIFTS = "squadshifts-dev"
METRICS = ("ndcg@10", "recall@5", "recall@100")
RRF_K = 60  # Cormack, Clarke & Büttcher 2009


def squadshifts() -> tuple[list[Document], dict[str, str], list[Qrel]]:
    """The passages of the dev splits, their questions, and which passage each is about."""
    rows = []
    for path in sorted(data("qa").glob("squadshifts-*-dev.parquet")):
        rows += parquet.read_table(path).to_pylist()
    numbers = {text: str(at) for at, text in enumerate(dict.fromkeys(r["context"] for r in rows))}
    queries = {f"q{at}": row["question"] for at, row in enumerate(rows)}
    qrels = [Qrel(f"q{at}", numbers[row["context"]], 1) for at, row in enumerate(rows)]
    return [Document(number, text) for text, number in numbers.items()], queries, qrels


def beir(name: str) -> tuple[list[Document], dict[str, str], list[Qrel]]:
    judged = read_beir(data(f"ir/{name}"))
    documents = list(read_corpus(judged.corpus, metadata_columns=[]))
    return documents, dict(judged.queries), list(judged.qrels)


def fused(*runs: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Reciprocal rank fusion of some runs."""
    out: dict[str, dict[str, float]] = {}
    for run in runs:
        for query, scores in run.items():
            sums = out.setdefault(query, {})
            for rank, doc in enumerate(sorted(scores, key=lambda doc: -scores[doc]), start=1):
                sums[doc] = sums.get(doc, 0.0) + 1 / (RRF_K + rank)
    return out


def measure(name: str, encoder: Encoder) -> dict[str, Evaluation]:
    """The runs of a collection, judged."""
    documents, queries, qrels = squadshifts() if name == SQUADSHIFTS else beir(name)
    with tempfile.TemporaryDirectory() as place:
        build_index(documents, Path(place) / "index", encoder=encoder, passages="none")
        with Searcher(Path(place) / "index", encoder=encoder) as searcher:
            modes = ("dense", "lexical", "auto")
            runs = {mode: search_all(searcher, queries, 100, mode=mode) for mode in modes}
    runs["rrf"] = fused(runs["dense"], runs["lexical"])
    return {mode: evaluate_run(run, qrels, METRICS) for mode, run in runs.items()}


def line(found: Evaluation, auto: Evaluation) -> str:
    figures = "  ".join(f"{metric} {found[metric]}" for metric in METRICS)
    if found is auto:
        return figures
    gain = auto.compare(found)["ndcg@10"]
    return f"{figures}  auto {gain.difference.value:+.4f}, p {gain.p:.4f}"


def pooled(found: Sequence[Evaluation]) -> Evaluation:
    """The questions of several collections as one."""
    values = {
        f"{number}/{query}": value
        for number, each in enumerate(found)
        for query, value in each.values["ndcg@10"].items()
    }
    return Evaluation({}, {"ndcg@10": values}, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = (*COLLECTIONS, SQUADSHIFTS)
    parser.add_argument("--collections", nargs="+", default=names, choices=names)
    options = parser.parse_args()
    print(machine())
    encoder = Encoder("all-MiniLM-L6-v2", device="cpu")
    judged = {name: measure(name, encoder) for name in options.collections}
    for name, found in judged.items():
        print(name)
        for mode, each in found.items():
            print(f"  {mode:8} {line(each, found['auto'])}", flush=True)
    some = [found for name, found in judged.items() if name in COLLECTIONS]
    for mode in ("dense", "lexical", "rrf", "auto") if some else ():
        mean = sum(found[mode]["ndcg@10"].value for found in some) / len(some)
        auto, other = (pooled([found[each] for found in some]) for each in ("auto", mode))
        p = (
            ""
            if mode == "auto"
            else f", p of auto over all questions {auto.compare(other)['ndcg@10'].p:.4f}"
        )
        print(f"mean of {len(some)} collections: {mode:8} {mean:.4f}{p}")


if __name__ == "__main__":
    main()
