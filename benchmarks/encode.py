"""Texts per second against sentence-transformers as it comes, interleaved, with equality checked.

python -m benchmarks.encode [--of prose|sts] [--texts 2000] [--rounds 5]
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.data import data, machine, passages, wheel_model
from retrieval import Encoder


def sentences(count: int, seed: int = 0) -> list[str]:
    """Distinct short sentences drawn at random from STS-Benchmark, in no order of length."""
    files = [data(f"sts/stsb-{split}.tsv") for split in ("train", "dev", "test")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    found = sorted({sentence for line in lines for sentence in line.split("\t")[1:3]})
    return random.Random(seed).sample(found, min(count, len(found)))


# What is encoded: long texts, whose cost is arithmetic, and short ones, whose cost is all the rest.
TEXTS: dict[str, Callable[[int], list[str]]] = {"prose": passages, "sts": sentences}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", choices=TEXTS, default="prose")
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--student", help="a folder distilled from it, timed beside it")
    options = parser.parse_args()
    texts = TEXTS[options.of](options.texts)
    peer = SentenceTransformer(wheel_model(), device="cpu")
    runs: dict[str, Callable[[], np.ndarray]] = {
        "sentence-transformers, fp32, batch 32": lambda: peer.encode(texts, batch_size=32),
    }
    for dtype in ("float32", "auto"):
        encoder = Encoder("all-MiniLM-L6-v2", dtype=dtype, device="cpu")
        name = f"ours, {dtype} ({encoder.record['dtype']})"
        runs[name] = lambda encoder=encoder: np.concatenate(list(encoder.encode_stream(texts)))
    if options.student:
        student = Encoder(options.student, device="cpu")
        runs["student, auto"] = lambda: np.concatenate(list(student.encode_stream(texts)))

    reference = next(iter(runs.values()))()
    for name, run in runs.items():  # the first pass warms up, and checks what is compared
        vectors = run()
        cosines = (vectors * reference).sum(axis=1)
        print(
            f"{name}: max |Δ| {np.abs(vectors - reference).max():.2e}, "
            f"cosine min {cosines.min():.6f} mean {cosines.mean():.6f}"
        )
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)

    print(f"\n{machine('sentence-transformers', 'transformers')}")
    print(f"{len(texts)} texts of {options.of}, {options.rounds} interleaved rounds, medians")
    baseline = next(iter(seconds.values()))
    for name, taken in seconds.items():
        ratios = [base / own for base, own in zip(baseline, taken, strict=True)]
        print(
            f"{name:45} {len(texts) / statistics.median(taken):7.1f} texts/s"
            f"   {statistics.median(ratios):.2f} x  ({min(ratios):.2f} … {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
