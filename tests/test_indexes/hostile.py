"""Opens every hostile folder of ``harm.py`` in every way, in one process with little memory.

``python hostile.py FOLDER`` writes what it saw to standard output as JSON: for each folder the
errors of each way to use it and the seconds it took; what left the folder; how the memory grew.
"""

import json
import logging
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import harm
import numpy as np

import indexes.build
import indexes.certifying
from indexes import Content, IndexCorrupt, IndexWriter, RetrievalError, View
from retrieval import Searcher
from retrieval.checking import check_index

MEMORY = 200 * 2**20
MODEL = {"name": "no-such", "folder": "", "fingerprint": "model-1", "max_length": 16, "files": []}
IDS = "abcabdefghijklmn"  # two rows are replaced
DIM = 8
# What is noted: all that would run something, reach out, or change what lies outside.
REACHING = ("socket.connect", "socket.getaddrinfo", "socket.send", "subprocess.", "ctypes.")
RUNNING = ("exec", "compile", "os.system", "os.exec", "os.posix_spawn", "os.fork")
CHANGING = (
    "os.remove",
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "os.link",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Encoder:
    dim, max_length, fingerprint = DIM, 16, "model-1"

    def encode_document(self, texts):
        return np.eye(DIM, dtype=np.float32)[: len(texts)], np.zeros(len(texts), np.int32)


class Hangs(BaseException):
    """Not an Exception, so that nobody takes it for a failing disk."""


def payloads(ids):
    empty = {"text": "t", "title": "", "metadata": {}}
    return [json.dumps({"id": row_id, **empty}).encode() for row_id in ids]


def vectors(n, seed):
    rows = np.random.default_rng(seed).standard_normal((n, DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


FLAT = Content(DIM, MODEL)
# With every kind of file that can be made again.
EVERY = Content(DIM, MODEL, kind="hnsw", recall=1.0, sidecars={"words": {"mark": "#"}})


def words(settings, payloads):
    """A sidecar: a line for each row."""
    for payload in payloads:
        yield f"{settings['mark']}{len(payload)}\n".encode()


def make(folder, seed=0, *, pending=False, content=FLAT):
    """Two segments of eight rows, two deleted in the first; or an unfinished build of three."""
    indexes.build.SEGMENT_ROWS = indexes.certifying.EXACT_BELOW = 8
    with IndexWriter(folder, content, sidecars={"words": words}) as writer:
        for start in (0, 8):
            part = slice(start, start + 8)
            writer.add(vectors(16, seed)[part], payloads(IDS)[part])
        if pending:
            writer.add(vectors(3, 1), payloads("xyz"))
            writer.checkpoint()
        else:
            writer.commit()
    return folder


def read(folder, verify):
    view = View(folder, verify=verify)
    for k in (3, len(view)):
        view.search(np.eye(DIM, dtype=np.float32), max(1, k))
    for position in view.positions():
        view.payload(int(position))
    for row_id in IDS:
        view.find(row_id)
    for side in view.sidecars("words"):
        bytes(side.data or b"")
    view.to_faiss()


def check(folder):
    problems = check_index(folder, full=True, encoder=Encoder()).problems
    if problems:
        raise IndexCorrupt(" | ".join(map(str, problems)))


def change(folder):
    with IndexWriter(folder, sidecars={"words": words}) as writer:
        writer.delete("c")
        writer.upsert(vectors(2, 2), payloads("nz"))
        writer.commit()


def begin(folder):
    with IndexWriter(folder, FLAT, overwrite=True) as writer:
        writer.cut(min(1, len(writer)))


USES = {
    "auto": lambda folder: read(folder, "auto"),
    "full": lambda folder: read(folder, "full"),
    "check": check,
    "ask": lambda folder: Searcher(folder).search("word"),
    "resume": lambda folder: IndexWriter(folder, FLAT).close(),
    "change": change,
    "begin": begin,
}


# Which index each table of ``harm`` is for.
KINDS = {
    **dict.fromkeys(("LARGE", "HOSTILE", "FOR_CHECK", "FOR_MODEL"), "whole"),
    **dict.fromkeys(("FOR_GRAPH", "FOR_DERIVED", "FOR_PROMISE"), "every"),
    "FOR_WRITER": "begun",
}


class Watch:
    """Notes what happens in Python beyond a folder, while there is one."""

    def __init__(self):
        self.folder = None
        self.noted = []
        sys.addaudithook(self.see)

    def see(self, event, arguments):
        if self.folder is None:
            return
        changes = event in CHANGING or (event == "open" and arguments[2] & WRITING)
        if changes and isinstance(arguments[0], (str, os.PathLike)):
            place = Path(arguments[0])
            changes = self.folder not in (place, *place.parents)
        if changes or event.startswith(REACHING) or event in RUNNING:
            self.noted.append(f"{event} {arguments!r}"[:200])


def use(folder, watch, uses=tuple(USES)):
    """What each use of a folder raised, and the most CPU seconds that one took."""
    errors, slowest = {}, 0.0
    for name in uses:
        began = time.process_time()
        signal.setitimer(signal.ITIMER_REAL, 20)
        watch.folder = folder
        try:
            USES[name](folder)
        except (Exception, Hangs) as error:
            ours = isinstance(error, RetrievalError)
            errors[name] = [type(error).__name__, str(error), ours]
        finally:
            watch.folder = None
            signal.setitimer(signal.ITIMER_REAL, 0)
        slowest = max(slowest, time.process_time() - began)
    return errors, slowest


def most_memory():
    """The highest resident set since it was last reset, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def limit_memory():
    """From here on 200 MB of address space and no more."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
    Path("/proc/self/clear_refs").write_text("5")


def main(root):
    logging.disable(logging.WARNING)  # of derived files, without which a reader goes on
    os.environ.pop("HF_HUB_OFFLINE", None)  # what keeps the network closed is not what is tested

    def stop(number, frame):
        raise Hangs

    signal.signal(signal.SIGALRM, stop)
    watch = Watch()
    templates = {
        "whole": make(root / "whole"),
        "begun": make(root / "begun", pending=True),
        "every": make(root / "every", content=EVERY),
    }
    other = make(root / "other", seed=9)
    seen = {
        name: use(shutil.copytree(template, root / "first" / name), watch)[0]
        for name, template in templates.items()
    }
    watch.noted.clear()  # modules that are imported at their first use
    limit_memory()
    before, results = most_memory(), {}
    for kind, template in KINDS.items():
        for number, (name, damage) in enumerate(getattr(harm, kind).items()):
            place = root / f"{kind}-{number}"
            folder = shutil.copytree(templates[template], place / "index")
            shutil.copytree(other, place / "other")
            damage(folder)
            errors, seconds = use(folder, watch, ("auto", "check") if kind == "LARGE" else USES)
            results[name] = {"kind": kind, "errors": errors, "seconds": seconds}
            shutil.rmtree(place)
    seen |= {"results": results, "noted": watch.noted, "growth": most_memory() - before}
    json.dump(seen, sys.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
