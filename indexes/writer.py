"""The one writer of an index folder: an unpublished build grows, then replaces what readers see."""

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from indexes.build import Build
from indexes.durable import make_folder, refusals
from indexes.errors import (
    IndexCorrupt,
    IndexExists,
    IndexUnfinished,
    RetrievalError,
    VectorError,
)
from indexes.growing import GrowingSegment
from indexes.layout import LONGEST_ROW, Vectors, id_of
from indexes.lock import WriterLock
from indexes.manifest import (
    NAME,
    OUR_FILES,
    Content,
    Manifest,
    SegmentEntry,
    only_ours,
    read_manifest,
    write_manifest,
)

SAME_MODEL = ("fingerprint", "dtype")
UNIT = (
    1e-3  # how far from 1 a row's length may be: a reduced precision rounds, a mistake is far off
)


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Raise IndexExists when a build may not begin in this folder."""
    if os.path.lexists(folder / NAME):
        if read_manifest(folder).published is not None and not overwrite:
            raise IndexExists(
                f"{folder} already holds an index; give another folder with -i, or build it anew "
                "with --overwrite (the old one answers until the new one is complete)"
            )
    elif folder.exists() and not (folder.is_dir() and only_ours(folder)):
        raise IndexExists(f"{folder} is not empty and not an index folder; give another with -i")


class IndexWriter:
    """Builds the content of a folder, in one commit.

    ``content`` says what is being built (its segments are ignored). A build that was interrupted
    is taken up where it has the same model; ``len(writer)`` tells how far it came. With
    ``overwrite`` a finished index answers until :meth:`commit`, and an unfinished build of another
    model is dropped. Errors: IndexExists, IndexUnfinished, IndexLocked, IndexCorrupt, and
    IndexWriteFailed when the disk refuses.
    """

    def __init__(self, folder: str | Path, content: Content, *, overwrite: bool = False) -> None:
        self.folder = Path(folder)
        self.torn = False  # an add was cut short: only the last checkpoint can be trusted
        self._build: Build | None = None
        self._manifest = Manifest()
        with refusals(self.folder):
            check_target(self.folder, overwrite=overwrite)
            self._made_folders = make_folder(self.folder)
            self._lock = WriterLock(self.folder)
        try:
            with refusals(self.folder):
                check_target(self.folder, overwrite=overwrite)  # again, now that nobody else writes
                if os.path.lexists(self.folder / NAME):
                    self._manifest = read_manifest(self.folder)
                self.content = replace(content, segments=())
                self._build = self._take_up(overwrite)
                self._remove_orphans()
        except BaseException:
            self.close()
            raise

    def _take_up(self, overwrite: bool) -> Build:
        """Go on with the interrupted build where it has the same model, else begin an empty one."""
        pending, ours = self._manifest.pending, self.content.model
        if pending is None:
            return Build(self.folder, self.content.dim, ())
        try:
            same = all(ours.get(key) == pending.model.get(key) for key in SAME_MODEL)
            if not same or pending.dim != self.content.dim:
                raise IndexUnfinished(
                    f"{self.folder} holds an unfinished build with another model or dtype "
                    f"({pending.model.get('name')}, {pending.model.get('dtype')})"
                )
            build = Build(self.folder, pending.dim, pending.segments)
        except (IndexUnfinished, IndexCorrupt) as error:
            if not overwrite:
                raise type(error)(f"{error}; to start over, pass --overwrite") from error
            # The manifest first: the orphans it no longer names are removed after.
            self._write(replace(self._manifest, pending=self.content))
            return Build(self.folder, self.content.dim, ())
        self.content = replace(self.content, segments=pending.segments, source=pending.source)
        return build

    @property
    def _rows(self) -> Build:
        if self._build is None or self.torn:
            raise ValueError(
                "this writer is closed, or failed in the middle of a row; open another"
            )
        return self._build

    def __len__(self) -> int:
        """How many rows the build holds."""
        return len(self._rows)

    def find(self, row_id: str) -> int | None:
        """The position of the latest row of the build with this id."""
        return self._rows.find(row_id)

    def payload(self, position: int) -> bytes:
        """The payload of a row of the build."""
        return self._rows.payload(position).removesuffix(b"\n")

    def add(self, vectors: Vectors, payloads: Sequence[bytes]) -> None:
        """Append rows: float32 [n, dim] of unit length and one JSON object with an "id" each.

        Of rows with one id the last stays. VectorError names a bad row; then nothing of the
        batch is kept.
        """
        vectors = np.asarray(vectors, np.float32)
        ids = self._checked_ids(vectors, payloads)
        build = self._rows
        self.torn = True
        with refusals(self.folder):
            build.append(vectors, ids, payloads)
        self.torn = False

    def _checked_ids(self, vectors: Vectors, payloads: Sequence[bytes]) -> list[str]:
        """The ids of rows that may be stored; VectorError for those that may not."""
        if vectors.shape != (len(payloads), self.content.dim):
            raise VectorError(
                f"expected vectors of shape [{len(payloads)}, {self.content.dim}], "
                f"got {list(vectors.shape)}"
            )
        try:
            ids = [id_of(payload) for payload in payloads]
        except ValueError as error:
            raise VectorError(f"a payload is {error}") from None
        if any(b"\n" in payload for payload in payloads):
            raise VectorError("a payload holds a line end; write the JSON object on one line")
        longest = max(map(len, payloads), default=0)
        if longest >= LONGEST_ROW:
            raise VectorError(f"a row of {longest} bytes is over the limit of {LONGEST_ROW}")
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        bad = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT))
        if len(bad):
            raise VectorError(
                f"the vector of {ids[bad[0]]!r} has length {lengths[bad[0]]:.4g}; "
                "rows must be finite and of unit length"
            )
        return ids

    def checkpoint(self, **changes: Any) -> None:
        """Make every row so far survive; ``changes`` are fields of the content, such as source."""
        with refusals(self.folder):
            segments = self._rows.checkpoint()
            self.content = replace(self.content, segments=segments, **changes)
            self._write(replace(self._manifest, pending=self.content))

    def cut(self, rows: int) -> None:
        """Keep the first ``rows`` rows of the unfinished build and forget the others."""
        with refusals(self.folder):
            segments = self._rows.checkpoint()
            self._rows.abandon()
            kept: list[SegmentEntry] = []
            for entry in segments:
                if rows <= 0:
                    break
                kept.append(entry if entry.rows <= rows else self._beginning(entry, rows))
                rows -= entry.rows
            # The manifest first: a crash between the two must find no more than it names.
            self.content = replace(self.content, segments=tuple(kept))
            self._write(replace(self._manifest, pending=self.content))
            self._remove_orphans()
            self._build = Build(self.folder, self.content.dim, kept)

    def _beginning(self, entry: SegmentEntry, rows: int) -> SegmentEntry:
        part = GrowingSegment.reopen(self.folder, entry, self.content.dim, rows)
        part.abandon()
        return part.entry()

    def commit(self, **changes: Any) -> Content:
        """Publish the build in one step, remove what it replaces, return what is published."""
        with refusals(self.folder):
            generation = self._manifest.generation + 1
            segments = self._rows.close(generation)
            self.content = replace(self.content, segments=segments, **changes)
            self._write(Manifest(generation, published=self.content))
            self._remove_orphans()
        return self.content

    def _write(self, manifest: Manifest) -> None:
        write_manifest(self.folder, manifest)
        self._manifest = manifest

    def _remove_orphans(self) -> None:
        """Delete the files of ours that no manifest names: a crash or a commit left them.

        What is on disk decides: a write that was reported as failed may have taken place.
        """
        exists = os.path.lexists(self.folder / NAME)
        manifest = read_manifest(self.folder) if exists else Manifest()
        contents = [manifest.published, manifest.pending]
        segments = [segment for content in contents if content for segment in content.segments]
        named = {f"{segment.name}.{suffix}" for segment in segments for suffix in segment.files}
        for path in self.folder.iterdir():
            if OUR_FILES.fullmatch(path.name) and path.name not in named:
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the folder; a build without a checkpoint leaves nothing behind."""
        if self._build is not None:
            self._build.abandon()
            self._build = None
        try:
            with suppress(OSError, RetrievalError):
                self._remove_orphans()
                if not os.path.lexists(self.folder / NAME):
                    (self.folder / "LOCK").unlink()
                    for folder in self._made_folders:
                        folder.rmdir()
        finally:
            self._lock.release()

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
