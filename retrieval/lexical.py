"""BM25 over the postings of an index's segments (Robertson et al. 1994; the variant of Lucene).

score = Σ idf · tf / (tf + k1 · (1 − b + b · length / mean length))
idf = ln(1 + (N − n + ½) / (n + ½))

over the terms of the question, one that is repeated as often as it is. N, n and the mean length are
those of all segments together. Deleted rows count until a compaction takes them away, as in Lucene:
their postings are never rewritten, and what they add to N and n shifts idf by little.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from indexes.errors import IndexCorrupt
from indexes.view import View
from retrieval.analysis import DEFAULT_LANGUAGE, LANGUAGES, terms
from retrieval.postings import Held, Postings, postings
from retrieval.sidecars import LEXICAL, texts_of

K1, B = 1.2, 0.75

Scores = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Lexical:
    """BM25 over the segments of one snapshot; rows count through them. Safe from any thread.

    ``live`` [rows] are the rows that may be found.
    """

    def __init__(self, segments: Sequence[Postings], live: Mask) -> None:
        self._segments, self._live = list(segments), live
        lengths = [segment.lengths for segment in self._segments]
        self._bounds = np.cumsum([0, *map(len, lengths)])
        self._rows = int(self._bounds[-1])
        mean = max(sum(int(each.sum()) for each in lengths) / max(self._rows, 1), 1e-9)
        self._norms = [
            (K1 * (1 - B + B / mean * each.astype(np.float32))).astype(np.float32)
            for each in lengths
        ]

    @classmethod
    def of(cls, view: View) -> "Lexical":
        """That of a view; postings that are missing, or of another language than the index says,
        are made from the documents, in memory. IndexCorrupt where it says no known language.
        """
        language = view.content.sidecars.get(LEXICAL, {}).get("language", DEFAULT_LANGUAGE)
        if language not in LANGUAGES:
            raise IndexCorrupt(
                f"{view.folder}: postings in {language!r}, which is no known language"
            )
        segments, live = [], [np.zeros(0, bool)]
        for data, rows, dead, payload in view.sidecars(LEXICAL):
            held = None if data is None else Postings(data, rows)
            if held is None or held.language != language:
                texts = texts_of(payload(row) for row in range(rows))
                held = Postings(b"".join(postings(texts, language)), rows)
            segments.append(held)
            live.append(np.ones(rows, bool) if dead is None else ~dead)
        return cls(segments, np.concatenate(live))

    def search(
        self, question: str, k: int, allowed: Mask | None = None
    ) -> tuple[Scores, Positions]:
        """The ``k`` best rows that hold a term of the question, best first, equal ones by position:
        scores and positions [m], m ≤ k. ``allowed`` [rows] are the rows that a filter leaves.
        """
        return self.best(self.scores(question), k, allowed)

    def best(self, scores: Scores, k: int, allowed: Mask | None = None) -> tuple[Scores, Positions]:
        """The ``k`` best of all rows by their ``scores``, as :meth:`search` gives them."""
        scores = scores.copy()
        scores[~(self._live if allowed is None else self._live & allowed)] = 0
        places = np.flatnonzero(scores)
        if len(places) > k > 0:
            least = np.partition(scores[places], len(places) - k)[len(places) - k]
            places = places[scores[places] >= least]
        order = np.lexsort((places, -scores[places]))[:k]
        return scores[places[order]], places[order]

    def scores(self, question: str) -> Scores:
        """The BM25 score of every row: float32 [rows], 0 where it holds no term of the question."""
        scores = np.zeros(self._rows, np.float32)
        if not self._segments:
            return scores
        for term, times in Counter(terms(question, self._segments[0].language)).items():
            held = [segment.held(term) for segment in self._segments]
            weight = times * self._idf(held)
            for own, first, norms in zip(held, self._bounds, self._norms, strict=False):
                if own is not None:
                    counts = own.counts.astype(np.float32)
                    scores[first + own.rows] += weight * (counts / (counts + norms[own.rows]))
        return scores

    def _idf(self, held: Sequence[Held | None]) -> np.float32:
        having = sum(len(own.rows) for own in held if own is not None)
        return np.float32(np.log1p((self._rows - having + 0.5) / (having + 0.5)))
