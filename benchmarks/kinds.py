"""Kinds of index beside bare libraries: ``python -m benchmarks.kinds [speed|grown|filters]``.

Real embeddings of technical prose, one thread, 1,000 queries in one call that no index has seen.
``pip install hnswlib usearch lancedb`` for the peers.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import faiss
import numpy as np

from benchmarks.data import machine
from benchmarks.rows import (
    Positions,
    Vectors,
    embeddings,
    in_turns,
    payloads,
    ratio,
    recall,
    write,
)
from indexes import IndexWriter, View

QUERIES, K, LINKS, WIDTH = 1_000, 10, 32, 100
FILTERS = {"0.1 %": "n = 7", "1 %": "n < 10", "10 %": "n < 100", "50 %": "n < 500"}
Search = Callable[[Vectors], Positions]


def exact(rows: Vectors, queries: Vectors) -> Positions:
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    return index.search(queries, K)[1]


def bare_faiss(rows: Vectors) -> Any:
    index = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = WIDTH
    index.add(rows)
    return index


def faiss_search(index: Any, setting: int) -> Search:
    params = faiss.SearchParametersHNSW(efSearch=setting)
    return lambda queries: index.search(queries, K, params=params)[1]


def hnswlib_index(rows: Vectors) -> Any:
    import hnswlib

    index = hnswlib.Index("ip", rows.shape[1])
    index.init_index(len(rows), M=LINKS, ef_construction=WIDTH, random_seed=1)
    index.add_items(rows, num_threads=1)
    index.set_num_threads(1)
    return index


def usearch_index(rows: Vectors) -> Any:
    from usearch.index import Index

    index = Index(ndim=rows.shape[1], metric="ip", connectivity=LINKS, expansion_add=WIDTH)
    index.add(np.arange(len(rows)), rows, threads=1)
    return index


def hnswlib_search(index: Any, setting: int) -> Search:
    def search(queries: Vectors) -> Positions:
        index.set_ef(setting)
        return index.knn_query(queries, K, num_threads=1)[0].astype(np.int64)

    return search


def usearch_search(index: Any, setting: int) -> Search:
    def search(queries: Vectors) -> Positions:
        index.expansion_search = setting
        return index.search(queries, K, threads=1).keys.astype(np.int64)

    return search


def reaching(
    make: Callable[[int], Search], queries: Vectors, truth: Positions
) -> tuple[int, float]:
    """The least setting whose recall is 0.95, and that recall."""
    for setting in (10, 12, 16, 20, 24, 32, 40, 48, 64, 96, 128):
        found = recall(make(setting)(queries), truth)
        if found >= 0.95:
            break
    return setting, found


def ours(view: View) -> Search:
    return lambda queries: view.search(queries, K)[1]


def compare(view: View, rows: Vectors, queries: Vectors, to_id: Positions | None = None) -> None:
    """Ours, bare FAISS at its setting, hnswlib and usearch at a recall of 0.95."""
    truth = exact(rows, queries)
    promised = view.content.ann or {}
    index, theirs, usearch = bare_faiss(rows), hnswlib_index(rows), usearch_index(rows)
    makes = {
        "hnswlib": lambda setting: hnswlib_search(theirs, setting),
        "usearch": lambda setting: usearch_search(usearch, setting),
    }
    settings = {name: reaching(make, queries, truth)[0] for name, make in makes.items()}
    runs = {"ours": ours(view), "faiss": faiss_search(index, promised["knob"])}
    runs |= {name: make(settings[name]) for name, make in makes.items()}
    settings |= {"ours": promised["knob"], "faiss": promised["knob"]}
    seconds = in_turns({name: lambda run=run: run(queries) for name, run in runs.items()})
    print(f"certificate: {promised}")
    for name, run in runs.items():
        found = run(queries)
        if name == "ours" and to_id is not None:
            found = to_id[found]
        rate = len(queries) / statistics.median(seconds[name])
        speed = ratio(seconds, name, "ours")
        print(
            f"{name:8} setting {settings[name]:4}  recall@10 {recall(found, truth):.4f}  "
            f"{rate:8,.0f} queries/s  time in ours: {speed}"
        )


def speed(folder: Path, rows: Vectors, queries: Vectors) -> None:
    for kind in ("hnsw", "small"):
        write(folder / kind, rows, kind=kind)
        view = View(folder / kind)
        found, truth = view.search(queries, K)[1], exact(rows, queries)
        print(f"{kind}: {view.content.ann}; measured with fresh queries {recall(found, truth):.4f}")
    compare(View(folder / "hnsw"), rows, queries)


def grown(folder: Path, rows: Vectors, queries: Vectors) -> None:
    """50 commits of 1,000 rows, and one row in ten deleted on the way."""
    begin = len(rows) - 50_000
    write(folder / "grown", rows[:begin], kind="hnsw")
    gone = np.random.default_rng(1).permutation(begin)[: len(rows) // 10]
    for number in range(50):
        with IndexWriter(folder / "grown") as writer:
            first = begin + 1_000 * number
            writer.upsert(rows[first : first + 1_000], payloads(first, first + 1_000))
            writer.delete(str(row) for row in gone[number::50])
            writer.commit()
    view = View(folder / "grown")
    print("segments:", [(s.rows, s.dead, "ann" in s.files) for s in view.content.segments])
    live = np.setdiff1d(np.arange(len(rows)), gone)
    ids = [int(view.payload(int(p)).split(b'"')[3]) for p in view.positions()]
    to_live = np.full(sum(s.rows for s in view.content.segments), -1)
    to_live[view.positions()] = np.searchsorted(live, ids)
    compare(view, np.ascontiguousarray(rows[live]), queries, to_live)


def filters(folder: Path, rows: Vectors, queries: Vectors) -> None:
    """One question at a time, p50, each filter's columns read before."""
    views = {}
    for kind in ("flat", "hnsw", "small"):
        if not (folder / kind).exists():
            write(folder / kind, rows, kind=kind)
        views[kind] = View(folder / kind)
    table = lance(folder, rows)
    for name, where in {"all": None, **FILTERS}.items():
        runs = {kind: partial(asked, view, where) for kind, view in views.items()}
        runs["lancedb"] = partial(lance_asked, table, where)
        seconds = {kind: [] for kind in runs}
        for query in queries[:220]:
            for kind, run in runs.items():
                begun = time.perf_counter()
                run(query)
                seconds[kind].append(time.perf_counter() - begun)
        taken = {kind: 1e3 * statistics.median(each[20:]) for kind, each in seconds.items()}
        pairs = [views["hnsw"].search(queries, K, where=where, exact=e)[1] for e in (False, True)]
        print(
            f"{name:6}",
            *(f"{kind} {each:7.3f} ms " for kind, each in taken.items()),
            f"recall@10 of hnsw {recall(*pairs):.3f}",
        )


