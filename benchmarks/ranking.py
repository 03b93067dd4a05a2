"""nDCG@10 of the ways to rank: ``python -m benchmarks.ranking``.

Dense, lexical, their plain reciprocal rank fusion, and auto, on three judged collections and on the
questions of SquadShifts' dev splits (each to its own passage), with the p of a paired randomisation
test of auto against each.
"""

import tempfile
from pathlib import Path

from pyarrow import parquet

from benchmarks.data import COLLECTIONS, data, machine
from retrieval import Document, Encoder, Qrel, Searcher, build_index
from retrieval.corpus import read_corpus
from retrieval.evaluation import evaluate_run, read_beir, search_all

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


def main() -> None:
    print(machine())
    encoder = Encoder("all-MiniLM-L6-v2", device="cpu")
    sources = {name: beir(name) for name in COLLECTIONS} | {"squadshifts-dev": squadshifts()}
    for name, (documents, queries, qrels) in sources.items():
        with tempfile.TemporaryDirectory() as place:
            build_index(documents, Path(place) / "index", encoder=encoder, passages="none")
            with Searcher(Path(place) / "index", encoder=encoder) as searcher:
                modes = ("dense", "lexical", "auto")
                runs = {mode: search_all(searcher, queries, 100, mode=mode) for mode in modes}
        runs["rrf"] = fused(runs["dense"], runs["lexical"])
        judged = {mode: evaluate_run(run, qrels, METRICS) for mode, run in runs.items()}
        print(name)
        for mode, found in judged.items():
            figures = "  ".join(f"{metric} {found[metric].value:.4f}" for metric in METRICS)
            p = judged["auto"].compare(found)["ndcg@10"].p if mode != "auto" else 1.0
            print(f"  {mode:8} {figures}" + ("" if mode == "auto" else f"  p {p:.4f}"))


if __name__ == "__main__":
    main()
