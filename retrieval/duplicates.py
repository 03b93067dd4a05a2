"""What becomes of a row whose id has come before: the choice, and the error where none was made."""

from typing import Literal

from retrieval.errors import CorpusError

OnDuplicate = Literal["error", "first", "last"]
ON_DUPLICATE = ("error", "first", "last")


def check_choice(on_duplicate: str) -> None:
    """ValueError for an unknown choice."""
    if on_duplicate not in ON_DUPLICATE:
        raise ValueError(f"on_duplicate must be one of {ON_DUPLICATE}, got {on_duplicate!r}")


def repeated(where: str, row_id: str) -> CorpusError:
    """What to raise for the row at ``where``."""
    return CorpusError(
        f"{where}: the id {row_id!r} has come before; make ids unique, "
        "or pass --on-duplicate first (or last)"
    )
