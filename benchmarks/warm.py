"""One question to an index that is open: p50 through ``Searcher.search``, beside
sentence-transformers with a faiss graph of the same settings.

python -m benchmarks.warm [--rows 100000] [--questions 60] [--rounds 5] [--pauses 0 0.1]

Each has a process of its own, for the threads and the weights of one library slow another's down.
In a round each in turn is asked all the questions, one after another or with a pause before each,
as a server is that has little to do. All give ids, texts and scores.
"""

import argparse
import multiprocessing
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

import faiss

from benchmarks.data import machine, wheel_model
from benchmarks.rows import prose, ratio
from indexes import View
from retrieval import Searcher, import_index

K = 10
LINKS, WIDTH = 32, 100  # of a graph of the kind hnsw
REST = 0.5  # seconds between one's questions and the next one's
Ask = Callable[[str], list[str]]  # a question to the ids of its hits
PEER, OURS = "sentence-transformers + faiss", "ours, HNSW, torch"


def peer(count: int, setting: int) -> Ask:
    from sentence_transformers import SentenceTransformer

    table, rows = prose(count)
    documents = table.select(["id", "title", "text"]).to_pylist()
    model = SentenceTransformer(wheel_model(), device="cpu")
    index = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction, index.hnsw.efSearch = WIDTH, setting
    index.add(rows)

    def ask(question: str) -> list[str]:
        scores, places = index.search(model.encode([question], normalize_embeddings=True), K)
        hits = [(documents[at], score) for at, score in zip(places[0], scores[0], strict=True)]
        return [document["id"] for document, _ in hits]

    return ask


def ours(folder: Path, runtime: str, exact: bool) -> Ask:
    search = Searcher(folder, runtime=runtime).search
    return lambda question: [hit.id for hit in search(question, K, exact=exact)]


class Asked:
    """One that is asked, in a process of its own."""

    def __init__(self, make: Callable[[], Ask]) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(make, theirs), daemon=True)
        self._process.start()
        self._pipe.recv()  # made

    def __call__(self, questions: Sequence[str], pause: float) -> tuple[float, list[list[str]]]:
        """The p50 in seconds, and the ids of the hits of each."""
        self._pipe.send((questions, pause))
        seconds, hits = self._pipe.recv()
        return seconds, hits

    def close(self) -> None:
        self._process.terminate()
        self._process.join()


def _answer(make: Callable[[], Ask], pipe: Connection) -> None:
    ask = make()
    pipe.send(None)
    while True:
        questions, pause = pipe.recv()
        taken, hits = [], []
        for question in questions:
            time.sleep(pause)
            begun = time.perf_counter()
            hits.append(ask(question))
            taken.append(time.perf_counter() - begun)
        pipe.send((statistics.median(taken), hits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pauses", type=float, nargs="+", default=[0, 0.1], help="seconds")
    options = parser.parse_args()
    table, rows = prose(options.rows)
    titles = random.Random(0).sample(table["title"].to_pylist(), options.questions)
    questions = [f"What is said about {title}?" for title in titles]
    with tempfile.TemporaryDirectory() as place, ExitStack() as stack:
        folder = Path(place) / "index"
        import_index(table, rows, folder, kind="hnsw", lexical=False, check=False)
        setting = (View(folder).content.ann or {"knob": 16})["knob"]
        made = {
            PEER: partial(peer, options.rows, setting),
            OURS: partial(ours, folder, "torch", False),
            "ours, HNSW, numpy": partial(ours, folder, "numpy", False),
            "ours, flat, torch": partial(ours, folder, "torch", True),
            "ours, flat, numpy": partial(ours, folder, "numpy", True),
        }
        asked = {name: Asked(make) for name, make in made.items()}
        for each in asked.values():
            stack.callback(each.close)
        print(machine("sentence-transformers", "faiss-cpu"))
        print(
            f"{options.rows} rows, {LINKS} links, {WIDTH} wide, setting {setting}; "
            f"{options.questions} questions, {options.rounds} rounds; of the peer's hits ours: "
            f"{shared(asked[PEER](questions, 0)[1], asked[OURS](questions, 0)[1]):.3f}"
        )
        for pause in options.pauses:
            report(asked, questions, pause, options.rounds)


def shared(theirs: list[list[str]], own: list[list[str]]) -> float:
    """The share of one's hits that the other has, the mean of the questions."""
    return statistics.mean(len({*a} & {*b}) / K for a, b in zip(theirs, own, strict=True))


def report(asked: Mapping[str, Asked], questions: list[str], pause: float, rounds: int) -> None:
    """The p50 of each, and its ratio to the peer's, after one round that does not count."""
    medians: dict[str, list[float]] = {name: [] for name in asked}
    for turn in range(rounds + 1):
        for name, ask in asked.items():
            time.sleep(REST)
            seconds, _ = ask(questions, pause)
            if turn:
                medians[name].append(seconds)
    print(f"\n{pause:g} s before each question")
    for name, taken in medians.items():
        p50 = 1e3 * statistics.median(taken)
        print(f"{name:30} p50 {p50:6.2f} ms, {ratio(medians, name, PEER)} of the peer's")


if __name__ == "__main__":
    main()
