"""Rows, index folders and a failing disk for the tests of ``indexes``."""

import hashlib
import importlib.util
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from indexes import Content, IndexWriter, View


class Rows:
    """Vectors and payloads that belong together."""

    def __init__(self, vectors, ids):
        self.vectors = vectors
        self.ids = list(ids)
        self.payloads = [json.dumps({"id": i, "n": n}).encode() for n, i in enumerate(self.ids)]

    def __len__(self):
        return len(self.ids)

    def __add__(self, other):
        vectors = np.concatenate([self.vectors, other.vectors])
        joined = Rows(vectors, self.ids + other.ids)
        joined.payloads = self.payloads + other.payloads
        return joined

    def __getitem__(self, part):
        some = Rows(self.vectors[part], self.ids[part])
        some.payloads = self.payloads[part]
        return some

    def live(self):
        """The positions that stay when of rows with one id the last does."""
        return sorted({row_id: at for at, row_id in enumerate(self.ids)}.values())


class Store:
    """Short ways to make rows and index folders."""

    @staticmethod
    def unit(n, dim=8, seed=0):
        rows = np.random.default_rng(seed).standard_normal((n, dim))
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def rows(self, n, dim=8, seed=0, ids=None):
        return Rows(self.unit(n, dim, seed), ids or [f"{seed}-{at}" for at in range(n)])

    @staticmethod
    def of(vectors, ids=None):
        return Rows(np.asarray(vectors, np.float32), ids or [f"r{n}" for n in range(len(vectors))])

    @staticmethod
    def content(dim=8, fingerprint="model-1", **fields):
        return Content(dim=dim, model={"name": "m", "fingerprint": fingerprint}, **fields)

    def build(self, folder, rows, *, batch=1000, overwrite=False):
        """Build and open an index of these rows."""
        dim = rows.vectors.shape[1]
        with IndexWriter(folder, self.content(dim), overwrite=overwrite) as writer:
            for start in range(0, len(rows), batch):
                part = rows[start : start + batch]
                writer.add(part.vectors, part.payloads)
            writer.commit()
        return View(folder)

    def leave_unfinished(self, folder, rows, **options):
        """Checkpoint rows and go away."""
        with IndexWriter(folder, self.content(rows.vectors.shape[1]), **options) as writer:
            writer.add(rows.vectors, rows.payloads)
            writer.checkpoint()

    @staticmethod
    def assert_holds(view, rows):
        """Every live row is there as it was given, and no other."""
        live = rows.live()
        assert view.positions().tolist() == live
        assert len(view) == len(live)
        assert [view.payload(at) for at in live] == [rows.payloads[at] + b"\n" for at in live]
        assert [view.find(rows.ids[at]) for at in live] == live
        stored = view.to_faiss().reconstruct_n(0, len(live))
        assert stored.tobytes() == rows.vectors[live].tobytes()

    @staticmethod
    def assert_tidy(folder):
        """The folder holds what its manifest names, and nothing else."""
        record = json.loads((folder / "MANIFEST").read_bytes().splitlines()[0])
        contents = [c for c in (record["published"], record["pending"]) if c]
        named = {f"{s['name']}.{f}" for c in contents for s in c["segments"] for f in s["files"]}
        assert {path.name for path in folder.iterdir()} == named | {"MANIFEST", "LOCK"}

    @staticmethod
    def record(folder):
        """The JSON of the manifest."""
        return json.loads((folder / "MANIFEST").read_bytes().splitlines()[0])

    @staticmethod
    def seal(folder, record):
        """Write a manifest whose checksum holds: a dict, or the raw bytes of its first line."""
        text = record if isinstance(record, bytes) else json.dumps(record).encode()
        digest = hashlib.sha256(text).hexdigest().encode()
        (folder / "MANIFEST").write_bytes(text + b"\n" + digest + b"\n")

    def reseal(self, folder, suffix, content):
        """Put other bytes into a file of a one-segment index, with a manifest that agrees."""
        record = self.record(folder)
        entry = (record["published"] or record["pending"])["segments"][0]
        (folder / f"{entry['name']}.{suffix}").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        entry["files"][suffix] = {"bytes": len(content), "sha256": digest}
        self.seal(folder, record)


SOAK = os.environ.get("RETRIEVAL_SOAK") == "1"


@pytest.fixture(scope="session")
def soak() -> bool:
    """Whether the full counts are asked for (``make soak``) rather than a tenth."""
    return SOAK


def pytest_terminal_summary(terminalreporter):
    """Print what the tests have counted with ``record_property``."""
    figures = {}
    for report in terminalreporter.stats.get("passed", ()) if SOAK else ():
        for name, count in report.user_properties:
            figures[name] = figures.get(name, 0) + count
    for name, count in figures.items():
        terminalreporter.write_line(f"{count:>9,}  {name}")


@pytest.fixture(scope="session")
def store() -> Store:
    return Store()


def beside(name):
    """A module beside this file, which is a script too, for child processes."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def faults():
    """A disk that fails at will, and one build to try it on."""
    return beside("faults")


@pytest.fixture(scope="session")
def power():
    """What a disk may hold after a power cut."""
    return beside("power")


@pytest.fixture(scope="session")
def changes(faults):
    """A course of changes, and what it must have come to after each commit."""
    sys.modules.setdefault("faults", faults)
    return beside("changes")


@pytest.fixture(scope="session")
def fresh_folder():
    """Makes empty folders, in memory where there is one: tests write many thousand small files."""
    shared = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=shared) as root:
        yield lambda: Path(tempfile.mkdtemp(dir=root))


@pytest.fixture
def tmp_path(fresh_folder):
    folder = fresh_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """No test pulls the plug: what is waited for is seen by ``faults.Disk``, if by anything."""
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def segment_rows(monkeypatch):
    """Make segments close after this many rows."""
    return lambda rows: monkeypatch.setattr("indexes.build.SEGMENT_ROWS", rows)


@pytest.fixture
def arrow_pool():
    """Counts the memory that Arrow takes."""
    usual = pa.default_memory_pool()
    counting = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(counting)
    yield counting
    pa.set_memory_pool(usual)
