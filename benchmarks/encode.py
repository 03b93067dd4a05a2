"""Texts per second against sentence-transformers as it comes, interleaved, with equality checked.

python -m benchmarks.encode [--texts 500] [--rounds 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from sentence_transformers import SentenceTransformer

from benchmarks.data import machine, passages, wheel_model
from retrieval import Encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--student", help="a folder distilled from it, timed beside it")
    options = parser.parse_args()
    texts = passages(options.texts)
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
    print(f"{options.texts} passages, {options.rounds} interleaved rounds, medians")
    baseline = next(iter(seconds.values()))
    for name, taken in seconds.items():
        ratios = [base / own for base, own in zip(baseline, taken, strict=True)]
        print(
            f"{name:45} {options.texts / statistics.median(taken):7.1f} texts/s"
            f"   {statistics.median(ratios):.2f} x  ({min(ratios):.2f} … {max(ratios):.2f})"
        )


if __name__ == "__main__":
    main()
