"""A text and its tokens to spans of characters: windows and sentences, cut where it hurts least."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from retrieval.sentences import sentence_starts

Span = tuple[int, int]
Offsets = Callable[[str], list[Span]]
BLOCK = 50_000  # characters of a text that are tokenized at once
SPACES = " \t\n\r"  # what every tokenizer takes for an end of a word
SHORT = 8  # tokens: a shorter sentence is joined to a neighbour
# How good a place is to cut: within a token (never), within a word, between words, sentences.
NEVER, WORD, SPACE, SENTENCE = range(-1, 3)


class TokenizedText:
    """A text with the places of its tokens. Passages of it are spans of characters that begin at
    the start of a token and end where another starts; what has no token goes with what is before.
    """

    def __init__(self, text: str, offsets: Offsets) -> None:
        self.text = text
        self._offsets = offsets
        spans = [span for block in _blocks(text) for span in _moved(offsets, text, block)]
        self._starts = [start for start, _ in spans]
        self._ends = [end for _, end in spans]

    def __len__(self) -> int:
        """How many tokens there are."""
        return len(self._starts)

    def span(self, first: int, last: int) -> Span:
        """The characters of the tokens ``first`` … ``last`` - 1, without white space around."""
        start = self._starts[first] if first else 0
        end = self._starts[last] if last < len(self) else len(self.text)
        return self._stripped(start, end)

    def _stripped(self, start: int, end: int) -> Span:
        part = self.text[start:end]
        return start + len(part) - len(part.lstrip()), end - len(part) + len(part.rstrip())

    def sentences(self) -> list[int]:
        """The tokens at which sentences begin, 0 first, and behind them the number of tokens."""
        return [0, *np.flatnonzero(self._places == SENTENCE).tolist(), len(self)]

    @cached_property
    def _places(self) -> npt.NDArray[np.int8]:
        """How good it is to cut before each token: int8 [n + 1]."""
        starts = np.array(self._starts, np.int64)
        places = np.full(len(self) + 1, NEVER, np.int8)
        reached = np.maximum.accumulate(np.array(self._ends, np.int64))
        places[1:-1][starts[1:] >= reached[:-1]] = WORD
        words = np.flatnonzero(places == WORD).tolist()
        spaced = [at for at in words if self.text[self._starts[at] - 1].isspace()]
        places[spaced] = SPACE
        borders = [bisect_left(self._starts, start) for start in sentence_starts(self.text)[1:]]
        borders = [at for at in borders if places[at] > NEVER]
        places[borders] = SENTENCE
        return places

    def end_of_window(self, first: int, size: int) -> int:
        """The token before which a window of at most ``size`` tokens ends: the best place in its
        second half, the latest of those; farther back, or on, where there is none at all.
        """
        ranges = ((first + size // 2 + 1, first + size + 1), (first + 1, first + size + 1))
        for low, behind in ranges:
            part = self._places[low:behind]
            if len(part) and part.max() > NEVER:
                return low + int(np.flatnonzero(part == part.max())[-1])
        further = np.flatnonzero(self._places[first + 1 :] > NEVER)
        return first + 1 + int(further[0]) if len(further) else len(self)

    def start_of_window(self, low: int, end: int) -> int:
        """The token in ``low`` … ``end`` at which the next window begins: the best place, the
        earliest of those.
        """
        part = self._places[low:end]
        if not len(part) or part.max() == NEVER:
            return end
        return low + int(np.argmax(part))

    def within(self, span: Span, most: int) -> Iterator[Span]:
        """The span, in parts where it would be more than ``most`` tokens on its own: a word that
        is cut has other tokens than the whole.
        """
        start, end = span
        first, last = bisect_left(self._starts, start), bisect_left(self._starts, end)
        fits = last - first <= most and self._stands_alone(span)
        if fits or end - start <= 1 or len(self._offsets(self.text[start:end])) <= most:
            if start < end:
                yield span
            return
        middle = self._starts[(first + last) // 2] if last - first > 1 else start
        if not start < middle < end:
            middle = (start + end) // 2
        for part in ((start, middle), (middle, end)):
            yield from self.within(self._stripped(*part), most)

    def _stands_alone(self, span: Span) -> bool:
        """Whether both borders are between words for every tokenizer."""
        start, end = span
        before, after = self.text[max(0, start - 1) : start], self.text[end : end + 1]
        return before in SPACES and after in SPACES  # nothing is in it, too


def windows(tokens: TokenizedText, size: int, overlap: int) -> Iterator[Span]:
    """Spans of at most ``size`` tokens that end with a sentence where one ends in their second
    half, else with a word; each begins up to ``overlap`` tokens before the end of the one before.
    """
    yield from _windows_between(tokens, 0, len(tokens), size, overlap)


def _windows_between(
    tokens: TokenizedText, first: int, last: int, size: int, overlap: int
) -> Iterator[Span]:
    overlap = min(overlap, size // 2)
    while last - first > size:
        end = min(last, tokens.end_of_window(first, size))
        yield tokens.span(first, end)
        if end == last:
            return
        first = tokens.start_of_window(max(first + 1, end - overlap), end)
    yield tokens.span(first, last)


def sentences(tokens: TokenizedText, size: int, overlap: int) -> Iterator[Span]:
    """A span for each sentence, short ones with a neighbour; :func:`windows` of a longer one."""
    _, *borders = tokens.sentences()
    kept = [0]
    for border, following in pairwise(borders):
        shorter = min(border - kept[-1], following - border)
        if shorter >= SHORT or following - kept[-1] > size:
            kept.append(border)
    for first, last in zip(kept, [*kept[1:], len(tokens)], strict=True):
        yield from _windows_between(tokens, first, last, size, overlap)


def _blocks(text: str) -> Iterator[Span]:
    """The text in parts that end between words, where there is white space in reach."""
    start = 0
    while start < len(text):
        end = start + BLOCK
        if end < len(text):
            space = max(text.rfind(space, start + BLOCK // 2, end) for space in SPACES)
            end = space + 1 if space >= 0 else end
        yield start, min(end, len(text))
        start = end


def _moved(offsets: Offsets, text: str, block: Span) -> list[Span]:
    """The tokens of a part of the text, counted in the whole of it."""
    first, last = block
    return [(first + start, first + end) for start, end in offsets(text[first:last])]
