"""The ways to rank the rows of a view: by cosine, by BM25, or by both."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from indexes.approximate import scored
from indexes.view import View
from retrieval.encoding import Vectors
from retrieval.errors import QueryError
from retrieval.lexical import Lexical
from retrieval.sidecars import LEXICAL

MODES = ("auto", "dense", "lexical", "hybrid")
CANDIDATES = 100  # rows of each ranking that are fused, at least
DENSE = 0.6  # the weight of the cosine in a fusion, BM25 has the rest; see benchmarks/RESULTS.md
LEAST_SPREAD = 0.05  # of cosines: among a few rows that are all alike they tell nothing
LOWEST = -2.0  # lower than any cosine
AT_ONCE = 4_096  # rows whose cosines are computed together
SAMPLE = 2_048  # rows that tell how the cosines to a question are spread


class Row(NamedTuple):
    """A row that was found: its cosine, its position, and the other scores that it has."""

    score: float
    position: int
    scores: Mapping[str, float]


class Ranker:
    """Ranks the rows of one view. Safe from any thread."""

    def __init__(self, view: View) -> None:
        self.view = view
        self._lexical: Lexical | None = None
        self._sample: Vectors | None = None
        self._loading = threading.Lock()

    def search(
        self,
        questions: Sequence[str] | None,
        vectors: Vectors,
        depth: int,
        *,
        where: Any = None,
        exact: bool = False,
        mode: str = "auto",
        least: float = LOWEST,
    ) -> list[list[Row]]:
        """The ``depth`` best rows for each question, best first; fewer only where no others have a
        cosine of ``least`` or more. ``auto`` is hybrid where the index has postings and there are
        questions, else dense. QueryError for a mode that cannot be.
        """
        chosen = self._mode(mode, questions)
        if chosen == "dense" or questions is None or not len(self.view):
            found = self.view.search(vectors, depth, where=where, exact=exact)
            lines = [_plain(*line) for line in zip(*found, strict=True)]
            return [[row for row in line if row.score >= least] for line in lines]
        self.loaded()
        allowed = None if where is None else self.view.mask(where)
        if chosen == "lexical":
            return [
                list(islice(self._worded(question, vector, depth, allowed, least), depth))
                for question, vector in zip(questions, vectors, strict=True)
            ]
        # Rows of a high enough cosine begin the ranking by cosine: where fewer than ``depth`` are
        # among its first, there are no others.
        deep = max(depth, CANDIDATES)
        near = self.view.search(vectors, deep, where=where, exact=exact)[1]
        return [
            self._fused(question, vector, places, deep, allowed, least)[:depth]
            for question, vector, places in zip(questions, vectors, near, strict=True)
        ]

    def _mode(self, mode: str, questions: Sequence[str] | None) -> str:
        if mode not in MODES:
            raise QueryError(f"mode must be one of {', '.join(MODES)}, got {mode!r}")
        if mode in ("lexical", "hybrid"):
            if LEXICAL not in self.view.content.sidecars:
                raise QueryError(
                    f"{self.view.folder} holds no postings for mode {mode}; build it with --lexical"
                )
            if questions is None:
                raise QueryError(f"mode {mode} needs a question in words")
        if mode != "auto":
            return mode
        return "hybrid" if LEXICAL in self.view.content.sidecars and questions else "dense"

    def loaded(self) -> Lexical:
        """BM25 over the view's postings, opened once."""
        with self._loading:
            if self._lexical is None:
                self._lexical = Lexical.of(self.view)
            return self._lexical

    def _worded(
        self, question: str, vector: Vectors, depth: int, allowed: Any, least: float
    ) -> Iterator[Row]:
        """Rows by BM25, those of a lower cosine than ``least`` left out."""
        k = depth if least <= LOWEST else len(self.view)
        scores, places = self.loaded().search(question, k, allowed)
        for first in range(0, len(places), AT_ONCE):
            block = slice(first, first + AT_ONCE)
            rows = self._rows(vector, places[block], {"lexical": scores[block]})
            yield from (row for row in rows if row.score >= least)

    def _fused(
        self, question: str, vector: Vectors, near: Any, depth: int, allowed: Any, least: float
    ) -> list[Row]:
        """The rows that either ranking brings, by the sum of their two scores. Each is measured in
        standard deviations of that score over the collection, so that neither outweighs the other
        where it tells less.
        """
        lexical = self.loaded()
        every = lexical.scores(question)
        worded = lexical.best(every, depth, allowed)[1]
        places = np.union1d(near[near >= 0], worded)
        rows = self._rows(vector, places, {"lexical": every[places]})
        cosines = np.array([row.score for row in rows])
        spread = self._sampled() @ vector
        words = every.std() or 1.0
        sums = DENSE * (cosines - spread.mean()) / max(spread.std(), LEAST_SPREAD)
        sums += (1 - DENSE) * (every[places] - every.mean()) / words
        order = np.lexsort((places, -sums))
        return [
            rows[at]._replace(scores={**rows[at].scores, "fused": float(sums[at])})
            for at in order
            if rows[at].score >= least
        ]

    def _sampled(self) -> Vectors:
        with self._loading:
            if self._sample is None:
                positions = self.view.positions()
                step = max(1, len(positions) // SAMPLE)
                self._sample = self.view.vectors(positions[::step])
            return self._sample

    def _rows(self, vector: Vectors, places: Any, scores: Mapping[str, Any]) -> list[Row]:
        """Rows with their cosines, computed as a search computes them."""
        order = np.argsort(places)
        stored = self.view.vectors(places[order])
        unit = np.asarray(vector, np.float32)
        cosines = np.empty(len(places), np.float32)
        cosines[order] = scored(stored, unit[None], np.arange(len(places))[None])[0]
        named = [
            dict(zip(scores, values, strict=True)) for values in zip(*scores.values(), strict=True)
        ]
        return [
            Row(float(cosine), int(place), {name: float(value) for name, value in each.items()})
            for cosine, place, each in zip(cosines, places, named, strict=True)
        ]


def _plain(scores: Any, positions: Any) -> list[Row]:
    return [
        Row(score, place, {})
        for score, place in zip(scores.tolist(), positions.tolist(), strict=True)
    ]
