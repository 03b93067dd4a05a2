"""The part of a text that says most of a question."""

from collections import Counter
from typing import NamedTuple

from retrieval.citing import WORD

Span = tuple[int, int]


class Excerpt(NamedTuple):
    """A text, and the characters in it that are words of the question."""

    text: str
    marked: list[Span]


def excerpt(line: str, question: str, length: int) -> Excerpt:
    """At most ``length`` characters of a line, cut with an ellipsis: those with most words of the
    question, of which one counts the more the fewer times the line has it; else the beginning.
    """
    wanted = {match.group().casefold() for match in WORD.finditer(question)}
    words = [match for match in WORD.finditer(line) if match.group().casefold() in wanted]
    spans = [match.span() for match in words]
    if len(line) <= length:
        return Excerpt(line, spans)
    first, last = _densest(spans, [match.group().casefold() for match in words], length - 2)
    start, end = _around(line, first, last, length)
    left, right = "…" * (start > 0), "…" * (end < len(line))
    part = line[start:end].rstrip()
    moved = len(left) - start
    marked = [(a + moved, b + moved) for a, b in spans if start <= a and b <= start + len(part)]
    return Excerpt(f"{left}{part}{right}", marked)


def _densest(spans: list[Span], words: list[str], length: int) -> Span:
    """Where the best run of words begins and ends that is no longer than ``length``."""
    counts, within = Counter(words), Counter[str]()
    best, score, at, chosen = 0.0, 0.0, 0, (0, 0)
    for (_, end), word in zip(spans, words, strict=True):
        score += 0 if within[word] else 1 / counts[word]
        within[word] += 1
        while end - spans[at][0] > length and spans[at][1] < end:
            within[words[at]] -= 1
            score -= 0 if within[words[at]] else 1 / counts[words[at]]
            at += 1
        if score > best + 1e-9:
            best, chosen = score, (spans[at][0], end)
    return chosen


def _around(line: str, first: int, last: int, length: int) -> Span:
    """The characters to show: the beginning where it reaches so far, else what is around."""
    if last < length:
        start = 0
    else:
        before = max(0, length - 2 - (last - first)) // 2
        start = max(0, min(first - before, len(line) - length + 1))
        space = line.find(" ", max(0, start - 1), first)
        start = start if space < 0 else space + 1
    end = start + length - 1 - (start > 0)
    return (start, end) if end < len(line) else (start, len(line))
