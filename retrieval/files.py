"""Corpus files as byte streams: globs, folders, packed files, and what a file really is."""

import glob
import gzip
import io
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
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
TEXT_FORMATS = (".txt", ".md", ".markdown")  # one document a file

Key = str | int | None


def _gunzip(stored: BinaryIO) -> BinaryIO:
    return gzip.GzipFile(fileobj=stored)  # type: ignore[return-value]


def _unzstd(stored: BinaryIO) -> BinaryIO:
    import pyarrow as pa  # 0.2 s, and only here; Python has no Zstandard before 3.14

    return io.BufferedReader(pa.CompressedInputStream(stored, "zstd"), BUFFER)


PACKINGS: Mapping[str, Callable[[BinaryIO], BinaryIO]] = {".gz": _gunzip, ".zst": _unzstd}
BUFFER = 2**16


class CorpusFile:
    """One input: its name for messages, its format by extension, and its bytes; ``keys`` are the
    values that every row has by the folders that the file lies in, ``place`` its path in the folder
    that was named, or as it was named itself.
    """

    def __init__(
        self,
        name: str,
        formats: Sequence[str],
        keys: Mapping[str, Key] | None = None,
        place: Path | None = None,
    ) -> None:
        self.name = name
        self.place = (place or Path(name)).as_posix()
        self.keys = keys or {}
        self.is_stdin = name == STDIN
        stated, self._unpack = _stated(name)
        self.format = ".jsonl" if self.is_stdin else stated
        self.size = 0 if self.is_stdin else Path(name).stat().st_size
        self.shown = "standard input" if self.is_stdin else name
        self.rows_read: float | None = None  # as a share of the file, where a reader can tell
        if self.format not in formats:
            known = ", ".join(formats)
            raise CorpusError(
                f"{name}: unknown format {self.format or '(no extension)'!r}; "
                f"known: {known}, each also {' or '.join(PACKINGS)}"
            )

    def open(self) -> AbstractContextManager[BinaryIO]:
        """The stored bytes, compressed as they are."""
        return nullcontext(sys.stdin.buffer) if self.is_stdin else open(self.name, "rb")

    def unpacked(self, stored: BinaryIO) -> BinaryIO:
        """The content of a stream from :meth:`open`."""
        return stored if self._unpack is None else self._unpack(stored)

    def seekable(self, stored: BinaryIO) -> BinaryIO:
        """The content with random access: a packed file is unpacked to a temporary one."""
        if self._unpack is None:
            return stored
        plain = tempfile.TemporaryFile()
        try:
            shutil.copyfileobj(self.unpacked(stored), plain)
        except BaseException:
            plain.close()
            raise
        plain.seek(0)
        return plain


def _stated(name: str) -> tuple[str, Callable[[BinaryIO], BinaryIO] | None]:
    """The format that a file's extensions state, and how to unpack it where it is packed."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    unpack = PACKINGS.get("".join(suffixes[-1:]))
    return "".join(suffixes[-1:] if unpack is None else suffixes[-2:-1]), unpack


def expand(patterns: Sequence[str | Path], formats: Sequence[str]) -> list[CorpusFile]:
    """The files that paths and patterns name, those of a pattern sorted, and of a folder what
    :func:`_of_folder` says; CorpusError if none.
    """
    files: list[CorpusFile] = []
    for pattern in map(str, patterns):
        if pattern != STDIN and Path(pattern).is_dir():
            files += _of_folder(Path(pattern), formats)
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


def _of_folder(folder: Path, formats: Sequence[str]) -> list[CorpusFile]:
    """The Parquet files of a folder and of those in it, else its text files, sorted; their keys are
    from folders' names such as ``year=2020``. A key is a whole number where it is one throughout,
    else text.

    Texts beside Parquet are notes on it. Beside other files of rows nobody can tell which are the
    corpus and which the notes: CorpusError, as where there are neither Parquet files nor texts.
    """
    paths = _partitions(folder) or _texts(folder, formats)
    keys = _typed([_keys(path) for path in paths])
    return [
        CorpusFile(str(folder / path), formats, values, path)
        for path, values in zip(paths, keys, strict=True)
    ]


def _partitions(folder: Path) -> list[Path]:
    # A leading dot or underscore marks what is no part of the data: unfinished files, notes.
    return _inside(folder, "*.parquet", hidden="._")


def _texts(folder: Path, formats: Sequence[str]) -> list[Path]:
    stated = {path: _stated(path.name)[0] for path in _inside(folder, "*", hidden=".")}
    texts = [path for path, ending in stated.items() if ending in TEXT_FORMATS]
    rows = [path for path, ending in stated.items() if ending in formats and path not in texts]
    if texts and rows:
        raise CorpusError(
            f"{folder} holds rows ({rows[0]}) and texts ({texts[0]}); "
            f"name the files that are meant, as '{folder}/*.md'"
        )
    if not texts:
        raise CorpusError(
            f"{folder} is a folder without Parquet or text files; "
            f"name its files: '{folder}/*.jsonl'"
        )
    return texts


def _inside(folder: Path, pattern: str, *, hidden: str) -> list[Path]:
    """The files of a folder and of those in it, sorted, without what a leading character hides."""
    found = [path.relative_to(folder) for path in sorted(folder.rglob(pattern)) if path.is_file()]
    return [path for path in found if not any(part[0] in hidden for part in path.parts)]


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
