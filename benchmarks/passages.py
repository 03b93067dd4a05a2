"""Known-item recall@10 of long documents: cut into passages, against truncated.

python -m benchmarks.passages [--documents 300] [--questions 300]

A document is neighbouring rows of the technical prose, 2,000 words or more; a question is a
sentence from anywhere in one of them, and its document is what must be found.
"""

import argparse
import random
import tempfile
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.data import data, machine
from retrieval import Document, Searcher, build_index
from retrieval.sentences import sentence_starts

WORDS = 2_000  # the least of a document
SENTENCE = range(8, 41)  # words of a sentence that is a question
K = 10
BAR = 1.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chance = random.Random(options.seed)
    documents = list(long_documents(options.documents, chance))
    items = [
        known_item(document, chance) for document in chance.choices(documents, k=options.questions)
    ]
    words = np.mean([len(document.text.split()) for document in documents])
    print(machine())
    print(f"{len(documents)} documents of {words:,.0f} words on average, {len(items)} questions")
    recall = {how: measure(documents, items, how) for how in ("none", "window", "sentences")}
    for how in ("window", "sentences"):
        ratio = recall[how] / recall["none"]
        print(f"{how}: {ratio:.2f} x of the recall of truncated documents (bar {BAR})")


def long_documents(count: int, chance: random.Random) -> Iterator[Document]:
    """Neighbouring rows from random places, none in two documents."""
    import pyarrow.parquet as pq

    texts = pq.read_table(data("prose/docs.parquet"), columns=["text"])["text"]
    apart = len(texts) // count
    for number in range(count):
        at = number * apart + chance.randrange(apart // 2)
        rows: list[str] = []
        while sum(len(row.split()) for row in rows) < WORDS:
            rows.append(texts[at].as_py())
            at += 1
        yield Document(str(number), "\n\n".join(rows))


def known_item(document: Document, chance: random.Random) -> tuple[str, str]:
    """A sentence of the document, and the id that it must find."""
    starts = [*sentence_starts(document.text), len(document.text)]
    sentences = [document.text[start:end].strip() for start, end in pairwise(starts)]
    chosen = [sentence for sentence in sentences if len(sentence.split()) in SENTENCE]
    return chance.choice(chosen), document.id


def measure(documents: Sequence[Document], items: Sequence[tuple[str, str]], how: str) -> float:
    """Recall@10 by the cosine alone, printed with what the index holds."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "index"
        report = build_index(documents, folder, passages=how)
        searcher = Searcher(folder)
        vectors = searcher.encoder.encode_query([question for question, _ in items])
        hits = searcher.search_vectors(vectors, K)
    found = [
        wanted in [hit.document_id for hit in of]
        for of, (_, wanted) in zip(hits, items, strict=True)
    ]
    first = [of[0].document_id == wanted for of, (_, wanted) in zip(hits, items, strict=True)]
    print(
        f"{how:10} {report.passages:10} {report.rows:6,} rows  {report.truncated:4} truncated  "
        f"recall@{K} {np.mean(found):.4f}  recall@1 {np.mean(first):.4f}"
    )
    return float(np.mean(found))


if __name__ == "__main__":
    main()
