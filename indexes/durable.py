"""Writes that survive a power cut: data, fsync, then the name, then fsync of the folder."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO


def sync_file(file: BinaryIO) -> None:
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
    try:
        with path.open("xb") as file:
            for chunk in chunks:
                file.write(chunk)
            sync_file(file)
    except OSError:
        path.unlink(missing_ok=True)
        raise


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
