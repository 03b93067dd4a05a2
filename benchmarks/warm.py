"""One question to an index that is open: p50 through ``Searcher.search``, beside
sentence-transformers with a faiss graph of the same settings.

python -m benchmarks.warm [--rows 100000] [--questions 60] [--rounds 5]

Each question goes to all of them in turn, with a pause before each: threads that are done spin for
a while, on the cores that the next one needs. Both give ids, texts and scores. A ``Searcher``
begins with NumPy and has moved over to torch after a hundred questions.
"""

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
from sentence_transformers import SentenceTransformer

from benchmarks.data import machine, wheel_model
from benchmarks.rows import Vectors, prose
from indexes import View
from retrieval import Searcher, import_index

K = 10
LINKS, WIDTH = 32, 100  # of a graph of the kind hnsw
PAUSE = 0.1  # seconds
Ask = Callable[[str], list[str]]  # a question to the ids of its hits
PEER = "sentence-transformers + faiss"


def peer(rows: Vectors, documents: list[dict[str, str]], setting: int) -> Ask:
    model = SentenceTransformer(wheel_model(), device="cpu")
    index = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = WIDTH, setting
    index.add(rows)

    def ask(question: str) -> list[str]:
        scores, places = index.search(model.encode([question], normalize_embeddings=True), K)
        hits = [(documents[at], score) for at, score in zip(places[0], scores[0], strict=True)]
        return [document["id"] for document, _ in hits]

    return ask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    table, rows = prose(options.rows)
    documents = table.select(["id", "title", "text"]).to_pylist()
    drawn = random.Random(0).sample(documents, options.questions)
    questions = [f"What is said about {document['title']}?" for document in drawn]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "index"
        import_index(table, rows, folder, kind="hnsw", lexical=False, check=False)
        setting = (View(folder).content.ann or {"knob": 16})["knob"]
        ours = {runtime: Searcher(folder, runtime=runtime) for runtime in ("torch", "numpy")}

        def asking(runtime: str, exact: bool) -> Ask:
            search = ours[runtime].search
            return lambda question: [hit.id for hit in search(question, K, exact=exact)]

        asks = {
            PEER: peer(rows, documents, setting),
            "ours, HNSW": asking("torch", False),
            "ours, HNSW, numpy": asking("numpy", False),
            "ours, flat": asking("torch", True),
        }
        medians = measured(asks, questions, options.rounds)
        same = [len({*asks[PEER](q)} & {*asks["ours, HNSW"](q)}) / K for q in questions]
    print(machine("sentence-transformers", "faiss-cpu"))
    print(
        f"{options.rows} rows, {LINKS} links, {WIDTH} wide, setting {setting}; {len(questions)} "
        f"questions, {options.rounds} rounds; of the peer's hits ours: {statistics.mean(same):.3f}"
    )
    for name, taken in medians.items():
        ratios = [own / base for own, base in zip(taken, medians[PEER], strict=True)]
        print(
            f"{name:30} p50 {1e3 * statistics.median(taken):6.2f} ms, "
            f"{statistics.median(ratios):.3f} x ({min(ratios):.3f} … {max(ratios):.3f})"
        )


def measured(asks: dict[str, Ask], questions: list[str], rounds: int) -> dict[str, list[float]]:
    """The p50 of each in each round, in seconds, after one round that does not count."""
    medians: dict[str, list[float]] = {name: [] for name in asks}
    for turn in range(rounds + 1):
        taken: dict[str, list[float]] = {name: [] for name in asks}
        for question in questions:
            for name, ask in asks.items():
                time.sleep(PAUSE)
                begun = time.perf_counter()
                ask(question)
                taken[name].append(time.perf_counter() - begun)
        for name, seconds in taken.items() if turn else ():
            medians[name].append(statistics.median(seconds))
    return medians


if __name__ == "__main__":
    main()
