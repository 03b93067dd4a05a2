"""``MANIFEST``: what the folder holds, in one small file that is replaced in one step.

Two lines: JSON, then the sha256 of the JSON. ``published`` is what readers see; ``pending`` is an
unfinished build of the same form, with the bytes and the running hashes of its last checkpoint.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from indexes.durable import open_plain, replace_file
from indexes.errors import (
    IndexCorrupt,
    IndexNotFound,
    IndexTooNew,
    IndexUnfinished,
    IndexWriteFailed,
)
from indexes.layout import VECTORS
from indexes.promise import Promise

FORMAT = 1
NAME = "MANIFEST"
# What a stranger's manifest may cost: its JSON takes up to 12 times its bytes in memory.
MAX_BYTES = 12 * 2**20
MAX_VALUES = 500_000
MAX_DIM = 65_536
MAX_ROWS, MAX_FILE = 2**31, 2**63  # of a segment; bytes
LONGEST_REASON = 200  # characters of an error that may quote what a stranger wrote
OURS = re.compile(r"\d{8}-[0-9a-f]{8}")  # the names of segments
OUR_FILES = re.compile(OURS.pattern + r"\.[a-z0-9_.]+")


@dataclass(frozen=True)
class FileEntry:
    """One file as it must be on disk."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class SegmentEntry:
    """One run of rows; ``files`` is keyed by what follows ``<name>.`` in the file's name."""

    name: str
    rows: int
    files: Mapping[str, FileEntry]
    dead: int = 0

    @property
    def deletions(self) -> str | None:
        """The suffix of the file of deleted rows, where there is one."""
        return next((suffix for suffix in self.files if suffix.endswith(".del")), None)


