"""A question from the shell, whole processes in turns: ``python -m benchmarks.cold_start``.

``retrieval query`` in an environment that holds ``requirements-query.txt`` only, and in this one,
beside two scripts over the same weights and vectors: sentence-transformers with faiss, and a lean
one of onnxruntime, tokenizers and numpy; and the same question by words too, with a filter. Wall
time and peak memory, page cache warm.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.data import machine, wheel_model
from benchmarks.peers import export
from benchmarks.rows import prose

# Sources from elsewhere, or compiled anew by every process: not what is installed.
UNUSUAL = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
QUESTION = "How do I wrap a function in code?"
HEAVY = """
import json, sys
import faiss
from sentence_transformers import SentenceTransformer
folder, model, question = sys.argv[1:]
encoder = SentenceTransformer(model, device="cpu")
index = faiss.read_index(folder + "/rows.faiss")
texts = open(folder + "/texts.jsonl").read().splitlines()
scores, rows = index.search(encoder.encode([question], normalize_embeddings=True), 10)
for score, row in zip(scores[0], rows[0]):
    print(json.dumps({"score": float(score), **json.loads(texts[row])}))
"""
LEAN = """
import json, sys
import numpy as np, onnxruntime
from tokenizers import Tokenizer
folder, model, question = sys.argv[1:]
tokenizer = Tokenizer.from_file(model + "/tokenizer.json")
tokenizer.no_padding()
tokens = tokenizer.encode(question)
session = onnxruntime.InferenceSession(folder + "/model.onnx")
given = {"input_ids": np.array([tokens.ids]), "attention_mask": np.ones((1, len(tokens.ids)), int)}
wanted = {each.name for each in session.get_inputs()}
vector = session.run(None, {k: v for k, v in given.items() if k in wanted})[0].reshape(-1)[:384]
rows = np.load(folder + "/rows.npy", mmap_mode="r")
scores = rows @ (vector / np.linalg.norm(vector))
best = np.argpartition(-scores, 10)[:10]
texts = open(folder + "/texts.jsonl").read().splitlines()
for row in best[np.argsort(-scores[best])]:
    print(json.dumps({"score": float(scores[row]), **json.loads(texts[row])}))
"""


def prepare(folder: Path, count: int) -> None:
    """An index, and the same vectors, texts and weights for the peers."""
    import faiss

    from retrieval import import_index

    table, rows = prose(count)
    import_index(table, rows, folder / "index", kind="flat", check=False)
    np.save(folder / "rows.npy", rows)
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    faiss.write_index(index, str(folder / "rows.faiss"))
    lines = [json.dumps(row) for row in table.to_pylist()]
    (folder / "texts.jsonl").write_text("\n".join(lines))
    export(folder / "model.onnx")


def lean_environment(folder: Path) -> Path:
    """A fresh environment that holds requirements-query.txt and this library."""
    subprocess.run([sys.executable, "-m", "venv", folder / "lean"], check=True)
    python = folder / "lean/bin/python"
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    root = Path(__file__).parents[1]
    for what in (["--no-deps", str(root)], ["-r", str(root / "requirements-query.txt")]):
        subprocess.run([*pip, "-c", root / "constraints.txt", *what], check=True)
    return python


def megabytes(python: Path) -> float:
    """What an environment has installed."""
    packages = next(python.parents[1].glob("lib/python*/site-packages"))
    return sum(f.lstat().st_size for f in packages.rglob("*") if f.is_file()) / 2**20


def spent(command: Sequence[object]) -> tuple[float, float, list[str]]:
    """Seconds, megabytes at the peak, and the lines that were written."""
    begun = time.perf_counter()
    # A process of its own in between: the peak of children is that of the largest so far.
    code = (
        "import resource, subprocess, sys; "
        "done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True); "
        "sys.stderr.write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)); "
        "sys.stdout.buffer.write(done.stdout)"
    )
    outer = [sys.executable, "-I", "-S", "-c", code, *map(str, command)]
    env = {name: value for name, value in os.environ.items() if name not in UNUSUAL}
    done = subprocess.run(outer, capture_output=True, text=True, check=True, env=env)
    seconds = time.perf_counter() - begun
    return seconds, int(done.stderr.splitlines()[-1]) / 1024, done.stdout.splitlines()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--passages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, model = Path(place), wheel_model()
        prepare(folder, options.passages)
        lean = lean_environment(folder)
        print(machine("sentence-transformers", "faiss-cpu", "onnxruntime", "tokenizers"))
        sizes = [f"{megabytes(Path(each)):.0f} MB" for each in (lean, sys.executable)]
        print(f"installed: lean {sizes[0]}, development {sizes[1]}")
        query = ["query", QUESTION, "-i", folder / "index", "--mode"]
        hybrid = [*query, "hybrid", "--where", "source like 'python/%'"]
        runs = {
            "ours, lean environment": [lean.parent / "retrieval", *query, "dense"],
            "ours": [Path(sys.executable).parent / "retrieval", *query, "dense"],
            "hybrid, filtered, lean": [lean.parent / "retrieval", *hybrid],
            "sentence-transformers + faiss": [sys.executable, "-c", HEAVY, folder, model, QUESTION],
            "onnxruntime + numpy": [sys.executable, "-c", LEAN, folder, model, QUESTION],
        }
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for turn in range(options.rounds + 1):
            for name, command in runs.items():
                seconds, peak, lines = spent(command)
                if turn:
                    measured[name].append((seconds, peak))
                else:
                    print(f"{name}: {[json.loads(line)['id'] for line in lines][:3]}")
    base = "ours, lean environment"
    for name in runs:
        line = [f"{name:32}"]
        for at, unit in enumerate(("s", "MB")):
            own, theirs = ([pair[at] for pair in measured[key]] for key in (base, name))
            ratios = [a / b for a, b in zip(own, theirs, strict=True)]
            line.append(
                f"{statistics.median(theirs):7.2f} {unit}, ours {statistics.median(ratios):.3f} × "
                f"({min(ratios):.3f}–{max(ratios):.3f})"
            )
        print("  ".join(line))
    plain, filtered = ([s for s, _ in measured[name]] for name in (base, "hybrid, filtered, lean"))
    ratios = [a / b for a, b in zip(filtered, plain, strict=True)]
    print(f"hybrid with a filter takes {statistics.median(ratios):.2f} x the plain one (bar 2)")


if __name__ == "__main__":
    main()
