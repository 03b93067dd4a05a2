"""Rows of a view as documents and hits."""

import json
from typing import Any, TypedDict

from indexes.errors import IndexCorrupt
from indexes.view import View
from retrieval.documents import Document, Hit
from retrieval.encoding import Vectors
from retrieval.schema import restore


class Finding(TypedDict, total=False):
    """How rows are found: ``min_score`` is the least cosine; ``where`` a filter, a text or a
    pyarrow.compute.Expression; ``exact`` scores every row, whatever the kind of the index.
    """

    min_score: float | None
    where: Any
    exact: bool


def found(
    view: View,
    vectors: Vectors,
    k: int,
    *,
    min_score: float | None = None,
    where: Any = None,
    exact: bool = False,
) -> list[list[Hit]]:
    """The hits of each row of float32 [n, dim], nearest first; see :class:`Finding`."""
    scores, positions = view.search(vectors, k, where=where, exact=exact)
    least = -2.0 if min_score is None else min_score
    return [
        [
            hit(view, rank, position, score)
            for rank, (score, position) in enumerate(zip(row, places, strict=True), start=1)
            if score >= least
        ]
        for row, places in zip(scores.tolist(), positions.tolist(), strict=True)
    ]


def hit(view: View, rank: int, position: int, score: float) -> Hit:
    """A row as what was found."""
    own = document(view, position)
    return Hit(rank, own.id, score, own.text, own.title, own.metadata)


def document(view: View, position: int) -> Document:
    """A row as what was stored; IndexCorrupt where it is no document."""
    payload = view.payload(position)
    try:
        record = json.loads(payload)
        metadata = restore(record["metadata"], view.content.schema)
        found = Document(record["id"], record["text"], record["title"], metadata)
        if not all(isinstance(part, str) for part in (found.id, found.text, found.title)):
            raise TypeError("id, text and title must be texts")
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IndexCorrupt(
            f"{view.folder}: row {position} is not a stored document: {error!r}"
        ) from error
