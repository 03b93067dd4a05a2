"""Peak memory of a build above the memory with the model loaded, and its growth with the corpus.

python -m benchmarks.memory [--rows 20000]
"""

import argparse
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.data import data
from retrieval import Encoder, build_index

MIB = 2**20


class RandomVectors:
    """An encoder that costs nothing: the first characters choose the direction."""

    dim = 384
    max_length = 256
    fingerprint = "random"

    def __init__(self) -> None:
        table = np.random.default_rng(0).standard_normal((997, self.dim)).astype(np.float32)
        self._table = table / np.linalg.norm(table, axis=1, keepdims=True)

    def encode_query(self, texts: Sequence[str]) -> np.ndarray:
        return self._table[[hash(text[:40]) % len(self._table) for text in texts]]

    def encode_document(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return self.encode_query(texts), np.zeros(len(texts), np.int32)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def draw(rows: int, path: Path) -> Path:
    """A Parquet file of passages drawn at random, in row groups as large as the source's."""
    import pyarrow.parquet as pq

    table = pq.read_table(data("prose/docs.parquet"))
    chosen = np.random.default_rng(0).permutation(table.num_rows)[:rows]
    pq.write_table(table.take(chosen), path, row_group_size=20_000)
    return path


def resident() -> float:
    """The memory of our own process in MiB, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / MIB


class Peak:
    """The highest :func:`resident` seen by a thread that looks every 5 ms."""

    def __enter__(self) -> "Peak":
        self.start = self.top = resident()
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.005):
            self.top = max(self.top, resident())

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._watch.join()


def build(corpus: Path, encoder: object, scratch: str) -> None:
    """Build once and print the peak above the start."""
    started = time.perf_counter()
    with Peak() as peak:
        report = build_index(
            corpus, Path(scratch) / f"{type(encoder).__name__}-{corpus.stem}", encoder=encoder
        )
    print(
        f"{type(encoder).__name__:14} {report.rows:6} rows in "
        f"{time.perf_counter() - started:6.1f} s: {peak.start:6.0f} MiB before, "
        f"peak +{peak.top - peak.start:.0f} MiB",
        flush=True,
    )


def stand_in(corpus: Path, scratch: str) -> None:
    build(corpus, RandomVectors(), scratch)


def real(corpus: Path, scratch: str) -> None:
    encoder = Encoder("all-MiniLM-L6-v2")
    encoder.encode_query(["once, so that everything is loaded"])
    build(corpus, encoder, scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    rows = parser.parse_args().rows
    context = multiprocessing.get_context("spawn")  # a fresh process for each measurement
    with tempfile.TemporaryDirectory() as scratch:
        small = draw(rows, Path(scratch) / "small.parquet")
        large = draw(3 * rows, Path(scratch) / "large.parquet")
        for measure, corpus in ((stand_in, small), (stand_in, large), (real, small)):
            process = context.Process(target=measure, args=(corpus, scratch))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
