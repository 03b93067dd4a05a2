"""The prose embeddings as rows of an index, and times taken in turns."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
from pyarrow import parquet

from benchmarks.data import data
from indexes import Content, IndexWriter

Vectors = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
BATCH = 5_000
SCHEMA = [{"name": "n", "type": "int64"}]


def embeddings() -> Vectors:
    """The 100,000 prose embeddings, unit float32 [n, 384], in an order of chance."""
    rows = np.load(data("prose/embeddings.f16.npy")).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows[np.random.default_rng(0).permutation(len(rows))]


def prose(count: int) -> tuple[pa.Table, Vectors]:
    """The first of those passages, with their columns, and their vectors, in the file's order."""
    ids = data("prose/embeddings-ids.txt").read_text().splitlines()[:count]
    rows = np.load(data("prose/embeddings.f16.npy"))[:count].astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = ["id", "title", "text", "source", "license"]
    table = parquet.read_table(data("prose/docs.parquet"), columns=names)
    return table.take(pa.compute.index_in(pa.array(ids), table["id"])), rows


def payloads(first: int, behind: int) -> list[bytes]:
    """Documents of some rows; their number n, 0 … 999, selects a share of them."""
    return [
        json.dumps({"id": str(i), "title": "", "text": "", "metadata": {"n": i % 1_000}}).encode()
        for i in range(first, behind)
    ]


def write(folder: Path, rows: Vectors, **fields: object) -> None:
    """An index of ready vectors."""
    content = Content(rows.shape[1], {"fingerprint": "-"}, schema=SCHEMA, **fields)
    with IndexWriter(folder, content) as writer:
        for first in range(0, len(rows), BATCH):
            part = rows[first : first + BATCH]
            writer.add(part, payloads(first, first + len(part)))
        writer.commit()


def recall(found: Positions, truth: Positions) -> float:
    """The share of the true rows that is found, the mean of the lines."""
    lines = zip(found, truth, strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in lines]))


def in_turns(runs: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, list[float]]:
    """Seconds of each run, taken in turns after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            begun = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - begun)
    return seconds


def ratio(seconds: Mapping[str, list[float]], name: str, to: str) -> str:
    """The median of the ratios of two runs, and their range."""
    ratios = [a / b for a, b in zip(seconds[name], seconds[to], strict=True)]
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f}–{max(ratios):.3f})"
