"""Corpus files as byte streams: globs, gzip, standard input, and what a file really is."""

import glob
import gzip
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from retrieval.errors import CorpusError

STDIN = "-"
MAGIC = {
    b"PAR1": "Parquet",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PK\x03\x04": "a zip archive",
}


class CorpusFile:
    """One input: its name for messages, its format by extension, and its bytes."""

    def __init__(self, name: str, formats: Sequence[str]) -> None:
        self.name = name
        self.is_stdin = name == STDIN
        suffixes = [suffix.lower() for suffix in Path(name).suffixes]
        self.is_gzip = suffixes[-1:] == [".gz"]
        self.format = ".jsonl" if self.is_stdin else _format(suffixes, self.is_gzip)
        self.size = 0 if self.is_stdin else Path(name).stat().st_size
        self.shown = "standard input" if self.is_stdin else name
        self.rows_read: float | None = None  # as a share of the file, where a reader can tell
        if self.format not in formats:
            known = ", ".join(formats)
            raise CorpusError(
                f"{name}: unknown format {self.format or '(no extension)'!r}; "
                f"known: {known}, each also .gz"
            )

    def open(self) -> AbstractContextManager[BinaryIO]:
        """The stored bytes, compressed as they are."""
        return nullcontext(sys.stdin.buffer) if self.is_stdin else open(self.name, "rb")

    def unpacked(self, stored: BinaryIO) -> BinaryIO:
        """The content of a stream from :meth:`open`."""
        return gzip.GzipFile(fileobj=stored) if self.is_gzip else stored  # type: ignore[return-value]

    def seekable(self, stored: BinaryIO) -> BinaryIO:
        """The content with random access: a packed file is unpacked to a temporary one."""
        if not self.is_gzip:
            return stored
        plain = tempfile.TemporaryFile()
        try:
            shutil.copyfileobj(self.unpacked(stored), plain)
        except BaseException:
            plain.close()
            raise
        plain.seek(0)
        return plain


def _format(suffixes: Sequence[str], is_gzip: bool) -> str:
    return "".join(suffixes[-2:-1] if is_gzip else suffixes[-1:])


def expand(patterns: Sequence[str | Path], formats: Sequence[str]) -> list[CorpusFile]:
    """The files that paths and patterns name, those of a pattern sorted; CorpusError if none."""
    files = []
    for pattern in map(str, patterns):
        if pattern != STDIN and Path(pattern).is_dir():
            raise CorpusError(f"{pattern} is a folder; name its files: '{pattern}/*.parquet'")
        if pattern == STDIN or Path(pattern).exists():
            names = [pattern]
        else:
            found = sorted(glob.glob(pattern, recursive=True))
            names = [name for name in found if not Path(name).is_dir()]
        if not names:
            raise CorpusError(f"{pattern}: no such file")
        files += [CorpusFile(name, formats) for name in names]
    return files


def looks_like(head: bytes) -> str | None:
    """What the first bytes of a file say it is, where they say anything."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)
