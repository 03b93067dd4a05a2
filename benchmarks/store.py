"""What a store costs beside plain files: ``python -m benchmarks.store``.

Adding 1,000 ready vectors to a flat index of 100,000; opening it beside ``faiss.read_index``; the
first exact query beside a warm one; resident memory on the way; float16 beside float32.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np

from benchmarks.data import COLLECTIONS, data, machine
from benchmarks.rows import Vectors, embeddings, in_turns, payloads, ratio, write
from indexes import IndexWriter, View

NEW, ROUNDS = 1_000, 7
# Opens an index, and says after each step how much memory of files and of its own is resident.
RESIDENT = """
import sys, numpy as np
from indexes import View

def resident():
    lines = open("/proc/self/status").read().splitlines()
    sizes = dict(line.split(":") for line in lines)
    return [int(sizes[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile")]

before = resident()
view = View(sys.argv[1])
query = np.ones((1, 384), np.float32)
steps = [("open", lambda: None), ("one row", lambda: view.payload(77)),
         ("10 of its rows, filtered", lambda: view.search(query, 10, where="n = 7")),
         ("a question", lambda: view.search(query, 10))]
for name, step in steps:
    step()
    anon, file = (now - then for now, then in zip(resident(), before))
    print(f"  {name}: {anon:.0f} MB of its own, {file:.0f} MB of files")
"""


def adding(folder: Path, rows: Vectors) -> None:
    built, added = [], []
    for turn in range(ROUNDS):
        place = folder / f"adding-{turn}"
        begun = time.perf_counter()
        write(place, rows[:-NEW], kind="flat")
        built.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        with IndexWriter(place) as writer:
            writer.upsert(rows[-NEW:], payloads(len(rows) - NEW, len(rows)))
            writer.commit()
        added.append(time.perf_counter() - begun)
    seconds = {"build": built, "add": added}
    print(f"build {statistics.median(built):.2f} s, add {statistics.median(added):.3f} s")
    print(f"adding {NEW} rows in building {len(rows) - NEW}: {ratio(seconds, 'add', 'build')}")


def opening(folder: Path, rows: Vectors) -> None:
    write(folder / "flat", rows, kind="flat")
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    faiss.write_index(index, str(folder / "flat.faiss"))
    runs = {
        "open": lambda: View(folder / "flat"),
        "faiss.read_index": lambda: faiss.read_index(str(folder / "flat.faiss")),
    }
    seconds = in_turns(runs, 15)
    print({name: f"{1e3 * statistics.median(each):.2f} ms" for name, each in seconds.items()})
    print(f"opening in faiss.read_index: {ratio(seconds, 'open', 'faiss.read_index')}")
    first, warm = [], []
    for query in rows[:ROUNDS]:
        view = View(folder / "flat")
        for into in (first, warm):
            begun = time.perf_counter()
            view.search(query[None], 10)
            into.append(time.perf_counter() - begun)
    seconds = {"first": first, "warm": warm}
    print({name: f"{1e3 * statistics.median(each):.2f} ms" for name, each in seconds.items()})
    print(f"first exact query in a warm one: {ratio(seconds, 'first', 'warm')}")
    for kind in ("flat", "hnsw", "small"):
        if kind != "flat":
            write(folder / kind, rows, kind=kind)
        print(f"resident, {kind}:", flush=True)
        subprocess.run([sys.executable, "-c", RESIDENT, str(folder / kind)], check=True)


def halves(folder: Path) -> None:
    """nDCG@10 with vectors of both formats, and their bytes."""
    from retrieval import Encoder, Searcher, build_index
    from retrieval.evaluation import read_beir, search_all
    from retrieval.metrics import means

    encoder = Encoder("all-MiniLM-L6-v2", device="cpu", dtype="float32")
    encode, seen = encoder.encode_document, {}

    def remembered(texts):  # each text is encoded once for both formats
        new = [text for text in dict.fromkeys(texts) if text not in seen]
        if new:
            seen.update(zip(new, zip(*encode(new), strict=True), strict=True))
        vectors, lost = zip(*(seen[text] for text in texts), strict=True)
        return np.stack(vectors), np.array(lost, np.int32)

    encoder.encode_document = remembered
    for name in COLLECTIONS:
        judged = read_beir(data(f"ir/{name}"))
        line = [name]
        for dtype in ("float32", "float16"):
            place = folder / f"{name}-{dtype}"
            how = {"vectors": dtype, "lexical": False, "passages": "none"}
            build_index(judged.corpus, place, encoder=encoder, **how)
            run = search_all(Searcher(place, encoder=encoder), judged.queries, 100)
            size = sum(path.stat().st_size for path in place.glob("*.vec"))
            found = means(run, judged.qrels, ["ndcg@10"])["ndcg@10"]
            line.append(f"{dtype} nDCG@10 {found:.5f}, {size / 2**20:.2f} MiB of vectors")
        print("; ".join(line))


def main() -> None:
    print(machine("faiss-cpu"))
    rows = embeddings()
    with tempfile.TemporaryDirectory() as folder:
        adding(Path(folder), rows)
        opening(Path(folder), rows)
        halves(Path(folder))


if __name__ == "__main__":
    main()
