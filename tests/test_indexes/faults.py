"""A disk that counts what is asked of it and fails, ends the process, or remembers, at will.

As a script it ends child processes at every operation, or kills them at random moments, and
writes what it found as JSON.
"""

import builtins
import errno
import io
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any

WRITING = set("wxa+")
GROWS = ("create", "mkdir", "write", "fsync", "replace")  # what a full disk may refuse
Half = Callable[[], object]
Act = Callable[[str, str, Half], None]


class _Raw(io.FileIO):
    """A file below its buffer: what reaches ``write`` reaches the disk."""

    disk: "Disk"

    def write(self, data: Any) -> int:
        half = bytes(data)[: len(data) // 2]
        return self.disk.do("write", self.name, super().write, data, half=lambda: os.write(self.fileno(), half))

    def truncate(self, size: int | None = None) -> int:
        return self.disk.do("truncate", self.name, super().truncate, size)


class Disk(AbstractContextManager["Disk"]):
    """Every change below ``folder``'s parent is an operation; ``act`` is called before each with
    its kind, its path and a way to do half of it, ``after`` once it is done.
    """

    def __init__(self, folder: Path, act: Act | None = None, after: Act | None = None) -> None:
        self.folder = folder
        self.log: list[tuple[str, str]] = []
        self._act = act
        self._after = after
        self._real: dict[tuple[Any, str], Any] = {}

    def do(self, kind: str, path: Any, call: Callable, *given: Any, half: Half = lambda: None) -> Any:
        name = os.path.basename(os.fspath(path))
        if os.path.abspath(os.fspath(path)) == os.path.abspath(self.folder):
            name = "."
        self.log.append((kind, name))
        if self._act:
            self._act(kind, name, half)
        result = call(*given)
        if self._after:
            self._after(kind, name, half)
        return result

    def _open(self, path: Any, mode: str = "r", *given: Any, **named: Any) -> Any:
        real = self._real[io, "open"]
        if isinstance(path, int) or not WRITING & set(mode) or not self._is_ours(path):
            return real(path, mode, *given, **named)
        fresh = not os.path.exists(path)
        kept = mode.replace("t", "").replace("b", "")
        raw = self.do("create", path, _Raw, path, kept) if fresh else _Raw(path, kept)
        raw.disk = self
        file = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return file if "b" in mode else io.TextIOWrapper(file, named.get("encoding"))

    def _is_ours(self, path: Any) -> bool:
        return os.path.abspath(os.fspath(path)).startswith(os.path.abspath(self.folder.parent))

    def _fsync(self, handle: int) -> None:
        found = os.fstat(handle)
        places = [self.folder.parent, self.folder]
        places += self.folder.iterdir() if self.folder.is_dir() else []
        path = next(p for p in places if os.path.samestat(p.lstat(), found))
        self.do("fsync", path, self._real[os, "fsync"], handle)

    def _named(self, kind: str) -> Callable:
        def operation(path: Any, *given: Any, **named: Any) -> None:
            call = self._real[os, kind]
            self.do(kind, given[0] if kind == "replace" else path, call, path, *given, **named)

        return operation

    def __enter__(self) -> "Disk":
        fakes = {(io, "open"): self._open, (builtins, "open"): self._open}
        fakes[os, "fsync"] = self._fsync
        fakes |= {(os, k): self._named(k) for k in ("replace", "unlink", "mkdir", "rmdir")}
        self._real = {place: getattr(*place) for place in fakes}
        for (module, name), fake in fakes.items():
            setattr(module, name, fake)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for (module, name), real in self._real.items():
            setattr(module, name, real)
