"""Corpus files as byte streams: globs, gzip, standard input, and what a file really is."""

import glob
import gzip
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import unquote

from retrieval.errors import CorpusError

STDIN = "-"
LISTED = 1_000  # files that a manifest names
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
WHOLE = re.compile(r"-?\d{1,18}").fullmatch  # 18 digits always fit into 64 bits
MAGIC = {
    b"PAR1": "Parquet",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "Zstandard",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
    b"PK\x03\x04": "a zip archive",
}


Key = str | int | None


class CorpusFile:
    """One input: its name for messages, its format by extension, and its bytes; ``keys`` are the
    values that every row has by the folders that the file lies in.
    """

    def __init__(
        self, name: str, formats: Sequence[str], keys: Mapping[str, Key] | None = None
    ) -> None:
        self.name = name
        self.keys = keys or {}
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
    """The files that paths and patterns name, those of a pattern sorted, and of a folder its
    Parquet files; CorpusError if none.
    """
    files: list[CorpusFile] = []
    for pattern in map(str, patterns):
        if pattern != STDIN and Path(pattern).is_dir():
            files += _partitions(Path(pattern), formats)
            continue
        if pattern == STDIN or Path(pattern).exists():
            names = [pattern]
        else:
            found = sorted(glob.glob(pattern, recursive=True))
            names = [name for name in found if not Path(name).is_dir()]
        if not names:
            raise CorpusError(f"{pattern}: no such file")
        files += [CorpusFile(name, formats) for name in names]
    return files


def _partitions(folder: Path, formats: Sequence[str]) -> list[CorpusFile]:
    """The Parquet files of a folder and of those in it, sorted, their keys from names such as
    ``year=2020``. A key is a whole number where it is one throughout, else text.
    """
    paths = [path.relative_to(folder) for path in sorted(folder.rglob("*.parquet"))]
    # A leading dot or underscore marks what is no part of the data: unfinished files, notes.
    paths = [path for path in paths if not any(part[0] in "._" for part in path.parts)]
    paths = [path for path in paths if (folder / path).is_file()]
    if not paths:
        raise CorpusError(
            f"{folder} is a folder without Parquet files; name its files: '{folder}/*.jsonl'"
        )
    keys = _typed([_keys(path) for path in paths])
    return [
        CorpusFile(str(folder / path), formats, values)
        for path, values in zip(paths, keys, strict=True)
    ]


def _typed(found: Sequence[Mapping[str, str | None]]) -> list[dict[str, Key]]:
    """The keys of each file; every file has all of them, and a key one type."""
    names = list(dict.fromkeys(name for keys in found for name in keys))
    columns: dict[str, list[Key]] = {}
    for name in names:
        texts = [keys.get(name) for keys in found]
        is_whole = all(text is None or WHOLE(text) for text in texts)
        columns[name] = [int(t) if t is not None and is_whole else t for t in texts]
    return [{name: columns[name][at] for name in names} for at in range(len(found))]


def _keys(path: Path) -> dict[str, str | None]:
    """The keys in the folders of a path, as Hive writes them."""
    pairs = (unquote(part).partition("=") for part in path.parent.parts if "=" in part)
    return {name: None if value == HIVE_NULL else value for name, _, value in pairs if name}


def listed(files: Sequence[CorpusFile]) -> dict[str, Any]:
    """What a manifest keeps of files that were read: the first ``LISTED``, and how many more."""
    kept = [{"name": file.shown, "bytes": file.size} for file in files[:LISTED]]
    more = len(files) - len(kept)
    return {"files": kept, "more_files": more} if more else {"files": kept}


def looks_like(head: bytes) -> str | None:
    """What the first bytes of a file say it is, where they say anything."""
    return next((name for magic, name in MAGIC.items() if head.startswith(magic)), None)
