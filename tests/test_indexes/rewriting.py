"""One process rewrites an index without a pause, two read it with four threads each, one copies it.

``python rewriting.py FOLDER SECONDS KIND`` writes what they saw to standard output as JSON.

Every row carries the stamp of its commit, and what an index holds follows from the stamp: a reader
that sees two stamps, or other rows than the stamp's, has seen a torn index.
"""

import json
import logging
import multiprocessing
import shutil
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

import indexes.build
import indexes.certifying
import indexes.compaction
from indexes import Content, IndexWriter, View
from indexes.manifest import published, read_manifest
from retrieval import Searcher

DIM, ROWS, PART = 8, 40, 10
READERS, THREADS = 2, 4
MODEL = {"name": "m", "fingerprint": "model-1", "max_length": 9}
SIZES = (
    (indexes.build, "SEGMENT_ROWS", 20),
    (indexes.compaction, "MOST_SEGMENTS", 3),
    (indexes.compaction, "TAIL", 20),
    (indexes.certifying, "EXACT_BELOW", 10),
)
LEAST = 12  # stamps, however slow the machine
WAYS = ("upserts", "compacts", "builds anew")


class Encoder:
    """Asked for nothing; the searchers are given vectors."""

    dim, max_length, fingerprint = DIM, 9, "model-1"


def ids_at(stamp):
    """Which rows there are: some come and go."""
    return [number for number in range(ROWS) if (number + stamp) % 5]


def vectors_at(stamp, ids):
    """The vector of each row, another one for each stamp."""
    rows = np.stack([np.random.default_rng((stamp, i)).standard_normal(DIM) for i in ids])
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def payloads_at(stamp, ids):
    record = {"text": "t", "title": "", "metadata": {"stamp": stamp}}
    return [json.dumps({"id": str(i), **record}).encode() for i in ids]


def write(folder, kind, acknowledged, until):
    """Replace every row by that of the next stamp, in each way in turn."""
    content = Content(
        DIM, MODEL, kind=kind, schema=[{"name": "stamp", "type": "int64"}], recall=0.5
    )
    stamp, did = 0, Counter()
    while time.monotonic() < until.value or stamp < LEAST:
        stamp += 1
        how = WAYS[stamp % 3] if stamp > 1 else "builds anew"
        new = how == "builds anew"
        with IndexWriter(folder, content if new else None, overwrite=True) as writer:
            for first in range(0, ROWS, PART):
                some = range(first, first + PART)
                writer.upsert(vectors_at(stamp, some), payloads_at(stamp, some))
            writer.delete(str(number) for number in range(ROWS) if number not in ids_at(stamp))
            writer.commit()
            acknowledged.value = stamp
            did[how] += how != "compacts" or writer.compact()
    return {"stamps": stamp, **did}


def torn(view, least):
    """What is wrong with a view; ``least`` is a stamp that it must have reached."""
    live = view.positions()
    rows = [json.loads(view.payload(int(at))) for at in live]
    stamps = {row["metadata"]["stamp"] for row in rows}
    if len(stamps) != 1 or min(stamps) < least:
        return f"stamps {stamps}, at least {least}"
    [stamp] = stamps
    ids = [int(row["id"]) for row in rows]
    if sorted(ids) != ids_at(stamp):
        return f"stamp {stamp} with the rows {ids}"
    wanted = vectors_at(stamp, ids)
    if (view.vectors(live) != wanted).any():
        return f"stamp {stamp} with other vectors"
    return wrong_hits(view, live, wanted)


def wrong_hits(view, live, wanted):
    """What is wrong with the nearest rows."""
    for how in ({"exact": True}, {}, {"where": "stamp >= 0"}):
        scores, positions = view.search(wanted[:4], 1, **how)
        if (positions[:, 0] != live[:4]).any() and how.get("exact", view.content.ann is None):
            return f"{how}: {positions.tolist()}"
        places = np.searchsorted(live, positions[:, 0])
        exact = (wanted[:4].astype(float) * wanted[places]).sum(axis=1)
        if abs(scores[:, 0] - np.clip(exact, -1, 1)).max() > 1e-6:
            return f"{how}: scores {scores.tolist()}"
    return None


