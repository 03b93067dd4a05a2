"""How far a build is, on standard error: a live line on a terminal, else a line now and then."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from retrieval.report import Progress

QUIET = 2.0  # seconds before anything is said
EVERY = 10.0  # seconds between lines where they cannot be rewritten


@contextmanager
def progress_line(*, resumable: bool = False) -> Iterator["ProgressLine"]:
    """A line that ends with the block; Ctrl-C says how to go on where that is ``resumable``."""
    line = ProgressLine()
    try:
        yield line
    except KeyboardInterrupt:
        if resumable:
            raise KeyboardInterrupt("what was kept goes on with the same command") from None
        raise
    finally:
        line.close()


class ProgressLine:
    """A callback for ``build_index``; :meth:`close` ends the line."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._next = QUIET
        self._written = False

    def __call__(self, progress: Progress) -> None:
        """Show progress when it is time to."""
        if progress.seconds < self._next:
            return
        self._next = progress.seconds + (0.2 if self._live else EVERY)
        self._written = True
        line = describe(progress)
        click.echo(f"\r\x1b[K{line}" if self._live else line, err=True, nl=not self._live)

    def close(self) -> None:
        """Leave the cursor on a fresh line."""
        if self._live and self._written:
            click.echo("\r\x1b[K", err=True, nl=False)


def describe(progress: Progress) -> str:
    """Rows, rate, share and remaining time in one line."""
    rate = progress.encoded / progress.seconds if progress.seconds else 0.0
    parts = [f"{progress.rows:,} rows", f"{rate:,.0f}/s"]
    if progress.fraction:
        remaining = progress.seconds * (1 - progress.fraction) / progress.fraction
        parts += [f"{progress.fraction:.0%}", f"{clock(remaining)} left"]
    return ", ".join(parts)


def clock(seconds: float) -> str:
    """A duration as 0:07, 12:30 or 3:05:00."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
