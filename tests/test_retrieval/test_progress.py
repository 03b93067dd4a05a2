"""The line that tells how far a build is."""

import io
import sys

import pytest

from retrieval.cli.progress import ProgressLine, clock, describe
from retrieval.report import Progress


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0:00"),
        (0.4, "0:00"),
        (7, "0:07"),
        (59.6, "1:00"),
        (750, "12:30"),
        (3_599, "59:59"),
        (3_600, "1:00:00"),
        (11_100, "3:05:00"),
        (86_399, "23:59:59"),
        (90_000, "25:00:00"),
        (400_000, "111:06:40"),
    ],
)
def test_a_duration_is_shown_as_a_clock_shows_it(seconds, shown):
    assert clock(seconds) == shown


@pytest.mark.parametrize(
    ("progress", "shown"),
    [
        (Progress(1_234, 0.25, 10.0, 1_234), "1,234 rows, 123/s, 25%, 0:30 left"),
        (Progress(1_234, None, 10.0, 1_234), "1,234 rows, 123/s"),
        (Progress(0, 0.0, 0.0, 0), "0 rows, 0/s"),
        (Progress(5_000, 1.0, 2.5, 1_000), "5,000 rows, 400/s, 100%, 0:00 left"),
        (
            Progress(10_000_000, 0.5, 7_200, 10_000_000),
            "10,000,000 rows, 1,389/s, 50%, 2:00:00 left",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_progress_is_rows_rate_share_and_remaining_time(progress, shown):
    assert describe(progress) == shown


@pytest.fixture
def shown(monkeypatch):
    """What is written to standard error, on a terminal or not, at some seconds of a build."""

    def at(*moments: float, live: bool) -> str:
        stream = io.StringIO()
        stream.isatty = lambda: live
        monkeypatch.setattr(sys, "stderr", stream)
        line = ProgressLine()
        for second in moments:
            line(Progress(int(second * 10), None, second, int(second * 10)))
        line.close()
        return stream.getvalue()

    return at


@pytest.mark.parametrize("live", [False, True])
def test_a_short_build_says_nothing(live, shown):
    assert shown(0.5, 1.0, 1.99, live=live) == ""


def test_in_a_log_a_line_comes_after_two_seconds_and_then_every_ten(shown):
    assert shown(1.9, 2.0, 2.1, 11.9, 12.0, 12.1, 30, live=False) == (
        "20 rows, 10/s\n120 rows, 10/s\n300 rows, 10/s\n"
    )


def test_on_a_terminal_the_line_is_written_again_and_goes_away(shown):
    assert shown(2.0, 2.1, 2.3, live=True) == ("\r\x1b[K20 rows, 10/s\r\x1b[K23 rows, 10/s\r\x1b[K")
