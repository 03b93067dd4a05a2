"""nDCG@10 by the cosine, before and after the encoder adapts to a collection without labels.

python -m benchmarks.adapting [--collections cranfield cisi vaswani] [-- OPTIONS of train encoder]

`retrieval train encoder --from-index` with its defaults, then the index moved over to what comes
out. Queries and judgments only measure.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.data import COLLECTIONS, data, machine
from retrieval import Evaluation, Searcher, build_index, evaluate
from retrieval.changing import reencode
from retrieval.evaluation import JudgedCorpus, read_beir

METRIC = "ndcg@10"
BAR = -0.005  # the least difference of any collection; two of three must gain


def measured(index: Path, judged: JudgedCorpus) -> Evaluation:
    with Searcher(index) as searcher:
        return evaluate(searcher, judged, [METRIC, "recall@100"], mode="dense")


def adapt(name: str, options: list[str]) -> float:
    """Print what a collection gains; the difference of nDCG@10."""
    judged = read_beir(data(f"ir/{name}"))
    with tempfile.TemporaryDirectory() as scratch:
        index, adapted = Path(scratch) / "index", Path(scratch) / "adapted"
        how = {"passages": "none", "lexical": False, "metadata_columns": []}
        build_index(judged.corpus, index, **how)
        before = measured(index, judged)
        train = [sys.executable, "-m", "retrieval", "train", "encoder", "--from-index", index]
        begun = time.perf_counter()
        command = [*train, "-o", adapted, "--logger", "none", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - begun
        reencode(index, model=str(adapted))
        after = measured(index, judged)
    found = after.compare(before)[METRIC]
    print(
        f"{name:10} {METRIC} {before[METRIC].value:.4f} -> {after[METRIC].value:.4f}, difference "
        f"{found.difference}, p {found.p:.4f}; recall@100 {before['recall@100'].value:.4f} -> "
        f"{after['recall@100'].value:.4f}; trained in {seconds:.0f} s",
        flush=True,
    )
    return found.difference.value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--collections", nargs="+", default=COLLECTIONS, choices=COLLECTIONS)
    parser.add_argument("options", nargs="*", help="of retrieval train encoder, behind --")
    options = parser.parse_args()
    print(machine())
    gains = [adapt(name, options.options) for name in options.collections]
    up, least = sum(gain > 0 for gain in gains), min(gains)
    print(f"{up} of {len(gains)} gain; the least difference is {least:+.4f} (bar {BAR})")


if __name__ == "__main__":
    main()