def asked(view: View, where: str | None, query: Vectors) -> object:
    return view.search(query[None], K, where=where)


def lance(folder: Path, rows: Vectors) -> Any:
    import lancedb
    import pyarrow as pa

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    numbers = pa.array(np.arange(len(rows)) % 1_000)
    table = lancedb.connect(folder / "lance").create_table(
        "rows", pa.table({"vector": vectors, "n": numbers}), mode="overwrite"
    )
    table.create_index("cosine", vector_column_name="vector", index_type="IVF_HNSW_SQ")
    return table


def lance_asked(table: Any, where: str | None, query: Vectors) -> object:
    found = table.search(query).limit(K).distance_type("cosine")
    return (found.where(where, prefilter=True) if where else found).to_arrow()


PARTS = {"speed": speed, "grown": grown, "filters": filters}


def main() -> None:
    faiss.omp_set_num_threads(1)
    rows = embeddings()
    rows, queries = rows[:-QUERIES], np.ascontiguousarray(rows[-QUERIES:])
    print(machine("faiss-cpu"))
    with tempfile.TemporaryDirectory() as folder:
        for name in sys.argv[1:] or PARTS:
            print(f"\n{name}")
            PARTS[name](Path(folder), rows, queries)


if __name__ == "__main__":
    main()
