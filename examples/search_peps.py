"""Index a Parquet file and ask it questions, from Python.

    python examples/search_peps.py [index folder]

The first run encodes the passages (a minute at most); later runs only ask.
"""

import sys
from pathlib import Path
from textwrap import fill, indent, shorten

from retrieval import IndexExists, Searcher, build_index

CORPUS = Path(__file__).parent / "data" / "peps.parquet"
QUESTIONS = (
    "How do decorators work?",
    "How do I make sure that a file is closed when an error happens?",
    "Who decides whether a PEP is accepted?",
)


def main(folder: str = "peps-index") -> None:
    try:
        report = build_index(CORPUS, folder)
        print(f"{report.rows} passages in {report.seconds:.0f} s")
    except IndexExists:
        print(f"{folder} is there already")
    with Searcher(folder) as searcher:
        for question, hits in zip(QUESTIONS, searcher.search_batch(QUESTIONS, k=3), strict=True):
            print(f"\n{question}")
            for hit in hits:
                print(f"{hit.rank}. {hit.score:.3f}  PEP {hit.metadata['pep']}: {hit.title}")
                print(indent(fill(shorten(hit.text, 300), 90), "   "))


if __name__ == "__main__":
    main(*sys.argv[1:])
