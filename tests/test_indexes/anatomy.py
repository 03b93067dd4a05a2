"""Index folders taken apart and put together again, with checksums that hold whatever they hold."""

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np


def record_of(folder):
    """The JSON of a manifest."""
    return json.loads((folder / "MANIFEST").read_bytes().splitlines()[0])


def sign(folder, record):
    """Write a manifest whose checksum holds: a dict, or the raw bytes of its first line."""
    text = record if isinstance(record, bytes) else json.dumps(record).encode()
    digest = hashlib.sha256(text).hexdigest().encode()
    (folder / "MANIFEST").write_bytes(text + b"\n" + digest + b"\n")


def put(folder, segment, suffix, content):
    """Write a file of a segment's entry, which then agrees with it."""
    (folder / f"{segment['name']}.{suffix}").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    segment["files"][suffix] = {"bytes": len(content), "sha256": digest}


class Anatomy:
    """The parts of a published segment, to be changed; :meth:`seal` writes them back."""

    def __init__(self, folder, number=0):
        self.folder = Path(folder)
        self.record = record_of(folder)
        content = self.record["published"]
        self.segment = content["segments"][number]
        n = self.segment["rows"]
        dtype = {"float32": "<f4", "float16": "<f2"}[content["dtype"]]
        self.vectors = np.frombuffer(self.read("vec"), dtype).reshape(n, -1).copy()
        raw = self.read("rows")
        self.offsets = np.frombuffer(raw, "<u8", n + 1).copy()
        self.keys = np.frombuffer(raw, "<u8", n, 8 * (n + 1)).copy()
        self.crcs = np.frombuffer(raw, "<u4", n, 8 * (2 * n + 1)).copy()
        self.key_rows = np.frombuffer(raw, "<u4", n, 8 * (2 * n + 1) + 4 * n).copy()
        docs = self.read("docs")
        self.payloads = [docs[a:b] for a, b in zip(self.offsets, self.offsets[1:], strict=False)]

    def read(self, suffix):
        return (self.folder / f"{self.segment['name']}.{suffix}").read_bytes()

    def suffix(self, kind):
        """The whole suffix of the file of a kind: del is 00000002.del."""
        return next(s for s in self.segment["files"] if s.rpartition(".")[2] == kind)

    def rekey(self, row, row_id):
        """The table of keys as it is when a row has this id."""
        keys = np.empty_like(self.keys)
        keys[self.key_rows] = self.keys
        digest = hashlib.blake2b(row_id.encode(), digest_size=8).digest()
        keys[row] = int.from_bytes(digest, "little")
        self.key_rows = np.argsort(keys, kind="stable").astype("<u4")
        self.keys = keys[self.key_rows]

    def recount(self):
        """Offsets and checksums of the rows as they are now."""
        sizes = [len(payload) for payload in self.payloads]
        self.offsets = np.cumsum([0, *sizes]).astype("<u8")
        rows = zip(self.payloads, self.vectors, strict=True)
        crcs = [zlib.crc32(vector.tobytes(), zlib.crc32(payload)) for payload, vector in rows]
        self.crcs = np.array(crcs, "<u4")

    def seal(self):
        """Write all parts as they are, and a manifest that agrees."""
        parts = (self.offsets, self.keys, self.crcs, self.key_rows)
        put(self.folder, self.segment, "vec", self.vectors.tobytes())
        put(self.folder, self.segment, "docs", b"".join(self.payloads))
        put(self.folder, self.segment, "rows", b"".join(part.tobytes() for part in parts))
        sign(self.folder, self.record)
