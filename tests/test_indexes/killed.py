"""Builds that are killed at random moments and run again until they are done.

``python killed.py FOLDER SEED STATE`` writes what it saw to standard output as JSON.
"""

import hashlib
import json
import os
import random
import re
import signal
import sys
import time
from pathlib import Path

import numpy as np

import indexes.build
import retrieval.building
from indexes import IndexNotFound, IndexUnfinished, View, read_manifest
from retrieval import Document, build_index

indexes.build.SEGMENT_ROWS = 70
retrieval.building.WINDOW = 8
retrieval.building.CHECKPOINT_ROWS = 16


class SlowEncoder:
    """Writes down what it is asked for before it answers, and takes its time."""

    dim, max_length, fingerprint = 8, 5, "slow"

    def __init__(self, log):
        self._log = log

    def encode_document(self, texts):
        handle = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, "".join(f"{text}\n" for text in texts if "\n" not in text).encode())
        os.fsync(handle)
        os.close(handle)
        time.sleep(0.002)
        digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
        vectors = np.array([[byte - 127.5 for byte in digest] for digest in digests])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors.astype(np.float32), np.array([len(text) % 3 for text in texts], np.int32)

    def offsets(self, text):
        return [match.span() for match in re.finditer(r"\S+", text)]


def documents(name):
    """200 documents; every 20th takes the place of the one before it."""
    for at in range(200):
        row_id = f"{name} {at - 1 if at % 20 == 19 else at}"
        yield Document(row_id, f"{name} row {at} {'x' * (at % 4)}", metadata={"n": at})


def build(folder, log, name):
    build_index(
        documents(name), folder, encoder=SlowEncoder(log), on_duplicate="last", overwrite=True
    )


def contents(folder):
    """Every live row: payload and vector bytes."""
    view = View(folder, verify="full")
    vectors = view.to_faiss().reconstruct_n(0, len(view))
    rows = zip(view.positions(), vectors, strict=True)
    return [(view.payload(at), vector.tobytes()) for at, vector in rows]


def kept_rows(folder):
    """How many rows of an unfinished build a checkpoint has kept."""
    try:
        manifest = read_manifest(folder)
    except (IndexNotFound, IndexUnfinished):
        return 0
    return manifest.pending.rows if manifest.pending else 0


class Watch:
    """One build, killed again and again."""

    def __init__(self, root, number, rng, expected):
        self.folder = root / f"index-{number}"
        self.log = root / f"log-{number}"
        self.rng = rng
        self.expected = expected
        self.longest = 0.09  # seconds that a build is left alone; more on a machine that is busy
        self.seen = {
            "kills": 0,
            "resumed": 0,
            "reads": 0,
            "encoded": 0,
            "encoded_again": [],
            "wrong": [],
        }

    def run(self, may_be):
        """``may_be`` are the contents that readers may see before the new ones are complete."""
        done, before = False, -1
        while not done:
            kept = kept_rows(self.folder)
            self.longest *= 1 if kept > before else 1.2
            before = kept
            self.seen["resumed"] += kept > 0
            self.log.write_bytes(b"")
            done = self.run_once(may_be)
            lines = self.log.read_text().split("\n")[:-1]
            asked = [int(line.split()[2]) for line in lines if line.startswith("new row")]
            self.seen["encoded_again"] += [row for row in asked if row < kept]
            self.seen["encoded"] += len(asked)
            self.look(may_be)
        if contents(self.folder) != self.expected:
            self.seen["wrong"].append("the finished index differs from an uninterrupted one")
        return self.seen

    def run_once(self, may_be):
        child = os.fork()
        if child == 0:
            build(self.folder, self.log, "new")
            os._exit(0)
        end = time.monotonic() + self.rng.uniform(0.001, self.longest)
        while time.monotonic() < end:
            self.look(may_be)
            time.sleep(0.004)
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        self.seen["kills"] += status == -signal.SIGKILL
        if status not in (0, -signal.SIGKILL):
            self.seen["wrong"].append(f"the build ended with {status}")
        return status != -signal.SIGKILL

    def look(self, may_be):
        try:
            found = contents(self.folder)
        except (IndexNotFound, IndexUnfinished):
            found = None
        except Exception as error:
            self.seen["wrong"].append(f"a reader got {error!r}")
            return
        self.seen["reads"] += 1
        if found not in (may_be, self.expected):
            self.seen["wrong"].append("a reader saw neither the old rows nor the new")


def main(root, seed, state):
    root.mkdir(parents=True, exist_ok=True)
    build(root / "old", root / "log", "old")
    build(root / "new", root / "log", "new")
    old, new = contents(root / "old"), contents(root / "new")
    rng = random.Random(seed)
    results, number = [], 0
    while sum(seen["kills"] for seen in results) < 16:
        number += 1
        watch = Watch(root, number, rng, new)
        if state == "published":
            build(watch.folder, root / "log", "old")
        results.append(watch.run(old if state == "published" else None))
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
