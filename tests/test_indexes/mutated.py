"""Changes every file of an index at random places, and uses what comes of it.

``python mutated.py FOLDER TIMES SEED`` changes each file that often in each way and writes to
standard output as JSON: the use, the kind of file, the way, and what came of it. In a process of
its own, so that a signal is a failure of the test, not of the tests.
"""

import json
import logging
import sys
from pathlib import Path

import numpy as np
from hostile import EVERY, FLAT, IDS, check, make, vectors, words

from indexes import IndexCorrupt, IndexUnfinished, IndexWriter, View
from indexes.segment import is_derived


def truncate(raw, rng):
    return raw[: rng.integers(len(raw))]


def flip(raw, rng):
    changed = bytearray(raw)
    changed[rng.integers(len(raw))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def garbage(raw, rng):
    start = int(rng.integers(len(raw)))
    return (raw[:start] + rng.bytes(64) + raw[start + 64 :])[: len(raw)]


def zero_page(raw, rng):
    start = int(rng.integers(len(raw))) // 64 * 64  # small pages: the files are small
    return (raw[:start] + bytes(64) + raw[start + 64 :])[: len(raw)]


def append(raw, rng):
    return raw + rng.bytes(rng.integers(1, 100))


def delete(raw, rng):
    return None


MUTATIONS = (truncate, flip, garbage, zero_page, append, delete)
QUERIES = vectors(3, 5)


def contents(folder, verify="full"):
    """All that an index answers."""
    view = View(folder, verify=verify)
    scores, positions = view.search(QUERIES, len(view))
    _, some = view.search(QUERIES, 3, where="id > 'd'")
    live = view.positions().tolist()
    return (
        [scores.tolist(), positions.tolist(), some.tolist(), live],
        [view.payload(position).decode() for position in live],
        [view.find(row_id) for row_id in IDS],
        view.to_faiss().reconstruct_n(0, len(view)).tolist(),
    )


def gone_without(folder):
    """The same without reading every byte first, where what is damaged can be made again."""
    sides = [
        side.data is None or bytes(side.data) == sidecar_of(side)
        for side in View(folder).sidecars("words")
    ]
    return contents(folder, "auto"), sides


def sidecar_of(side):
    return b"".join(words({"mark": "#"}, map(side.payload, range(side.rows))))


def with_sidecars(folder):
    """All that an index answers, and what stands beside its segments."""
    sides = [bytes(side.data).decode() for side in View(folder, verify="full").sidecars("words")]
    return contents(folder), sides


def taken_up(folder):
    """All that an unfinished build holds."""
    with IndexWriter(folder, FLAT) as writer:
        rows = [writer.payload(position).decode() for position in range(len(writer))]
        return rows, [writer.find(row_id) for row_id in "abxyz"]


def outcome(use, folder, name, expected):
    """ "noticed", "identical", or what is wrong."""
    try:
        if use(folder) == expected:
            return "identical"
        return "another answer"
    except IndexCorrupt as error:
        return "noticed" if name in str(error) else f"another file is named: {error}"
    except IndexUnfinished as error:  # so looks a folder that has no manifest yet
        return "noticed" if name == "MANIFEST" else repr(error)
    except Exception as error:
        return repr(error)


def put_right(folder, whole):
    """The folder as it was."""
    for path in folder.iterdir():
        if path.name not in whole:
            path.unlink()
    for name, raw in whole.items():
        (folder / name).write_bytes(raw)


def uses_of(uses, name):
    """The uses that a changed file is tried with."""
    derived = name != "MANIFEST" and is_derived(name)
    return [use for use in uses if use != "auto" or derived]


def try_all(folder, uses, times, rng):
    """What was changed and how it was used, with what came of it."""
    whole = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    expected = {name: use(folder) for name, use in uses.items()}
    for name in sorted(whole.keys() - {"LOCK"}):
        for mutate in MUTATIONS:
            for _ in range(times if mutate is not delete else 1):
                changed = mutate(whole[name], rng)
                for use in uses_of(uses, name) if changed != whole[name] else ():
                    put_right(folder, whole)
                    (folder / name).unlink()
                    if changed is not None:
                        (folder / name).write_bytes(changed)
                    what = (use, name.rpartition(".")[2], mutate.__name__)
                    yield what, outcome(uses[use], folder, name, expected[use])


def main(root, times, seed):
    logging.disable(logging.WARNING)  # of derived files, without which a reader goes on
    rng = np.random.default_rng(seed)
    kinds = (
        (make(root / "whole"), {"full": contents, "check": check}),
        (make(root / "begun", pending=True), {"resume": taken_up}),
        (make(root / "every", content=EVERY), {"every": with_sidecars, "auto": gone_without}),
    )
    seen = [
        [*what, found]
        for folder, uses in kinds
        for what, found in try_all(folder, uses, times, rng)
    ]
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
