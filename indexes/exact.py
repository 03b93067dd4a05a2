"""Exact search by inner product over mapped rows, in blocks, with numpy alone."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from indexes.layout import Vectors

BLOCK = 16_384  # rows scored at once: bounds the memory and the time between signals
QUERIES = 64  # queries scored at once
SLACK = 16  # more candidates than asked for, since float32 sums may swap near ties

Scores = npt.NDArray[np.float32]
Positions = npt.NDArray[np.int64]
Dead = npt.NDArray[np.bool_] | None


def top_k(
    parts: Sequence[tuple[Vectors, Dead]], queries: Vectors, k: int
) -> tuple[Scores, Positions]:
    """The ``k`` best live rows for each query, best first; equal scores by lower position.

    ``parts`` are blocks of unit rows [n, dim] with a mask of their dead rows; positions count
    through them in order. ``k`` must not exceed the live rows. Scores are inner products summed
    in float64, so that they do not depend on what else was searched with them.
    """
    scores = np.empty((len(queries), k), np.float32)
    positions = np.empty((len(queries), k), np.int64)
    if k == 0:
        return scores, positions
    for start in range(0, len(queries), QUERIES):
        group = queries[start : start + QUERIES]
        for offset, candidates in enumerate(_candidates(parts, group, k + SLACK)):
            at = start + offset
            scores[at], positions[at] = _ranked(parts, queries[at], candidates, k)
    return scores, positions


def _candidates(
    parts: Sequence[tuple[Vectors, Dead]], queries: Vectors, wanted: int
) -> list[Positions]:
    """For each query the positions of at least the best rows, by float32 products."""
    best = np.empty((len(queries), 0), np.float32)
    where = np.empty((len(queries), 0), np.int64)
    first = 0
    for vectors, dead in parts:
        for start in range(0, len(vectors), BLOCK):
            block = queries @ vectors[start : start + BLOCK].T  # [queries, block]
            if dead is not None:
                block[:, dead[start : start + BLOCK]] = -np.inf
            here = np.arange(first + start, first + start + block.shape[1])
            best = np.concatenate([best, block], axis=1)
            where = np.concatenate([where, np.broadcast_to(here, block.shape)], axis=1)
            if best.shape[1] > wanted:
                kept = np.argpartition(-best, wanted - 1, axis=1)[:, :wanted]
                best = np.take_along_axis(best, kept, axis=1)
                where = np.take_along_axis(where, kept, axis=1)
        first += len(vectors)
    return [row[score > -np.inf] for row, score in zip(where, best, strict=True)]


def _ranked(
    parts: Sequence[tuple[Vectors, Dead]], query: Vectors, candidates: Positions, k: int
) -> tuple[Scores, Positions]:
    """Score the candidates again in float64 and order them."""
    candidates = np.sort(candidates)
    rows = gather(parts, candidates).astype(np.float64)
    # A sum over each row by itself: a matrix product would round by the shape of the batch.
    scores = (rows * query.astype(np.float64)).sum(axis=1).astype(np.float32).clip(-1, 1)
    order = np.argsort(-scores, kind="stable")[:k]
    return scores[order], candidates[order]


def gather(parts: Sequence[tuple[Vectors, Dead]], positions: Positions) -> Vectors:
    """The rows at ascending positions, from whichever part they lie in."""
    bounds = np.cumsum([0, *(len(vectors) for vectors, _ in parts)])
    cuts = np.searchsorted(positions, bounds)
    pieces = [
        vectors[positions[low:high] - first]
        for (vectors, _), first, low, high in zip(parts, bounds, cuts, cuts[1:], strict=False)
    ]
    return np.concatenate(pieces)
