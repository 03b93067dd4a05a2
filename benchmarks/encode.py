"""Texts per second beside sentence-transformers, ONNX Runtime and OpenVINO on the same weights,
interleaved in one run, with the vectors compared in the same run.

python -m benchmarks.encode [--of prose|sts] [--texts 2000] [--rounds 5]

For a processor without AMX and AVX-512: ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2
MKL_ENABLE_INSTRUCTIONS=AVX2 before it (the first two do not reach MKL, which multiplies float32);
the run ends with what the libraries then said they use. ONNX Runtime knows no such limit.
"""

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.data import data, instruction_sets, machine, passages
from benchmarks.peers import Encode, peers
from benchmarks.rows import in_turns
from retrieval import Encoder

LEAST_COSINE = 0.99  # of a peer that is worth a comparison


def sentences(count: int, seed: int = 0) -> list[str]:
    """Distinct short sentences drawn at random from STS-Benchmark, in no order of length."""
    files = [data(f"sts/stsb-{split}.tsv") for split in ("train", "dev", "test")]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()[1:]]
    found = sorted({sentence for line in lines for sentence in line.split("\t")[1:3]})
    return random.Random(seed).sample(found, min(count, len(found)))


# What is encoded: long texts, whose cost is arithmetic, and short ones, whose cost is all the rest.
TEXTS: dict[str, Callable[[int], list[str]]] = {"prose": passages, "sts": sentences}


def ours(student: str | None) -> dict[str, Encode]:
    """Our encoder in float32 and as it comes, and a folder distilled from it."""
    made = {f"ours, {dtype}": Encoder(dtype=dtype, device="cpu") for dtype in ("float32", "auto")}
    if student:
        made["student, auto"] = Encoder(student, device="cpu")
    return {f"{name} ({each.record['dtype']})": each.encode for name, each in made.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", choices=TEXTS, default="prose")
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--student", help="a folder distilled from it, timed beside it")
    options = parser.parse_args()
    texts = TEXTS[options.of](options.texts)
    print(machine("sentence-transformers", "transformers", "onnxruntime", "openvino", "nncf"))
    print(f"in use: {instruction_sets()}")
    with tempfile.TemporaryDirectory() as folder:
        theirs = peers(Path(folder), texts)
        encoders = {**theirs, **ours(options.student)}
    cosines = checked(encoders, texts)
    seconds = in_turns(
        {name: partial(run, texts) for name, run in encoders.items()}, options.rounds
    )
    report(seconds, cosines, list(theirs), len(texts))
    print(
        f"{len(texts)} texts of {options.of}, {options.rounds} interleaved rounds, medians (range)"
    )


def checked(encoders: dict[str, Encode], texts: list[str]) -> dict[str, np.ndarray]:
    """The cosine of each text's vector to that of the first."""
    vectors = {name: encode(texts) for name, encode in encoders.items()}
    for rows in vectors.values():  # those that bfloat16 made are not quite of unit length
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first = next(iter(vectors.values()))
    for name, rows in vectors.items():
        print(f"{name:32} max |Δ| {np.abs(rows - first).max():.2e}")
    return {name: (rows * first).sum(axis=1) for name, rows in vectors.items()}


def report(
    seconds: dict[str, list[float]], cosines: dict[str, np.ndarray], theirs: list[str], texts: int
) -> None:
    """A line each, and ours over the best peer whose vectors are near enough."""
    print(f"\n{'':32} {'texts/s':>8}  {'over the first':24} cosine: least, mean")
    for name, taken in seconds.items():
        near = f"{cosines[name].min():.6f}, {cosines[name].mean():.6f}"
        rate = texts / statistics.median(taken)
        print(f"{name:32} {rate:8.1f}  {times(seconds[theirs[0]], taken):24} {near}")
    good = [name for name in theirs[1:] if cosines[name].min() >= LEAST_COSINE]
    for name in (name for name in seconds if name not in theirs and good):
        best = min(good, key=lambda each: statistics.median(seconds[each]))
        print(f"{name} over {best}: {times(seconds[best], seconds[name])}")


def times(theirs: list[float], own: list[float]) -> str:
    """How many times as fast: the median of the rounds, and their range."""
    ratios = [a / b for a, b in zip(theirs, own, strict=True)]
    return f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} … {max(ratios):.2f})"


if __name__ == "__main__":
    main()