@dataclass(frozen=True)
class Content:
    """Everything that one commit publishes.

    ``model``, ``schema``, ``probes`` and ``source`` belong to whoever fills the index and are
    only kept here; ``model["fingerprint"]`` tells one model from another. ``kind`` and ``recall``
    are what was asked for, ``ann`` is what is kept of it where rows are searched approximately.
    """

    dim: int
    model: Mapping[str, Any]
    dtype: str = "float32"
    kind: str = "flat"
    recall: float = 0.95
    ann: Mapping[str, Any] | None = None
    sidecars: Mapping[str, Any] = field(default_factory=dict)
    schema: Sequence[Mapping[str, str]] = ()
    probes: Sequence[Mapping[str, str]] = ()
    source: Mapping[str, Any] = field(default_factory=dict)
    segments: tuple[SegmentEntry, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows are live."""
        return sum(segment.rows - segment.dead for segment in self.segments)

    @property
    def bytes(self) -> int:
        """How many bytes the files hold."""
        return sum(file.bytes for segment in self.segments for file in segment.files.values())


@dataclass(frozen=True)
class Manifest:
    """``generation`` counts the commits; at most one of the two contents may be missing."""

    generation: int = 0
    published: Content | None = None
    pending: Content | None = None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the folder's manifest; every file it names must be on disk already.

    IndexWriteFailed when it would be larger than a reader accepts.
    """
    text = json.dumps({"format": FORMAT, **asdict(manifest)}, allow_nan=False).encode()
    if not _is_small(text):
        raise IndexWriteFailed(
            f"{folder / NAME} would be larger than {MAX_BYTES >> 20} MiB or {MAX_VALUES:,} values; "
            "give the same corpus in fewer files"
        )
    replace_file(folder / NAME, b"%s\n%s\n" % (text, hashlib.sha256(text).hexdigest().encode()))


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest.

    IndexNotFound when there is none, IndexUnfinished when a build left only its lock and orphans,
    IndexTooNew for a later format, IndexCorrupt for anything that does not fit.
    """
    path = folder / NAME
    try:
        with open_plain(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        raise _no_index(folder) from None
    cut, size = raw.rfind(b"\n", 0, -1), len(raw)
    text, digest = raw[:cut], raw[cut + 1 :].removesuffix(b"\n")
    del raw  # it may be large, and is copied in parsing
    if size > MAX_BYTES or hashlib.sha256(text).hexdigest().encode() != digest:
        raise IndexCorrupt(
            f"{path} is damaged: its content does not match its checksum; restore the folder "
            "from a copy, or remove it and build the index again"
        )
    return _parse(text, path)


def published(folder: Path, manifest: Manifest) -> Content:
    """What readers see; IndexUnfinished or IndexNotFound where that is nothing yet."""
    if manifest.published is not None:
        return manifest.published
    if manifest.pending is None:
        raise IndexNotFound(f"{folder} holds an empty manifest; build the index again")
    raise IndexUnfinished(
        f"{folder} is not finished ({manifest.pending.rows} rows so far); "
        "run the same command again to go on"
    )


def _no_index(folder: Path) -> IndexNotFound | IndexUnfinished:
    if not folder.exists():
        return IndexNotFound(
            f"{folder} does not exist; make an index: retrieval index FILE -i {folder}"
        )
    if folder.is_dir() and only_ours(folder) and any(folder.iterdir()):
        return IndexUnfinished(f"{folder}: a build was begun and not finished; run it again")
    return IndexNotFound(
        f"{folder} is not an index folder (it has no {NAME}); "
        f"make an index: retrieval index FILE -i {folder}"
    )


def only_ours(folder: Path) -> bool:
    """Whether a folder holds nothing but what a writer leaves: a lock, a manifest, segments."""
    known = ("LOCK", NAME, NAME + ".tmp")
    return all(OUR_FILES.fullmatch(p.name) or p.name in known for p in folder.iterdir())


def _parse(text: bytes, path: Path) -> Manifest:
    try:
        if not (text.isascii() and _is_small(text)):
            raise ValueError(f"more than {MAX_VALUES:,} values, or not ASCII")
        record = json.loads(text, parse_constant=_refuse_constant)
        if (found := _count(record.pop("format"))) == 0:
            raise ValueError("there is no format 0")
        if found > FORMAT:
            raise IndexTooNew(
                f"{path.parent} is in format {str(found)[:40]}; this version reads {FORMAT}: "
                "upgrade miniformer-retrieval"
            )
        return Manifest(
            _count(record.pop("generation")),
            _content(record.pop("published")),
            _content(record.pop("pending")),
            **record,
        )
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = repr(error)[:LONGEST_REASON]
        raise IndexCorrupt(f"{path} is not a manifest of format {FORMAT}: {reason}") from None


def _is_small(text: bytes) -> bool:
    """Whether JSON is within the limits, judged before it is parsed."""
    room = MAX_BYTES - 128  # for the checksum
    return len(text) < room and sum(map(text.count, (b",", b"[", b"{"))) < MAX_VALUES


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _content(record: Mapping[str, Any] | None) -> Content | None:
    if record is None:
        return None
    content = Content(**{**record, "segments": tuple(map(_segment, record["segments"]))})
    if not 1 <= _count(content.dim) <= MAX_DIM:
        raise ValueError(f"dim {content.dim} is not in 1…{MAX_DIM}")
    if content.dtype not in VECTORS:
        raise ValueError(f"unknown dtype {content.dtype!r}")
    if not isinstance(content.model["fingerprint"], str):
        raise ValueError("the model has no fingerprint")
    if len({segment.name for segment in content.segments}) < len(content.segments):
        raise ValueError("two segments have one name")
    _check_kept(content)
    return content


def _check_kept(content: Content) -> None:
    """ValueError or TypeError when what is only kept cannot be what it is given as."""
    _ = content.ann is None or Promise(content.ann)
    entries = [*content.schema, *content.probes]
    typed = isinstance(content.kind, str) and 0 < float(content.recall) <= 1
    typed &= isinstance(content.source, dict) and isinstance(content.sidecars, dict)
    if not typed or not all(isinstance(text, str) for e in entries for text in {**e}.values()):
        raise ValueError("the kind, the source, the schema or the probes are of another type")


def _segment(record: Mapping[str, Any]) -> SegmentEntry:
    files = {suffix: FileEntry(**entry) for suffix, entry in record["files"].items()}
    for file in files.values():
        if _count(file.bytes) >= MAX_FILE or not re.fullmatch("[0-9a-f]{64}", file.sha256):
            raise ValueError(f"{file} cannot be")
    segment = SegmentEntry(**{**record, "files": files})
    # A name is joined to the folder's path: nothing that could lead out of it may pass.
    for name in (segment.name, *(f"{segment.name}.{suffix}" for suffix in files)):
        if not re.fullmatch(OURS.pattern + r"(\.[a-z0-9_.]+)?", name) or ".." in name:
            raise ValueError(f"bad file name {name!r}")
    if not _count(segment.dead) <= _count(segment.rows) < MAX_ROWS:
        raise ValueError(f"{segment.name}: {segment.rows} rows, {segment.dead} of them dead")
    if not files.keys() >= {"vec", "docs"} or bool(segment.dead) != bool(segment.deletions):
        raise ValueError(f"{segment.name}: a file is missing")
    return segment


def _count(value: Any) -> int:
    """A whole number from 0 up, and nothing that merely converts to one."""
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is not a count")
    return value
