"""One writer at a time: an advisory lock on ``LOCK`` that ends with the process that holds it."""

import os
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from indexes.durable import open_plain
from indexes.errors import IndexLocked

ATTEMPTS = 20

if sys.platform == "win32":
    import msvcrt

    def _lock(file: IO[str]) -> None:
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _lock(file: IO[str]) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


class WriterLock:
    """Held from construction to :meth:`release`; IndexLocked names the holder."""

    def __init__(self, folder: Path) -> None:
        path = folder / "LOCK"
        self._file = open_plain(path, "a+", encoding="utf-8")
        try:
            _lock(self._file)
            # A build that left nothing removes the file: a lock on what is gone locks nobody out.
            if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(path)):
                raise OSError
        except OSError:
            holder = self._holder()
            self._file.close()
            reason = f"{folder} is being written by {holder}; wait until it ends"
            raise IndexLocked(reason) from None
        with suppress(OSError):  # a full disk may refuse the name; the lock is held all the same
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._file.flush()

    def _holder(self) -> str:
        """Who holds the lock; it may be writing its name just now."""
        for _ in range(ATTEMPTS):
            self._file.seek(0)
            if name := self._file.read().strip():
                return str(name)
            time.sleep(0.01)
        return "another process"

    def release(self) -> None:
        """Let the next writer in. The file stays; only a build that leaves nothing removes it."""
        with suppress(OSError):
            self._file.close()
