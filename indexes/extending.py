"""A graph that goes on growing when its segment is merged with those after it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from indexes.ann import Ann, content, unwrapped
from indexes.graph import let_go_of_storage, library, reserve, transplant
from indexes.kinds import Kind, add_rows, kind_of, made, prepare
from indexes.layout import Mask


def can_grow(kind: Kind) -> bool:
    """Whether an index of this kind may be extended; every other is built anew."""
    return kind.factory is not None and kind.factory.removeprefix("HNSW").isdecimal()


def extend(
    name: str,
    before: Ann,
    kept: Mask,
    vectors: npt.NDArray[np.floating[Any]],
    *,
    trial: Callable[[Ann], None],
) -> bytes:
    """The content of the ``.ann`` file of a segment whose first rows are those ``kept`` of the one
    that ``before`` was built for: unit rows [n, dim], float32 or float16.

    Only the rows after them are added. ``trial`` is called once with an index that does not know
    these yet. The same rows give the same bytes.
    """
    faiss = library()
    known = int(kept.sum())
    index = made(kind_of(name), vectors.shape[1], len(vectors), 1)
    graph = unwrapped(index)
    prepare(graph, 0)
    transplant(before.graph, graph, kept)
    reserve(graph, len(vectors))
    add_rows(faiss.downcast_index(graph.storage), vectors, np.arange(known))
    index.ntotal = known
    trial(Ann(index, len(vectors), order=np.arange(known)))
    add_rows(index, vectors, np.arange(known, len(vectors)))
    let_go_of_storage(graph)
    return content(index)
