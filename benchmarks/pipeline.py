"""An index built end to end beside encoding alone: the same texts, one loaded encoder, in turns.

python -m benchmarks.pipeline [--rows 2000] [--rounds 5] [--workers 2] [--memory 20000]

The command itself is timed too, with what it takes to start and to load the model, and with
``--workers`` processes; at last the peak memory of a build of ``--memory`` rows, above the loaded
model.
"""

import argparse
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pyarrow.parquet

from benchmarks.data import machine
from benchmarks.memory import draw, real
from benchmarks.rows import in_turns, ratio
from retrieval import Encoder, build_index

ALONE = "encoding alone"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="0: not measured")
    parser.add_argument("--memory", type=int, default=20_000, help="rows; 0: not measured")
    options = parser.parse_args()
    encoder = Encoder(device="cpu")
    print(f"{machine()}; {encoder.record['dtype']}")
    with tempfile.TemporaryDirectory() as place:
        scratch = Path(place)
        corpus = draw(options.rows, scratch / "corpus.parquet")
        rows = pyarrow.parquet.read_table(corpus, columns=["title", "text"]).to_pylist()
        texts = [f"{row['title']} {row['text']}" for row in rows]
        fresh = (str(scratch / f"index-{number}") for number in count())

        def command(*more: str) -> Callable[[], object]:
            line = [sys.executable, "-m", "retrieval", "index", str(corpus), "--passages", "none"]
            return lambda: subprocess.run(
                [*line, *more, "-i", next(fresh)], check=True, capture_output=True
            )

        runs: dict[str, Callable[[], object]] = {
            ALONE: lambda: encoder.encode(texts),
            "build_index": lambda: build_index(
                corpus, next(fresh), encoder=encoder, passages="none"
            ),
            "retrieval index": command(),
        }
        if options.workers:
            more = ("--workers", str(options.workers))
            runs[f"retrieval index {' '.join(more)}"] = command(*more)
        seconds = in_turns(runs, options.rounds)
        print(f"{len(texts)} passages, {options.rounds} interleaved rounds, medians (range)")
        for name, taken in seconds.items():
            rate = len(texts) / statistics.median(taken)
            print(f"{name:28} {rate:7.1f} texts/s, {ratio(seconds, ALONE, name)} of {ALONE}")
        if options.memory:
            large = draw(options.memory, scratch / "large.parquet")
            context = multiprocessing.get_context("spawn")  # nothing of the above in its memory
            process = context.Process(target=real, args=(large, place))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
