"""Rows of a view as documents and hits."""

import json
from collections.abc import Iterable, Sequence
from typing import Any, TypedDict

import numpy as np

from indexes.errors import IndexCorrupt
from indexes.view import View
from retrieval.documents import Document, Hit
from retrieval.encoding import Vectors
from retrieval.ranking import LOWEST, Ranker, Row
from retrieval.schema import restore

DEEPER = 4  # times as many rows are looked at where those of a few documents fill the first ones


class Finding(TypedDict, total=False):
    """How rows are found: ``min_score`` is the least cosine; ``where`` a filter, a text or a
    pyarrow.compute.Expression; ``exact`` scores every row, whatever the kind of the index;
    ``group``, which is usual, gives of each document that was cut the best passage only; ``mode``
    is how they are ranked, dense, lexical, hybrid or auto: see :class:`~retrieval.ranking.Ranker`;
    ``rerank`` reads the first fifty again, a cross-encoder's name or folder or an object with
    ``score``; ``mmr`` (1 … 0) weighs what is relevant against what is unlike the hits before it.
    """

    min_score: float | None
    where: Any
    exact: bool
    group: bool
    mode: str
    rerank: Any
    mmr: float | None


def found(
    ranker: Ranker,
    questions: Sequence[str] | None,
    vectors: Vectors,
    k: int,
    *,
    min_score: float | None = None,
    group: bool = True,
    **how: Any,
) -> list[list[Hit]]:
    """The hits of each row of float32 [n, dim], best first; see :class:`Finding`. ``questions`` are
    what the vectors were made of, None where that was not words.
    """
    least = LOWEST if min_score is None else min_score
    hits: dict[int, list[Hit]] = {}
    vectors = np.asarray(vectors)
    wanted, depth = list(range(len(vectors))), k
    while True:
        asked = None if questions is None else [questions[query] for query in wanted]
        found = ranker.search(asked, vectors[wanted], depth, least=least, **how)
        short = []
        for query, rows in zip(wanted, found, strict=True):
            hits[query] = ranked(ranker.view, rows, k, group=group)
            if len(hits[query]) < k and len(rows) == depth:
                short.append(query)
        if not short or depth >= len(ranker.view):
            return [hits[query] for query in range(len(vectors))]
        wanted, depth = short, DEEPER * depth


def ranked(view: View, rows: Iterable[Row], k: int, *, group: bool = True) -> list[Hit]:
    """Hits for the first ``k`` of the rows, which are in order; with ``group`` for the first row of
    each of ``k`` documents.
    """
    hits: list[Hit] = []
    seen: set[str] = set()
    for score, position, scores in rows:
        own = document(view, position)
        if group and own.document_id in seen:
            continue
        seen.add(own.document_id)
        rank = len(hits) + 1
        hits.append(
            Hit(
                *(rank, own.id, score, own.text, own.title, own.metadata),
                parent=own.parent,
                start=own.start,
                scores=scores,
            )
        )
        if rank == k:
            break
    return hits


def document(view: View, position: int) -> Document:
    """A row as what was stored; IndexCorrupt where it is no document."""
    payload = view.payload(position)
    try:
        record = json.loads(payload)
        metadata = restore(record["metadata"], view.content.schema)
        parent, start = record.get("parent"), record.get("start")
        found = Document(record["id"], record["text"], record["title"], metadata, parent, start)
        if not all(isinstance(part, str) for part in (found.id, found.text, found.title)):
            raise TypeError("id, text and title must be texts")
        if not isinstance(parent, str | None) or not isinstance(start, int | None):
            raise TypeError("a passage has a text as parent, and starts at a number")
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IndexCorrupt(
            f"{view.folder}: row {position} is not a stored document: {error!r}"
        ) from error
