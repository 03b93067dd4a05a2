"""Exact search by inner product over mapped rows, in blocks, with numpy alone."""

import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from indexes.layout import Mask, Vectors

BLOCK = 16_384  # rows scored at once: bounds the memory and the time between signals
QUERIES = 64  # queries scored at once
# Of our own, for one query, which reads more than it computes: more would wait for the memory.
THREADS = min(4, os.cpu_count() or 1)
# Whose threads spin on for milliseconds after encoding a query. The matrix library's, which get an
# even share of the rows each and spin too, take four times as long beside them.
SPINNING = "torch"
MARGIN = 1e-5  # more than a float32 inner product of unit vectors can be off

Scores = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Parts = Sequence[tuple[Vectors, Mask | None]]


class Block(NamedTuple):
    """Some rows of a part: which of them are dead, and the position of the first."""

    rows: Vectors
    dead: Mask | None
    first: int


def top_k(parts: Parts, queries: Vectors, k: int) -> tuple[Scores, Positions]:
    """The ``k`` best live rows for each query, best first; equal scores by lower position.

    ``parts`` are blocks of unit rows [n, dim] with a mask of their dead rows; positions count
    through them in order. ``k`` must not exceed the live rows. Scores are inner products summed
    in float64, so that they do not depend on what else was searched with them. A damaged row,
    whose product is not finite, comes first with the score inf: the caller can see it.
    """
    scores = np.empty((len(queries), k), np.float32)
    positions = np.empty((len(queries), k), np.int64)
    if k == 0:
        return scores, positions
    if len(queries) == 1 and SPINNING in sys.modules:
        found = [_candidates_of_one(parts, queries[0], k)]
    else:
        found = _candidates(parts, queries, k)
    with np.errstate(invalid="ignore", over="ignore"):  # of damaged rows; the score tells
        for at, candidates in enumerate(found):
            scores[at], positions[at] = _ranked(parts, queries[at], candidates, k)
    return scores, positions


def _candidates(parts: Parts, queries: Vectors, k: int) -> list[Positions]:
    """For each query every position that may be among the best, by float32 products.

    A block is read once for all queries, for it may have to come from the disk.
    """
    kept = [_Kept(k) for _ in queries]
    with np.errstate(invalid="ignore", over="ignore"):
        for block in _blocks(parts):
            rows = np.asarray(block.rows, np.float32)
            for low in range(0, len(queries), QUERIES):
                products = _marked(queries[low : low + QUERIES] @ rows.T, block.dead)
                for own, scores in zip(kept[low : low + QUERIES], products, strict=True):
                    own.take(scores, block.first)
    return [own.positions for own in kept]


def _candidates_of_one(parts: Parts, query: Vectors, k: int) -> Positions:
    """The same for one query, in threads of our own that take block after block."""
    from concurrent.futures import ThreadPoolExecutor  # not for a question from the shell

    def score(block: Block) -> Scores:
        with np.errstate(invalid="ignore", over="ignore"):
            products = np.einsum("nd,d->n", np.asarray(block.rows, np.float32), query)
            return _marked(products, block.dead)

    kept, blocks = _Kept(k), list(_blocks(parts))
    threads = ThreadPoolExecutor(THREADS)
    try:
        run = threads.map if len(blocks) > 1 else map
        for block, scores in zip(blocks, run(score, blocks), strict=True):
            kept.take(scores, block.first)
    finally:
        threads.shutdown(cancel_futures=True)
    return kept.positions


def _blocks(parts: Parts) -> Iterator[Block]:
    first = 0
    for vectors, dead in parts:
        for start in range(0, len(vectors), BLOCK):
            end = start + BLOCK
            gone = None if dead is None else dead[start:end]
            yield Block(vectors[start:end], gone, first + start)
        first += len(vectors)


def _marked(products: Scores, dead: Mask | None) -> Scores:
    """Inner products [..., rows] with inf for damaged rows and -inf for dead ones."""
    if not np.isfinite(products.sum()):
        products[~np.isfinite(products)] = np.inf
    if dead is not None:
        products[..., dead] = -np.inf
    return products


class _Kept:
    """The positions whose score comes within ``MARGIN`` of the k-th best so far."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._floor = -np.float32(np.finfo(np.float32).max)  # above -inf, the score of a dead row
        self._scores = np.empty(0, np.float32)
        self.positions: Positions = np.empty(0, np.int64)

    def take(self, scores: Scores, first: int) -> None:
        """Look through the scores of consecutive positions."""
        here = np.flatnonzero(scores >= self._floor)
        self._scores = np.concatenate([self._scores, scores[here]])
        self.positions = np.concatenate([self.positions, first + here])
        if len(here) and len(self._scores) > self._k:
            at = len(self._scores) - self._k
            self._floor = np.partition(self._scores, at)[at] - np.float32(MARGIN)
            near = self._scores >= self._floor
            self._scores, self.positions = self._scores[near], self.positions[near]


def _ranked(
    parts: Parts, query: Vectors, candidates: Positions, k: int
) -> tuple[Scores, Positions]:
    """Score the candidates, which ascend, again in float64 and order them."""
    exact = query.astype(np.float64)
    scores = np.empty(len(candidates), np.float32)
    for start in range(0, len(candidates), BLOCK):
        part = slice(start, start + BLOCK)
        rows = gather(parts, candidates[part]).astype(np.float64)
        # A sum over each row by itself: a matrix product would round by the shape of the batch.
        scores[part] = (rows * exact).sum(axis=1)
    scores = np.where(np.isfinite(scores), scores.clip(-1, 1), np.float32(np.inf))
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], candidates[order]


def gather(parts: Parts, positions: Positions) -> Vectors:
    """The rows at ascending positions, from whichever part they lie in."""
    bounds = np.cumsum([0, *(len(vectors) for vectors, _ in parts)])
    cuts = np.searchsorted(positions, bounds)
    pieces = [
        vectors[positions[low:high] - first]
        for (vectors, _), first, low, high in zip(parts, bounds, cuts, cuts[1:], strict=False)
    ]
    return np.concatenate(pieces)
