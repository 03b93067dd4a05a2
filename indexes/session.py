"""An index folder held for writing: its lock, its manifest, and nothing that no manifest names."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from indexes.durable import make_folder, refusals
from indexes.errors import IndexExists, IndexUnfinished, RetrievalError
from indexes.lock import WriterLock
from indexes.manifest import (
    NAME,
    OUR_FILES,
    Content,
    Manifest,
    only_ours,
    published,
    read_manifest,
    write_manifest,
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


def changeable(folder: Path, manifest: Manifest) -> Content:
    """What is published; IndexUnfinished where a new build is under way beside it."""
    content = published(folder, manifest)
    if manifest.pending is not None:
        raise IndexUnfinished(
            f"{folder} holds an unfinished new build of {manifest.pending.rows} rows beside its "
            "index; finish it first with the command that began it"
        )
    return content


def orphans(folder: Path, manifest: Manifest) -> list[Path]:
    """The segments' files in a folder that its manifest does not name."""
    contents = [manifest.published, manifest.pending]
    segments = [segment for content in contents if content for segment in content.segments]
    named = {f"{segment.name}.{suffix}" for segment in segments for suffix in segment.files}
    ours = (path for path in folder.iterdir() if OUR_FILES.fullmatch(path.name))
    return [path for path in ours if path.name not in named]


class Session:
    """Held from construction to :meth:`close`.

    ``check`` refuses a folder that is not for it, before the lock is taken and again when nobody
    else writes. ``make``: a missing folder is made.
    """

    def __init__(self, folder: Path, check: Callable[[], None], *, make: bool) -> None:
        self.folder = folder
        self._made: list[Path] = []
        with refusals(folder):
            check()
            if make:
                self._made = make_folder(folder)
            self._lock = WriterLock(folder)
        try:
            with refusals(folder):
                check()
                self.manifest = self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> Manifest:
        return read_manifest(self.folder) if os.path.lexists(self.folder / NAME) else Manifest()

    def write(self, manifest: Manifest) -> None:
        """Put a manifest in the place of the one before; all that it names is on disk."""
        write_manifest(self.folder, manifest)
        self.manifest = manifest

    def remove_orphans(self) -> None:
        """Delete the files of ours that no manifest names: a crash or a commit left them.

        What is on disk decides: a write that was reported as failed may have taken place.
        """
        for path in orphans(self.folder, self._read()):
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Let go of the folder; where nothing was kept nothing is left behind."""
        try:
            with suppress(OSError, RetrievalError):
                self.remove_orphans()
                if not os.path.lexists(self.folder / NAME):
                    (self.folder / "LOCK").unlink()
                    for folder in self._made:
                        folder.rmdir()
        finally:
            self._lock.release()
