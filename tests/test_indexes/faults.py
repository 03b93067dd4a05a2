"""A disk that fails at will, and one build to try it on.

``python faults.py FOLDER STATE EVERY`` kills a child process at each EVERY-th operation of the
build in turn, and writes what it saw to standard output as JSON.
"""

import builtins
import io
import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np

import indexes.build
from indexes import Content, IndexNotFound, IndexUnfinished, IndexWriter, View

WRITING = set("wxa+")


class RawFile(io.FileIO):
    """A file as it is below the buffer: what is written here is no longer in this process."""

    disk = None

    def write(self, data):
        return self.disk.do("write", self.name, super().write, data, half=self._write_half)

    def _write_half(self, data):
        super().write(bytes(data)[: len(data) // 2])

    def truncate(self, size=None):
        return self.disk.do("truncate", self.name, super().truncate, size)


class Disk:
    """Every change at or below the folder's parent is an operation, kept in ``log``.

    ``before(kind, name, half)`` is called first, where ``half()`` does a write by half;
    ``after(kind, name)`` last. Nothing waits for the real disk; what ``forgets(path)`` does not
    even count as waited for.
    """

    def __init__(self, folder, *, before=None, after=None, forgets=lambda path: False):
        self.folder = Path(folder)
        self.log = []
        self.before = before
        self.after = after
        self.forgets = forgets
        self._real = {}

    def do(self, kind, path, call, *given, half=None):
        name = "." if os.fspath(path) == str(self.folder) else os.path.basename(path)
        self.log.append((kind, name))
        if self.before:
            self.before(kind, name, lambda: half and half(*given))
        result = call(*given)
        if self.after:
            self.after(kind, name)
        return result

    def _open(self, path, mode="r", *given, **named):
        real = self._real[builtins, "open"]
        if isinstance(path, int) or not WRITING & set(mode):
            return real(path, mode, *given, **named)
        kept = mode.replace("b", "").replace("t", "")
        there = os.path.lexists(path)
        raw = RawFile(path, kept) if there else self.do("create", path, RawFile, path, kept)
        raw.disk = self
        file = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return file if "b" in mode else io.TextIOWrapper(file, named.get("encoding"))

    def _fsync(self, handle):
        inside = os.scandir(self.folder) if self.folder.is_dir() else ()
        for path in (self.folder, *inside, *self.folder.parents):
            if os.path.samestat(os.lstat(path), os.fstat(handle)):
                return None if self.forgets(path) else self.do("fsync", path, lambda: None)
        raise AssertionError("fsync of a file that no longer has a name")

    def _method(self, kind):
        def operation(path, *given, **named):
            if kind == "mkdir" and path.is_dir():
                return
            self.do(kind, path, lambda: self._real[Path, kind](path, *given, **named))

        return operation

    def _replace(self, source, target):
        self.do("replace", target, lambda: self._real[os, "replace"](source, target))

    def __enter__(self):
        fakes = {(builtins, "open"): self._open}
        fakes[Path, "open"] = lambda path, *given, **named: self._open(path, *given, **named)
        fakes |= {(os, "fsync"): self._fsync, (os, "replace"): self._replace}
        fakes |= {(Path, kind): self._method(kind) for kind in ("mkdir", "rmdir", "unlink")}
        for (owner, name), fake in fakes.items():
            self._real[owner, name] = getattr(owner, name)
            setattr(owner, name, fake)
        return self

    def __exit__(self, *_):
        for (owner, name), real in self._real.items():
            setattr(owner, name, real)


class Rows:
    """Twenty rows, some of which replace others."""

    def __init__(self, seed, ids="abcdefghijabcdekfcla"):
        vectors = np.random.default_rng(seed).standard_normal((len(ids), 4))
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        self.vectors = (vectors / lengths).astype(np.float32)
        self.payloads = [b'{"id": "%s", "seed": %d}' % (i.encode(), seed) for i in ids]
        self.live = sorted({row_id: at for at, row_id in enumerate(ids)}.values())

    def __len__(self):
        return len(self.payloads)


CONTENT = Content(dim=4, model={"name": "m", "fingerprint": "model-1"})
OLD, NEW, OTHER = Rows(1), Rows(2), Rows(3)


def build(folder, rows=NEW, kept=lambda rows: None):
    """Build an index of the rows, from wherever an interrupted build stands."""
    with IndexWriter(folder, CONTENT, overwrite=True) as writer:
        first = 0
        while first < len(writer) and writer.payload(first) == rows.payloads[first]:
            first += 1
        if first < len(writer):
            writer.cut(first)
        for start in range(first, len(rows), 3):
            writer.add(rows.vectors[start : start + 3], rows.payloads[start : start + 3])
            if start // 3 % 3:
                writer.checkpoint()
                kept(len(writer))
        writer.commit()


def begin(folder, state):
    """Put a folder into the state that a build finds."""
    folder.parent.mkdir(exist_ok=True)
    with Disk(folder):
        if state != "nothing":
            build(folder, OLD)
        if state == "unfinished":  # 11 rows of NEW and 3 of another source
            with IndexWriter(folder, CONTENT, overwrite=True) as writer:
                writer.add(NEW.vectors[:11], NEW.payloads[:11])
                writer.add(OTHER.vectors[:3], OTHER.payloads[:3])
                writer.checkpoint()


STATES = ("nothing", "published", "unfinished")


def what_answers(folder):
    """Which rows the folder answers with: "old", "new", or "none"; anything else is an error."""
    try:
        view = View(folder, verify="full")
    except (IndexNotFound, IndexUnfinished):
        return "none"
    for name, rows in (("old", OLD), ("new", NEW)):
        payloads = [view.payload(at) for at in view.positions()]
        if payloads == [rows.payloads[at] + b"\n" for at in rows.live]:
            scores, positions = view.search(rows.vectors[rows.live], 1)
            assert positions[:, 0].tolist() == rows.live
            assert scores.min() > 0.999
            return name
    raise AssertionError(f"neither the old rows nor the new: {payloads}")


def assert_recovers(folder, state, *, kept=0, acknowledged=False):
    """After whatever happened: the old rows or the new answer, what a checkpoint had kept is
    there, and a further build succeeds.
    """
    expected = {"new"} if acknowledged else {"new", "none" if state == "nothing" else "old"}
    answer = what_answers(folder)
    assert answer in expected, f"{answer} answers, expected {expected}"
    with Disk(folder):
        if answer != "new":
            with IndexWriter(folder, CONTENT, overwrite=True) as writer:
                assert len(writer) >= kept, f"{kept} rows were kept, {len(writer)} are left"
        build(folder)
    assert what_answers(folder) == "new"
    record = json.loads((folder / "MANIFEST").read_bytes().splitlines()[0])
    named = {f"{s['name']}.{f}" for s in record["published"]["segments"] for f in s["files"]}
    left = {path.name for path in folder.iterdir()} - named
    assert left == {"MANIFEST", "LOCK"}, f"left behind: {left}"


KILLED = -signal.SIGKILL


def kill(half=lambda: None):
    """End this process as kill -9 does, in the middle of a write where there is one."""
    half()
    os.kill(os.getpid(), signal.SIGKILL)


def in_child(work):
    """Run something in a copy of this process; its exit status."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill_at_operations(root, state, every):
    """Kill a building process at each ``every``-th operation, with writes done by half."""
    begin(root / "base" / "index", state)
    problems, number, status = [], 0, KILLED
    while status == KILLED:
        number += every
        folder = root / str(number) / "index"
        shutil.copytree(root / "base", folder.parent)

        def work(folder=folder, at=number):
            def end(kind, name, half):
                if len(disk.log) == at:
                    kill(half)

            with Disk(folder, before=end) as disk:
                build(folder)

        status = in_child(work)
        try:
            assert_recovers(folder, state, acknowledged=status == 0)
        except Exception as error:
            problems.append(f"after operation {number}: {error!r}")
        shutil.rmtree(folder.parent)
    return {"kills": number // every - 1, "status": status, "problems": problems}


if __name__ == "__main__":
    indexes.build.SEGMENT_ROWS = 8
    json.dump(kill_at_operations(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])), sys.stdout)
