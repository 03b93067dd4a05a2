"""Training files from the shared data: ``python -m benchmarks.training_data FOLDER``.

STS-B as scored pairs, SquadShifts as question and context with a BEIR folder of the dev contexts,
and the prose corpus with the embeddings of all-MiniLM-L6-v2, its shorter passages and pieces.
"""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from benchmarks.data import DATA
from retrieval import Encoder

PASSAGES, PIECES = 65_000, 60_000
SEED = 0


def write_lines(path: Path, rows) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def sts(folder: Path) -> None:
    for split in ("train", "dev", "test"):
        lines = (DATA / f"sts/stsb-{split}.tsv").read_text(encoding="utf-8").splitlines()[1:]
        rows = (line.split("\t") for line in lines)
        write_lines(
            folder / f"sts-{split}.jsonl",
            ({"sentence1": a, "sentence2": b, "score": float(score)} for score, a, b in rows),
        )


def squad(folder: Path) -> None:
    """Questions of all three sources; every distinct dev context is a document."""
    for split in ("train", "dev"):
        files = sorted((DATA / "qa").glob(f"squadshifts-*-{split}.parquet"))
        rows = [row for file in files for row in parquet.read_table(file).to_pylist()]
        np.random.default_rng(SEED).shuffle(rows)
        pairs = [{"query": r["question"], "positive": r["context"]} for r in rows]
        write_lines(folder / f"squad-{split}.jsonl", pairs)
    beir = folder / "squad-dev"
    beir.mkdir(exist_ok=True)
    contexts = {text: str(n) for n, text in enumerate(dict.fromkeys(p["positive"] for p in pairs))}
    write_lines(beir / "corpus.jsonl", ({"_id": i, "text": t} for t, i in contexts.items()))
    write_lines(
        beir / "queries.jsonl", ({"_id": f"q{n}", "text": p["query"]} for n, p in enumerate(pairs))
    )
    judged = (f"q{n}\t{contexts[p['positive']]}\t1\n" for n, p in enumerate(pairs))
    (beir / "qrels.tsv").write_text("query\tdocument\trelevance\n" + "".join(judged))


def distillation(folder: Path) -> None:
    """Passages with their embeddings; titles and sentences, short as questions, embedded here."""
    generator = np.random.default_rng(SEED)
    table = parquet.read_table(DATA / "prose/docs.parquet", columns=["id", "title", "text"])
    row_of = {name: row for row, name in enumerate(table["id"].to_pylist())}
    ids = (DATA / "prose/embeddings-ids.txt").read_text(encoding="utf-8").splitlines()
    vectors = np.load(DATA / "prose/embeddings.f16.npy", mmap_mode="r")
    lengths = pc.utf8_length(table["text"]).to_numpy()[[row_of[name] for name in ids]]
    chosen = np.sort(np.argsort(lengths, kind="stable")[:PASSAGES])
    rows = table.take([row_of[ids[n]] for n in chosen]).to_pylist()
    texts = [f"{row['title']} {row['text']}" for row in rows]
    pieces: list[str] = []
    for row in table.take(generator.permutation(table.num_rows)[: PIECES // 2]).to_pylist():
        sentences = [s for s in re.split(r"(?<=[.!?])\s+", row["text"]) if 20 < len(s) < 300]
        pieces += [row["title"]] * (len(pieces) % 7 == 0)
        pieces += list(generator.permutation(sentences)[:3])
    pieces = list(dict.fromkeys(filter(None, map(str, pieces))))[:PIECES]
    embedded = np.concatenate([vectors[chosen], Encoder().encode(pieces).astype(np.float16)])
    flat = pa.array(embedded.ravel(), pa.float16())
    columns = {
        "text": pa.array([*texts, *pieces]),
        "embedding": pa.FixedSizeListArray.from_arrays(flat, embedded.shape[1]),
    }
    parquet.write_table(pa.table(columns), folder / "distill.parquet")


if __name__ == "__main__":
    out = Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for make in (sts, squad, distillation):
        make(out)
        print(f"{make.__name__} written to {out}", file=sys.stderr)
