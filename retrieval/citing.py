"""Which words of an answer a passage has, and where."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

from retrieval.documents import Citation, Hit

# Scripts that put no space between words: each of their characters counts as one.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")
ENOUGH = 0.5  # of the answer's words in one run: a passage that has them supports it


def cite(answer: str, hits: Sequence[Hit]) -> tuple[list[Citation], float]:
    """The passages that support an answer, the best first, each with the longest run of words that
    it shares with it; and the share of the answer's words in the longest of all runs, 0 … 1.
    """
    wanted = [match.group().casefold() for match in WORD.finditer(answer)]
    if not wanted:
        return [], 0.0
    found = []
    for hit in hits:
        words = list(WORD.finditer(hit.text))
        matcher = SequenceMatcher(None, wanted, [w.group().casefold() for w in words], False)
        _, place, count = matcher.find_longest_match()
        if count:
            start, end = words[place].start(), words[place + count - 1].end()
            found.append((count, Citation(hit.id, start, end, hit.text[start:end])))
    found.sort(key=lambda each: -each[0])
    best = found[0][0] / len(wanted) if found else 0.0
    return [each for count, each in found if count / len(wanted) >= ENOUGH], best
