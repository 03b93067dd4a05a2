"""nDCG@10 and recall@100 of `retrieval index` and search on three judged collections.

python -m benchmarks.quality [--dtype float32|auto]
"""

import argparse
import tempfile
from pathlib import Path

from benchmarks.data import COLLECTIONS, data, machine
from retrieval import Searcher, build_index
from retrieval.evaluation import DEFAULT_METRICS, read_beir, search_all
from retrieval.metrics import means

# Made with sentence-transformers on the same weights, fp32, 256 tokens: nDCG@10, recall@100.
REFERENCE = {"cranfield": (0.3736, 0.7756), "cisi": (0.4207, 0.4707), "vaswani": (0.4335, 0.6074)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "auto"], nargs="+")
    options = parser.parse_args()
    print(machine("faiss-cpu"))
    for dtype in options.dtype or ["float32", "auto"]:
        for name in COLLECTIONS:
            judged = read_beir(data(f"ir/{name}"))
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "index"
                report = build_index(
                    judged.corpus, folder, dtype=dtype, lexical=False, passages="none"
                )
                with Searcher(folder, dtype=dtype) as searcher:
                    run = search_all(searcher, judged.queries, k=100)
                    used = searcher.content.model["dtype"]
            found = means(run, judged.qrels, DEFAULT_METRICS)
            expected = REFERENCE[name]
            print(
                f"{dtype} ({used})  {name:10} {report.rows:6} rows, {report.skipped} skipped  "
                f"nDCG@10 {found['ndcg@10']:.4f} ({found['ndcg@10'] - expected[0]:+.4f})  "
                f"recall@100 {found['recall@100']:.4f} ({found['recall@100'] - expected[1]:+.4f})"
            )


if __name__ == "__main__":
    main()
