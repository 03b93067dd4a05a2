"""Questions without labels: a title, a sentence or a few words ask for the document they are of."""

import random
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from retrieval.documents import Document
from retrieval.sentences import sentence_starts

SENTENCE = range(4, 41)  # words of a sentence that asks
RUN = range(4, 17)  # words that ask where a text has no two sentences
UNSPACED = 8  # characters that count as a word where spaces are rare
REMOVED = 0.5  # of the documents that a sentence asks for, the share that loses it
WORD = re.compile(r"\S+")

Span = tuple[int, int]


class KnownItem(NamedTuple):
    """A question, the document that it must find, and that as it would be encoded, ``passage``,
    without what asks.
    """

    question: str
    document: Document
    passage: str


def known_items(document: Document, chance: random.Random) -> Iterator[KnownItem]:
    """The title asks for the text; and a sentence, or some words where there are no two sentences,
    for the whole, from which it is removed half of the time (the inverse cloze task; Lee, Chang &
    Toutanova 2019). None of a document that has no words to spare.
    """
    title, text = document.title.strip(), document.text
    if title and text.strip():
        yield KnownItem(title, document, text)
    spans = _sentences(text) or _some_words(text, chance)
    if spans:
        start, end = chance.choice(spans)
        passage = document.full_text
        if chance.random() < REMOVED:
            passage = f"{title} {text[:start]}{text[end:]}".strip()
        yield KnownItem(text[start:end].strip(), document, passage)


def _sentences(text: str) -> list[Span]:
    """Where the sentences are that may ask; nowhere where all is one."""
    spans = list(pairwise([*sentence_starts(text), len(text)]))
    return [span for span in spans if len(spans) > 1 and _words(text[slice(*span)]) in SENTENCE]


def _words(text: str) -> int:
    return max(len(text.split()), len(text) // UNSPACED)


def _some_words(text: str, chance: random.Random) -> list[Span]:
    """Neighbouring words, at most half of all."""
    words = list(WORD.finditer(text))
    most = min(RUN[-1], len(words) // 2)
    if most < RUN[0]:
        return []
    count = chance.randint(RUN[0], most)
    first = chance.randrange(len(words) - count + 1)
    return [(words[first].start(), words[first + count - 1].end())]
