"""A fork inherits the locks of threads that it does not inherit: what was used before it hangs."""

import os

from indexes.errors import ForkedError


class Process:
    """The process that made this object, for whatever uses FAISS or torch to keep and to check."""

    def __init__(self) -> None:
        self._number = os.getpid()

    def check(self) -> None:
        """Raise ForkedError in any other process."""
        if os.getpid() != self._number:
            raise ForkedError(
                f"opened before a fork in process {self._number}; "
                "open it again in the child, or start workers by spawn"
            )
