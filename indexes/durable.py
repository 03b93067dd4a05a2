"""Writes that survive a power cut: data, fsync, then the name, then fsync of the folder."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from indexes.errors import IndexCorrupt, IndexNotFound, IndexWriteFailed

# What opening a link, a folder, or a pipe or device without a partner says.
NO_FILE = (errno.ELOOP, errno.EISDIR, errno.ENXIO)
PLAIN = sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))


REMEDIES = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EACCES: "choose a folder that you may write to, with -i",
    errno.EPERM: "choose a folder that you may write to, with -i",
    errno.EROFS: "choose a folder that you may write to, with -i",
}


def sync_file(file: IO[bytes]) -> None:
    """Flush a file and wait until the disk holds it."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the disk holds the folder's names; a no-op where folders cannot be opened."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_new(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file that must not exist yet; a failure leaves none."""
    file = path.open("xb")
    try:
        with file:
            for chunk in chunks:
                file.write(chunk)
            sync_file(file)
    except OSError:
        path.unlink(missing_ok=True)
        raise


def open_plain(path: Path, mode: str, encoding: str | None = None) -> IO[Any]:
    """Open a file by its own name: no link that leads elsewhere, no pipe that blocks, no device.

    FileNotFoundError or FileExistsError as ``open`` gives them, IndexCorrupt where there is
    something else than a file, IndexNotFound where it may not be read.
    """
    try:
        file = open(path, mode, encoding=encoding, opener=_own_name)
    except (FileNotFoundError, FileExistsError, NotADirectoryError):
        raise
    except OSError as error:
        if error.errno in NO_FILE:
            raise IndexCorrupt(f"{path} is not a regular file: {error.strerror}") from None
        if mode != "rb":
            raise
        kind = IndexNotFound if isinstance(error, PermissionError) else IndexCorrupt
        raise kind(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise IndexCorrupt(f"{path} is not a regular file")
    return file


def _own_name(path: str, flags: int) -> int:
    return os.open(path, flags | PLAIN, 0o666)


def replace_file(path: Path, content: bytes) -> None:
    """Put new content under a name in one step: a reader sees the old bytes or the new ones."""
    fresh = path.with_name(path.name + ".tmp")
    fresh.unlink(missing_ok=True)
    write_new(fresh, [content])
    try:
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and the missing ones above it, each name on disk; return those
    made, the innermost first.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for path in missing:
        sync_folder(path.parent)
    return missing


@contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """Report a disk that refuses as IndexWriteFailed, with the remedy where there is one."""
    try:
        yield
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0, "what was kept before is untouched")
        raise IndexWriteFailed(
            f"cannot write to {error.filename or folder}: {error.strerror or error}; {remedy}"
        ) from error
