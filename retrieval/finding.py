"""From vectors to hits: ranked, and where that is wanted read again or made less alike."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from indexes.view import View
from retrieval.documents import Hit
from retrieval.encoding import Vectors
from retrieval.errors import QueryError
from retrieval.hits import found
from retrieval.ranking import Ranker
from retrieval.reranking import DEPTH, Reranker, diversify, open_reranker, rerank_all


def find(
    ranker: Ranker,
    questions: Sequence[str] | None,
    vectors: Vectors,
    k: int,
    *,
    rerank: "str | Path | Reranker | None" = None,
    mmr: float | None = None,
    **how: Any,
) -> list[list[Hit]]:
    """The hits of each row of float32 [n, dim]; see :class:`~retrieval.hits.Finding`. More than
    ``k`` are found where they are put into another order. QueryError for ``rerank`` without a
    question in words, or ``mmr`` outside of 0 … 1.
    """
    if rerank is None and mmr is None:
        return found(ranker, questions, vectors, k, **how)
    if mmr is not None and not 0 <= mmr <= 1:
        raise QueryError(f"mmr must be in 0 … 1 (1: relevance only), got {mmr}")
    hits = found(ranker, questions, vectors, max(k, DEPTH), **how)
    if rerank is not None:
        if questions is None:
            raise QueryError("rerank needs a question in words")
        reader = _opened(str(rerank)) if isinstance(rerank, str | Path) else rerank
        hits = rerank_all(hits, questions, reader, k if mmr is None else None)
    if mmr is not None:
        hits = [diversify(each, _vectors(ranker.view, each), mmr, k) for each in hits]
    return hits


@lru_cache(2)
def _opened(name: str) -> Reranker:
    return open_reranker(name)


def _vectors(view: View, hits: Sequence[Hit]) -> Vectors:
    """The stored vector of each hit."""
    places = np.array([view.find(hit.id) for hit in hits], np.int64)
    order = np.argsort(places)
    vectors = np.empty((len(hits), view.content.dim), np.float32)
    vectors[order] = view.vectors(places[order])
    return vectors
