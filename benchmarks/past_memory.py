"""An index several times larger than the memory it is built and searched in.

    python -m benchmarks.past_memory [ROWS] [MEGABYTES]    # 800,000 rows: 1.2 GB of vectors, in 256

The kernel holds each process to the limit, pages of mapped files included (a control group, so
that it needs Linux and root). Builds flat and ``small``, then searches each in a process of its
own: the recall beside the exact search, and what is resident in the end. A graph is built over a
copy of its segment's vectors in memory, and is left out.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.data import machine
from benchmarks.rows import SCHEMA, Vectors, embeddings, payloads, recall
from indexes import Content, IndexWriter, View

DIM, BATCH, QUERIES, KINDS = 384, 5_000, 200, ("flat", "small")
GROUPS = {  # version of control groups -> its folder, the file of its limit
    2: (Path("/sys/fs/cgroup"), "memory.max"),
    1: (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
}


def limited(megabytes: int) -> Path:
    """A control group that holds what joins it to so much memory."""
    version = 2 if Path("/sys/fs/cgroup/cgroup.controllers").exists() else 1
    parent, limit = GROUPS[version]
    group = parent / f"past-memory-{os.getpid()}"
    group.mkdir()
    (group / limit).write_text(str(megabytes * 2**20))
    return group


def scattered(first: int, count: int) -> Vectors:
    """Unit rows near to real embeddings, the same for the same numbers; a block in memory."""
    near = np.load(os.environ["NEAR"], mmap_mode="r")
    chance = np.random.default_rng(first)
    rows = near[np.sort(chance.choice(len(near), count))].astype(np.float32)
    rows += chance.standard_normal(rows.shape, np.float32) * 0.02
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def build(folder: str, kind: str, rows: str) -> None:
    begun = time.perf_counter()
    content = Content(DIM, {"fingerprint": "-"}, schema=SCHEMA, kind=kind)
    with IndexWriter(folder, content) as writer:
        for first in range(0, int(rows), BATCH):
            writer.add(scattered(first, BATCH), payloads(first, first + BATCH))
            if first % (20 * BATCH) == 0:
                writer.checkpoint()  # what is on disk can leave the memory
        made = writer.commit()
    print(
        f"{kind}: built in {time.perf_counter() - begun:.0f} s, {made.bytes / 1e6:.0f} MB", end=""
    )
    print(f", certificate {made.ann['recall']:.4f} at {made.ann['knob']}" if made.ann else "")


def search(folder: str, kind: str, rows: str) -> None:
    view, queries = View(folder), scattered(-1 % 2**32, QUERIES)
    begun = time.perf_counter()
    found = view.search(queries, 10)[1]
    seconds = time.perf_counter() - begun
    alone = sorted(_seconds(view, query) for query in queries[:50])[25]
    near = recall(found, view.search(queries, 10, exact=True)[1])
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    own, files = (int(status[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    print(
        f"{kind}: {QUERIES} queries in {seconds:.1f} s, p50 alone {alone * 1e3:.0f} ms, recall@10 "
        f"{near:.4f}, resident {own:.0f} MiB of its own and {files:.0f} of files"
    )


def _seconds(view: View, query: Vectors) -> float:
    begun = time.perf_counter()
    view.search(query[None], 10)
    return time.perf_counter() - begun


def main(rows: int, megabytes: int) -> None:
    print(machine("faiss-cpu"), f"\n{rows} rows in {megabytes} MiB", flush=True)
    group = limited(megabytes)
    try:
        with TemporaryDirectory() as scratch:
            near = Path(scratch) / "near.npy"
            np.save(near, embeddings())
            for kind in KINDS:
                for step in ("build", "search"):
                    arguments = [step, str(Path(scratch) / kind), kind, str(rows)]
                    subprocess.run(
                        [sys.executable, "-m", "benchmarks.past_memory", *arguments],
                        env={**os.environ, "NEAR": str(near), "OMP_NUM_THREADS": "2"},
                        preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid())),
                        check=True,
                    )
    finally:
        group.rmdir()


if __name__ == "__main__":
    if sys.argv[1:2] in (["build"], ["search"]):
        {"build": build, "search": search}[sys.argv[1]](*sys.argv[2:])
    else:
        given = [int(number) for number in sys.argv[1:]]
        main(*given, *(800_000, 256)[len(given) :])
