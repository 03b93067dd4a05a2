"""What a build says of itself: on the way, and at the end."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a build is: rows so far, the share of the source read (None: unknown), seconds
    since it began, and how many of the rows were encoded in that time.
    """

    rows: int
    fraction: float | None
    seconds: float
    encoded: int


@dataclass(frozen=True)
class BuildReport:
    """What a build did. ``skipped`` rows were passed over: without text and title, bad where that
    is allowed, or of an id that came before. ``truncated`` texts lost ``truncated_tokens`` at the
    maximum length; ``resumed`` rows had been encoded by an earlier, interrupted run. ``passages``
    is how documents were cut, of which each passage is a row; where that was left to ``auto``, the
    first ``looked_at`` documents decided, of which ``losing`` would have lost text.
    """

    rows: int
    skipped: int
    truncated: int
    truncated_tokens: int
    seconds: float
    resumed: int = 0
    passages: str = "none"
    looked_at: int = 0
    losing: int = 0


@dataclass(frozen=True)
class ChangeReport:
    """What a change did, in documents; ``skipped`` ones were passed over as in a build."""

    added: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    skipped: int = 0
    seconds: float = 0.0
