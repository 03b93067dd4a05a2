"""A course of changes by chance, and what it must have come to after each commit.

``python changes.py FOLDER SEED EVERY`` ends a child process at each EVERY-th operation of the
course in turn, and writes what it saw to standard output as JSON.
"""

import json
import os
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

import indexes.build
import indexes.compaction
from indexes import Content, IndexWriter, View

CONTENT = Content(dim=4, model={"name": "m", "fingerprint": "model-1"})
IDS = "abcdefghijkl"
COMMITS = 7
NEW = b'{"id": "new"}'


def make_small():
    """Segments close and pile up after a few rows."""
    indexes.build.SEGMENT_ROWS, indexes.compaction.MOST_SEGMENTS = 6, 3


def vector(payload):
    """The vector of a payload: another one for each."""
    row = np.random.default_rng(list(payload)).standard_normal(4)
    return (row / np.linalg.norm(row)).astype(np.float32)


class Course:
    """``states[n]`` is what the index must hold after ``n`` commits, payloads by id."""

    def __init__(self, seed):
        chance = np.random.default_rng(seed)
        self.steps, self.states = [], [{}]
        for commit in range(COMMITS):
            put = chance.choice(list(IDS), chance.integers(1, 6)).tolist()
            gone = chance.choice(list(IDS), chance.integers(0, 4)).tolist() if commit else []
            rows = [b'{"id": "%s", "n": %d}' % (i.encode(), commit) for i in put]
            self.steps.append((rows, gone))
            state = {**self.states[-1], **dict(zip(put, rows, strict=True))}
            self.states.append({i: row for i, row in state.items() if i not in gone})

    def run(self, folder, acknowledged=lambda: None):
        """Build, then change and change again."""
        for number, (rows, gone) in enumerate(self.steps):
            with IndexWriter(folder, None if number else CONTENT) as writer:
                writer.upsert(np.stack([*map(vector, rows)]), rows)
                writer.delete(gone)
                writer.commit()
                acknowledged()

    def check(self, folder, commits):
        """What was acknowledged is there, or one commit more; and the folder can be written."""
        if commits == 0 and not (folder / "MANIFEST").exists():
            return
        held = holds(folder)
        assert held in self.states[commits : commits + 2], f"{commits} commits: {held}"
        with IndexWriter(folder) as writer:
            writer.delete(IDS[::2])
            writer.upsert(vector(NEW)[None], [NEW])
            writer.commit()
        rest = {i: row for i, row in held.items() if i not in IDS[::2]}
        assert holds(folder) == {**rest, "new": NEW}
        record = json.loads((folder / "MANIFEST").read_bytes().splitlines()[0])
        named = {f"{s['name']}.{f}" for s in record["published"]["segments"] for f in s["files"]}
        left = {path.name for path in folder.iterdir()} - named
        assert left == {"MANIFEST", "LOCK"}, f"left behind: {left}"


def holds(folder):
    """The payloads of an index by id, once every byte, vector and lookup has been checked."""
    view = View(folder, verify="full")
    positions = view.positions()
    payloads = [view.payload(at).removesuffix(b"\n") for at in positions.tolist()]
    held = {json.loads(payload)["id"]: payload for payload in payloads}
    assert len(held) == len(view) == len(positions)
    for at, payload in zip(positions.tolist(), payloads, strict=True):
        assert view.find(json.loads(payload)["id"]) == at
        assert (view.vectors(np.array([at])) == vector(payload)).all()
    return held


def end_at_operations(root, seed, every):
    """End a process at its n-th operation, for each multiple of ``every``, writes done by half."""
    from faults import Disk, in_child

    course = Course(seed)
    problems, number, status = [], 0, 9
    while status == 9:
        number += every
        folder = root / str(number) / "index"
        folder.parent.mkdir()
        read, write = os.pipe()

        def work(folder=folder, at=number, write=write):
            def end(kind, name, half):
                if len(disk.log) == at:
                    half()
                    os._exit(9)

            with Disk(folder, before=end) as disk:
                course.run(folder, lambda: os.write(write, b"."))

        status = in_child(work)
        os.close(write)
        commits = len(os.read(read, 1000))
        os.close(read)
        try:
            assert status in (0, 9), f"status {status}"
            course.check(folder, commits)
        except Exception as error:
            problems.append(f"after operation {number}: {error!r}")
        shutil.rmtree(folder.parent)
    return {"runs": number // every, "problems": problems}


if __name__ == "__main__":
    make_small()
    assert all(one != two for one, two in pairwise(Course(0).states))
    json.dump(end_at_operations(Path(sys.argv[1]), *map(int, sys.argv[2:])), sys.stdout)
