"""Ranking by words beside bm25s, and by both beside the cosine alone, on prose with ready vectors.

python -m benchmarks.hybrid [--passages 100000] [--questions 100]

Questions of SquadShifts. BM25 gets the same terms on both sides, made from the question each time,
and its scores are compared. Hybrid is a whole `Searcher.search`, the question's encoding included,
beside the same in dense mode: through the index's kind and, with exact, over every row.
"""

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import bm25s
import numpy as np
import torch
from pyarrow import parquet

from benchmarks.data import data, machine
from benchmarks.rows import in_turns, prose, ratio
from indexes import View
from retrieval import Searcher, import_index
from retrieval.analysis import terms
from retrieval.documents import Document
from retrieval.lexical import K1, B, Lexical

K = 10


def questions(count: int) -> list[str]:
    """As many as people asked, drawn evenly."""
    table = parquet.read_table(data("qa/squadshifts-new-wiki-dev.parquet"), columns=["question"])
    every = table["question"].to_pylist()
    return every[:: max(1, len(every) // count)][:count]


def beside_bm25s(folder: Path, texts: list[str], asked: list[str], rounds: int) -> None:
    """Queries a second of both, and how far their scores differ."""
    peer = bm25s.BM25(method="lucene", k1=K1, b=B)
    peer.index([terms(text) for text in texts], show_progress=False)
    ours = Lexical.of(View(folder))

    def ask_peer(question: str) -> np.ndarray:
        tokens = [terms(question)]
        return peer.retrieve(tokens, k=K, show_progress=False, n_threads=1)[1][0]

    apart = 0.0
    for question in asked:
        own = ours.search(question, K)[0]
        apart = max(apart, float(np.abs(own - ask_peer(question)[: len(own)]).max(initial=0)))
    seconds = in_turns(
        {
            "ours": lambda: [ours.search(question, K) for question in asked],
            "bm25s": lambda: [ask_peer(question) for question in asked],
        },
        rounds,
    )
    for name, spent in seconds.items():
        print(f"BM25, {name:6} {len(asked) / statistics.median(spent):8.0f} queries/s")
    print(
        f"ours is {ratio(seconds, 'bm25s', 'ours')} x bm25s (bar 0.5); scores differ by {apart:.1e}"
    )


def beside_dense(folder: Path, asked: list[str], rounds: int) -> None:
    """Milliseconds of a question, median of all, in turns."""
    with Searcher(folder) as searcher:
        modes = {
            f"{mode}{', exact' * exact}": {"mode": mode, "exact": exact}
            for exact in (False, True)
            for mode in ("dense", "lexical", "hybrid")
        }
        spent: dict[str, list[float]] = {name: [] for name in modes}
        for question in asked:
            runs = {
                name: lambda how=how, question=question: searcher.search(question, K, **how)
                for name, how in modes.items()
            }
            for name, seconds in in_turns(runs, rounds).items():
                spent[name].append(statistics.median(seconds))
    for name, seconds in spent.items():
        p50, p95 = np.quantile(seconds, [0.5, 0.95])
        base = statistics.median(spent[f"dense{', exact' * name.endswith('exact')}"])
        print(
            f"{name:15} p50 {1e3 * p50:7.2f} ms  p95 {1e3 * p95:7.2f} ms  {p50 / base:.2f} x dense"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kind", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine("bm25s", "faiss-cpu"))
    asked = questions(options.questions)
    table, vectors = prose(options.passages)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "index"
        import_index(table, vectors, folder, kind=options.kind, check=False)
        sizes = sum(file.stat().st_size for file in folder.glob("*.lexical"))
        view = View(folder)
        print(f"{len(view):,} passages, kind {(view.content.ann or {}).get('kind', 'flat')}")
        payloads = (json.loads(view.payload(int(row))) for row in view.positions())
        texts = [Document(p["id"], p["text"], p["title"]).full_text for p in payloads]
        held = sum(len(set(terms(text))) for text in texts)
        print(f"postings: {sizes / 2**20:.1f} MiB, {sizes / held:.1f} bytes each")
        beside_bm25s(folder, texts, asked, options.rounds)
        beside_dense(folder, asked, max(1, options.rounds // 2))


if __name__ == "__main__":
    main()
