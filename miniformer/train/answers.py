"""How near a written answer is to a right one: exact match, F1, ROUGE-L."""

import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

ARTICLES = re.compile(r"\b(a|an|the)\b")
PUNCTUATION = str.maketrans("", "", string.punctuation)
WORDS = re.compile(r"[a-z0-9]+")


def normalised(text: str) -> list[str]:
    """The words of an answer as SQuAD compares them (Rajpurkar et al. 2016): lower case, without
    punctuation and articles.
    """
    return ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split()


def exact_match(answer: str, gold: str) -> float:
    """1 when both are the same words, else 0."""
    return float(normalised(answer) == normalised(gold))


def f1(answer: str, gold: str) -> float:
    """Harmonic mean of precision and recall of the words, 0 … 1; two empty answers agree."""
    ours, theirs = normalised(answer), normalised(gold)
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))


def rouge_l(answer: str, gold: str) -> float:
    """F-measure of the longest common subsequence of words (Lin 2004), 0 … 1."""
    ours, theirs = WORDS.findall(answer.lower()), WORDS.findall(gold.lower())
    if not ours or not theirs:
        return 0.0
    row = [0] * (len(theirs) + 1)
    for word in ours:
        before = row
        row = [0]
        for column, other in enumerate(theirs, start=1):
            same = before[column - 1] + 1 if word == other else 0
            row.append(max(same, row[-1], before[column]))
    return 2 * row[-1] / (len(ours) + len(theirs))


ANSWER_METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "f1": f1,
    "rouge_l": rouge_l,
}


def best_of(metric: Callable[[str, str], float], answer: str, golds: Sequence[str]) -> float:
    """The metric against the gold answer that it is nearest to."""
    return max((metric(answer, gold) for gold in golds), default=0.0)
