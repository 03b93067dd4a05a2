"""A course of changes by chance, and what it must have come to after each commit.

``python changes.py FOLDER FLAVOUR SEED EVERY`` kills a child process at each EVERY-th operation of
the course in turn, once before and once in the middle of it, and writes what it saw to standard
output as JSON.
"""

import json
import logging
import os
import shutil
import sys
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

import indexes.build
import indexes.certifying
import indexes.compaction
from indexes import Content, IndexWriter, View

IDS = "abcdefghijkl"
COMMITS = 7
NEW = b'{"id": "new"}'


class Flavour(NamedTuple):
    """A content, and the constants that make its segments small."""

    content: Content
    sizes: dict


MODEL = {"name": "m", "fingerprint": "model-1"}
SIZES = {"build.SEGMENT_ROWS": 6, "compaction.MOST_SEGMENTS": 3}
FLAVOURS = {
    "flat": Flavour(Content(dim=4, model=MODEL), SIZES),
    "hnsw": Flavour(  # with files that can be made again, of every kind
        Content(dim=4, model=MODEL, kind="hnsw", sidecars={"words": {"mark": "#"}}),
        {**SIZES, "build.SEGMENT_ROWS": 15, "compaction.TAIL": 2, "certifying.EXACT_BELOW": 3},
    ),
}


def words(settings, payloads):
    """A sidecar: what the settings say, and the payload, backwards."""
    for payload in payloads:
        yield settings["mark"].encode() + payload[::-1]


def vector(payload):
    """The vector of a payload: another one for each."""
    row = np.random.default_rng(list(payload)).standard_normal(4)
    return (row / np.linalg.norm(row)).astype(np.float32)


class Course:
    """``states[n]`` is what the index must hold after ``n`` commits, payloads by id."""

    def __init__(self, seed, flavour="flat"):
        self.content = FLAVOURS[flavour].content
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
            content = None if number else self.content
            with IndexWriter(folder, content, sidecars={"words": words}) as writer:
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
        with IndexWriter(folder, sidecars={"words": words}) as writer:
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
    check_what_can_be_made_again(view)
    return held


def check_what_can_be_made_again(view):
    """Each ``.ann`` and each sidecar is that of its segment."""
    if view.content.ann is not None:
        queries = view.vectors(view.positions())[:5]
        for found, wanted in zip(
            view.search(queries, 4), view.search(queries, 4, exact=True), strict=True
        ):
            assert (found == wanted).all()  # so few rows are all found
    for name, settings in view.content.sidecars.items():
        for side in view.sidecars(name):
            payloads = [side.payload(row) for row in range(side.rows)]
            assert bytes(side.data) == b"".join(words(settings, payloads))


def kill_at_operations(root, flavour, seed, every):
    """Kill a process at its n-th operation, for each multiple of ``every``: before the operation,
    and where that is a write with half of it done.
    """
    from faults import KILLED, Disk

    course = Course(seed, flavour)
    (root / "whole").mkdir()
    with Disk(root / "whole" / "index") as dry:
        course.run(root / "whole" / "index")
    seen = {"operations": len(dry.log), "whole": 0, "half": 0, "problems": []}
    for number in range(every, len(dry.log) + 1, every):
        for way in ("whole", "half") if dry.log[number - 1][0] == "write" else ("whole",):
            folder = root / f"{number}-{way}" / "index"
            folder.parent.mkdir()
            status, commits = kill_at(number, course, folder, by_half=way == "half")
            seen[way] += status == KILLED
            try:
                assert status == KILLED, f"status {status}"
                course.check(folder, commits)
            except Exception as error:
                seen["problems"].append(f"operation {number}, {way}: {error!r}")
            shutil.rmtree(folder.parent)
    return seen


def kill_at(number, course, folder, *, by_half):
    """The status of a process killed at its n-th operation, and how many commits were made."""
    from faults import Disk, in_child, kill

    read, write = os.pipe()

    def work():
        def end(kind, name, half):
            if len(disk.log) == number:
                kill(half if by_half else lambda: None)

        with Disk(folder, before=end) as disk:
            course.run(folder, lambda: os.write(write, b"."))

    status = in_child(work)
    os.close(write)
    with open(read, "rb") as acknowledged:
        return status, len(acknowledged.read())


def make_small(flavour, put=setattr):
    """Segments close, pile up and get a graph after a few rows."""
    for name, value in FLAVOURS[flavour].sizes.items():
        module, _, constant = name.partition(".")
        put(getattr(indexes, module), constant, value)


def main(root, flavour, seed, every):
    logging.disable(logging.WARNING)
    make_small(flavour)
    assert all(one != two for one, two in pairwise(Course(0).states))
    json.dump(kill_at_operations(root, flavour, seed, every), sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]))
