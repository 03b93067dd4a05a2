"""One writer at a time: an advisory lock on ``LOCK`` that ends with the process that holds it."""

import os
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import IO

from indexes.errors import IndexLocked

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
        self._file = open(folder / "LOCK", "a+", encoding="utf-8")
        try:
            _lock(self._file)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise IndexLocked(
                f"{folder} is being written by {holder}; wait until it ends"
            ) from None
        with suppress(OSError):  # a full disk may refuse the name; the lock is held all the same
            self._file.truncate(0)
            self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
            self._file.flush()

    def release(self) -> None:
        """Let the next writer in; the file stays, since removing it would open a race."""
        with suppress(OSError):
            self._file.close()