class Reader:
    """One thread: it opens the index anew and refreshes a searcher, in turn."""

    def __init__(self, folder, acknowledged, until):
        self._folder, self._acknowledged, self._until = folder, acknowledged, until
        self._searcher = Searcher(folder, encoder=Encoder())
        self.seen = {"reads": 0, "torn": [], "backwards": [], "errors": []}
        self._newest = {"opened": 0, "refreshed": 0}

    def run(self):
        while self._until.value:
            for way in (self.opened, self.refreshed):
                try:
                    view, least = way()
                    generation = view.manifest.generation
                    if generation < self._newest[way.__name__]:
                        self.seen["backwards"].append(f"{way.__name__}: {generation}")
                    self._newest[way.__name__] = generation
                    if problem := torn(view, least):
                        self.seen["torn"].append(problem)
                    self.seen["reads"] += 1
                except Exception as error:
                    self.seen["errors"].append(repr(error))

    def opened(self):
        least = self._acknowledged.value
        return View(self._folder), least

    def refreshed(self):
        least = self._acknowledged.value
        self._searcher.refresh()
        self._searcher.search_vectors(np.eye(DIM, dtype=np.float32)[:1], 3)
        return self._searcher._view, least


def read(folder, acknowledged, until):
    """Read with four threads until the writer has done."""
    readers = [Reader(folder, acknowledged, until) for _ in range(THREADS)]
    threads = [threading.Thread(target=reader.run) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [reader.seen for reader in readers]


def back_up(folder, to):
    """A copy of the files that one manifest names; the manifest's bytes are taken first."""
    while True:
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        shutil.copyfile(folder / "MANIFEST", to / "MANIFEST")
        content = published(to, read_manifest(to))
        names = [f"{s.name}.{suffix}" for s in content.segments for suffix in s.files]
        try:
            for name in names:
                shutil.copyfile(folder / name, to / name)
        except FileNotFoundError:
            continue  # a commit has replaced it meanwhile
        return


def copy(folder, acknowledged, until):
    """Back the index up until the writer has done."""
    seen = {"reads": 0, "torn": [], "backwards": [], "errors": []}
    to = folder.with_name("copy")
    while until.value:
        try:
            least = acknowledged.value
            back_up(folder, to)
            if problem := torn(View(to, verify="full"), least):
                seen["torn"].append(problem)
            seen["reads"] += 1
        except Exception as error:
            seen["errors"].append(repr(error))
    return [seen]


def in_process(queue, name, work, *given):
    try:
        queue.put((name, work(*given)))
    except BaseException as error:
        queue.put((name, repr(error)))
    finally:
        if name == "writer":
            given[-1].value = 0  # the others end with it


def main(folder, seconds, kind):
    logging.disable(logging.WARNING)
    for module, name, value in SIZES:
        setattr(module, name, value)
    forked = multiprocessing.get_context("fork")  # before anything is used
    acknowledged, until = forked.Value("i", 0), forked.Value("d", time.monotonic() + seconds)
    queue = forked.Queue()

    def begin(name, work, *given):
        process = forked.Process(target=in_process, args=(queue, name, work, folder, *given, until))
        process.start()
        return process

    processes = [begin("writer", write, kind, acknowledged)]
    while not acknowledged.value and processes[0].is_alive():
        time.sleep(0.01)
    processes += [begin(f"reader {n}", read, acknowledged) for n in range(READERS)]
    processes.append(begin("copies", copy, acknowledged))
    seen = dict(queue.get(timeout=600) for _ in processes)
    for process in processes:
        process.join()
    json.dump({**seen, "codes": [process.exitcode for process in processes]}, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
