"""The one writer of an index folder: it builds, changes and compacts, each in one commit."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexes.build import Build
from indexes.certifying import Grown
from indexes.compaction import merge, runs_to_merge
from indexes.derived import Sidecar, with_every_file
from indexes.durable import refusals, sync_folder
from indexes.errors import IndexCorrupt, IndexWriteFailed
from indexes.growing import GrowingSegment
from indexes.incoming import checked_ids
from indexes.layout import Vectors
from indexes.manifest import Content, Manifest, SegmentEntry, read_manifest
from indexes.segment import GRAPH
from indexes.session import Session, changeable, check_target
from indexes.standing import Standing
from indexes.taking_up import taken_up

if TYPE_CHECKING:
    import pyarrow.compute as pc

log = logging.getLogger(__name__)


class IndexWriter:
    """Changes the index of a folder, or builds one.

    With ``content`` it builds what that says (its segments are ignored): an interrupted build is
    taken up where it has the same model, and ``len(writer)`` tells how far it came. With
    ``overwrite`` a finished index answers until :meth:`commit`, and an unfinished build of another
    model is dropped. Without ``content`` it adds to the index that is there and deletes from it.
    Nothing is seen by readers, or survives the writer, before :meth:`commit` (or, of a build,
    :meth:`checkpoint`). ``sidecars`` make what stands beside the segments of an index whose content
    names them: see :mod:`indexes.derived`. Errors: IndexNotFound, IndexExists, IndexUnfinished,
    IndexLocked, IndexCorrupt, and IndexWriteFailed when the disk refuses.
    """

    def __init__(
        self,
        folder: str | Path,
        content: Content | None = None,
        *,
        overwrite: bool = False,
        sidecars: Mapping[str, Sidecar] | None = None,
    ) -> None:
        self.folder = Path(folder)
        self._sidecars = sidecars or {}
        self.torn = False  # a write failed: only the last checkpoint can be trusted
        self._build: Build | None = None
        self._changes = content is None

        def check() -> None:
            if content is None:
                changeable(self.folder, read_manifest(self.folder))
            else:
                check_target(self.folder, overwrite=overwrite)

        self._session = Session(self.folder, check, make=content is not None)
        try:
            with refusals(self.folder):
                if content is None:
                    self._stand_on(changeable(self.folder, self._session.manifest))
                else:
                    self.content = replace(content, segments=())
                    self.standing = Standing(self.folder, self.content)
                    taken = taken_up(self._session, self.content, overwrite=overwrite)
                    self._build, self.content = taken
                self._session.remove_orphans()
        except BaseException:
            self.close()
            raise

    def _stand_on(self, content: Content) -> None:
        """Begin a change of what is published."""
        try:
            self.content, self.standing = content, Standing(self.folder, content)
        except FileNotFoundError as error:
            raise IndexCorrupt(f"{error.filename} is missing") from None
        self._build = Build(self.folder, content.dim, content.dtype)

    @property
    def _rows(self) -> Build:
        if self._build is None or self.torn:
            raise ValueError("this writer is closed, or could not write before; open another")
        return self._build

    @contextmanager
    def _disk(self) -> Iterator[None]:
        """Nothing more is written after the disk refused once: a lost page is reported only once,
        and waiting for the same file again would seem to succeed.
        """
        try:
            with refusals(self.folder):
                yield
        except IndexWriteFailed:
            self.torn = True
            raise

    def __len__(self) -> int:
        """How many rows the build holds; of a change, those that it adds."""
        return len(self._rows)

    def find(self, row_id: str) -> int | None:
        """The position of the latest row of the build with this id."""
        return self._rows.find(row_id)

    def payload(self, position: int) -> bytes:
        """The payload of a row of the build."""
        return self._rows.payload(position).removesuffix(b"\n")

    def upsert(self, vectors: Vectors, payloads: Sequence[bytes]) -> None:
        """Add rows, each in the place of the row with its id: float32 [n, dim] of unit length and
        one JSON object with an "id" each.

        Of rows with one id the last stays. VectorError names a bad row; then nothing of the
        batch is kept.
        """
        vectors = np.asarray(vectors, np.float32)
        ids = checked_ids(vectors, payloads, self.content.dim)
        build = self._rows
        self.torn = True
        with refusals(self.folder):
            build.append(vectors, ids, payloads)
            for row_id in ids:
                if (place := self.standing.find(row_id)) is not None:
                    self.standing.kill(place)
        self.torn = False

    add = upsert

    def delete(self, ids: Iterable[str]) -> int:
        """Delete the rows with these ids; how many there were."""
        build, count = self._rows, 0
        for row_id in ids:
            with self._disk():  # to look for a row may write those before it
                place, position = self.standing.find(row_id), build.find(row_id)
            if place is not None:
                self.standing.kill(place)
            if position is not None:
                build.kill(position)
            count += place is not None or position is not None
        return count

    def delete_where(self, where: "str | pc.Expression") -> int:
        """Delete the published rows that a filter selects; how many. WhereError for no filter."""
        return self.standing.kill_where(where, self.content.schema)

    def checkpoint(self, **changes: Any) -> None:
        """Make every row of a build so far survive; ``changes`` are fields of the content, such as
        source.
        """
        with self._disk():
            segments = self._rows.checkpoint()
            self.content = replace(self.content, segments=segments, **changes)
            self._session.write(replace(self._session.manifest, pending=self.content))

    def cut(self, rows: int) -> None:
        """Keep the first ``rows`` rows of the unfinished build and forget the others."""
        with self._disk():
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
            self._session.write(replace(self._session.manifest, pending=self.content))
            self._session.remove_orphans()
            self._build = Build(self.folder, self.content.dim, self.content.dtype, kept)

    def _beginning(self, entry: SegmentEntry, rows: int) -> SegmentEntry:
        dim, dtype = self.content.dim, self.content.dtype
        part = GrowingSegment.reopen(self.folder, entry, dim, dtype, rows)
        part.abandon()
        return part.entry()

    def commit(self, **changes: Any) -> Content:
        """Publish in one step, remove what is replaced, return what is published; then the writer
        stands on it. ``changes`` are fields of the content. Where changes have piled up segments
        or deleted rows they are compacted, in a commit of its own.
        """
        with self._disk():
            generation = self._session.manifest.generation + 1
            segments = (*self.standing.entries(generation), *self._rows.close(generation))
            content = replace(self.content, segments=segments, **changes)
            worn = self._changes and runs_to_merge(content)
            self._publish(content, generation, None if worn else {})
        try:
            if worn:
                self.compact(everything=False)
        except IndexWriteFailed as error:
            log.warning("not compacted: %s", error)  # the commit stands
        self._changes = True
        return self.content

    def compact(self, *, everything: bool = True) -> bool:
        """Copy live rows into fewer segments without deleted ones, in one commit; False where there
        is nothing to do. Without ``everything`` only where they have piled up. ValueError while a
        change waits for its commit.
        """
        if len(self._rows) or self.standing.changed:
            raise ValueError("commit the change before compacting")
        runs = runs_to_merge(self.content, everything=everything)
        if not runs:
            return False
        with refusals(self.folder):
            generation = self._session.manifest.generation + 1
            segments, grown = list(self.content.segments), {}
            for first, behind in reversed(runs):
                merged = merge(self.folder, self.content, segments[first:behind], generation)
                grows = len(merged) == 1 and behind - first > 1 and not everything
                if grows and GRAPH in segments[first].files:
                    grown[merged[0].name] = segments[first]
                segments[first:behind] = merged
            self._publish(replace(self.content, segments=tuple(segments)), generation, grown)
        return True

    def _publish(self, content: Content, generation: int, grown: Grown | None) -> None:
        """No ``.ann`` where ``grown`` is None: a compaction replaces segments next."""
        content = with_every_file(self.folder, content, self._sidecars, grown)
        sync_folder(self.folder)
        self._session.write(Manifest(generation, published=content))
        self._session.remove_orphans()
        self._stand_on(content)

    def close(self) -> None:
        """Let go of the folder; a build without a checkpoint leaves nothing behind."""
        if self._build is not None:
            self._build.abandon()
            self._build = None
        self._session.close()

    def __enter__(self) -> "IndexWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
