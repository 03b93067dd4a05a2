"""A graph that leans on vectors mapped from a file, and whose vertices are named by row."""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

BLOCK = 65_536  # vertices moved or looked at in one go

Links: TypeAlias = npt.NDArray[np.int32]
Index: TypeAlias = Any  # a faiss.Index
Graph: TypeAlias = Any  # a faiss.IndexHNSW


def library() -> Any:
    """FAISS, imported at its first use; its type stubs leave out most of what is used here."""
    import faiss

    return faiss


def mapped_storage(vectors: npt.NDArray[Any]) -> Index:
    """A FAISS index whose rows are this array's memory: contiguous [n, dim], float32 or float16.

    Nothing is copied: whoever holds the index holds ``vectors`` too. It must never be added to.
    """
    faiss = library()
    if vectors.dtype == np.float16:
        half = faiss.ScalarQuantizer.QT_fp16
        storage = faiss.IndexScalarQuantizer(vectors.shape[1], half, faiss.METRIC_INNER_PRODUCT)
    else:
        storage = faiss.IndexFlatIP(vectors.shape[1])
    plain = faiss.MaybeOwnedVectorUInt8()  # whose owner, nobody, is the view's too
    address = faiss.swig_ptr(vectors.view(np.uint8).reshape(-1))
    storage.codes = plain.create_view(address, vectors.nbytes, plain.owner)
    storage.ntotal = len(vectors)
    return storage


def reserve(graph: Graph, rows: int) -> None:
    """Make room for the vectors at once: growing step by step would hold them twice."""
    faiss = library()
    storage = faiss.downcast_index(graph.storage)
    storage.codes.resize(rows * storage.code_size)
    storage.codes.resize(0)


def let_go_of_storage(graph: Graph) -> None:
    """Free the vectors that a graph was built over: clearing them would keep their memory."""
    storage = graph.storage
    graph.own_fields = False
    graph.storage = None
    # Not by ``thisown = True``: that makes FAISS 1.15.1 forget its own Python types.
    type(storage).__swig_destroy__(storage)


def _offsets(graph: Graph) -> npt.NDArray[np.int64]:
    faiss = library()
    offsets: npt.NDArray[np.int64] = faiss.vector_to_array(graph.hnsw.offsets).astype(np.int64)
    return offsets


def _links(graph: Graph) -> Links:
    """The neighbours of every vertex, one list after another, as a window into the graph."""
    faiss = library()
    neighbors = graph.hnsw.neighbors
    links: Links = faiss.rev_swig_ptr(neighbors.data(), neighbors.size())
    return links


def name_by_row(graph: Graph, order: npt.NDArray[np.int64]) -> None:
    """Turn a graph whose vertex v is row ``order[v]`` into the one whose vertex v is row v.

    What it stores of the vectors goes along, where it still stores any.
    """
    faiss = library()
    hnsw = graph.hnsw
    vertex_of = np.argsort(order)
    row_of = np.append(order, -1).astype(np.int32)  # the last stands for "no neighbour", -1
    offsets, links = _offsets(graph), _links(graph)
    sizes = np.diff(offsets)[vertex_of]
    moved = np.concatenate([[0], np.cumsum(sizes)])
    by_row = np.empty_like(links)
    for start in range(0, len(order), BLOCK):
        part = slice(start, start + BLOCK)
        ends = moved[1:][part]
        shift = offsets[:-1][vertex_of[part]] - moved[:-1][part]
        source = np.repeat(shift, sizes[part]) + np.arange(moved[start], ends[-1])
        by_row[moved[start] : ends[-1]] = row_of[links[source]]
    links[:] = by_row
    levels = faiss.vector_to_array(hnsw.levels)[vertex_of]
    faiss.copy_array_to_vector(levels, hnsw.levels)
    faiss.copy_array_to_vector(moved.astype(np.uint64), hnsw.offsets)
    hnsw.entry_point = int(order[hnsw.entry_point])
    if graph.storage is not None:
        storage = faiss.downcast_index(graph.storage)
        codes = faiss.rev_swig_ptr(storage.codes.data(), storage.codes.size())
        codes[:] = codes.reshape(len(order), -1)[vertex_of].reshape(-1)


def transplant(source: Graph, target: Graph, kept: npt.NDArray[np.bool_]) -> None:
    """Put the vertices of a graph that are ``kept`` [n], one at least, into an empty one with lists
    of the same width, in order; links to the others are left out.
    """
    faiss = library()
    old, new = source.hnsw, target.hnsw
    vertex_of = np.append(np.where(kept, np.cumsum(kept) - 1, -1), -1).astype(np.int32)
    offsets, links = _offsets(source), _links(source)
    levels = faiss.vector_to_array(old.levels)[kept]
    sizes = np.diff(offsets)[kept]
    moved = np.concatenate([[0], np.cumsum(sizes)])
    new.neighbors.resize(int(moved[-1]))
    ours, firsts = _links(target), offsets[:-1][kept]
    for start in range(0, len(levels), BLOCK):
        part = slice(start, start + BLOCK)
        ends = moved[1:][part]
        shift = np.repeat(firsts[part] - moved[:-1][part], sizes[part])
        ours[moved[start] : ends[-1]] = vertex_of[links[shift + np.arange(moved[start], ends[-1])]]
    faiss.copy_array_to_vector(levels, new.levels)
    faiss.copy_array_to_vector(moved.astype(np.uint64), new.offsets)
    new.max_level = int(levels.max()) - 1
    new.entry_point = int(vertex_of[old.entry_point])
    if new.entry_point < 0:
        new.entry_point = int(levels.argmax())
    _close_gaps(target, levels)


def _close_gaps(graph: Graph, levels: npt.NDArray[np.int32]) -> None:
    """Move the links of each list to its front: FAISS reads a list up to the first -1."""
    faiss = library()
    widths = faiss.vector_to_array(graph.hnsw.cum_nneighbor_per_level).astype(np.int64)
    offsets, links = _offsets(graph), _links(graph)
    for level in range(graph.hnsw.max_level + 1):
        lists = offsets[:-1][levels > level]
        for start in range(0, len(lists), BLOCK):
            columns = np.arange(widths[level], widths[level + 1])
            places = lists[start : start + BLOCK, None] + columns
            order = np.argsort(links[places] < 0, axis=1, kind="stable")
            links[places] = np.take_along_axis(links[places], order, axis=1)


def unsound(graph: Graph) -> str | None:
    """What is wrong with a graph that was read from a file, as far as FAISS does not check it.

    FAISS checks that every link names a vertex; a link to one that does not reach up to the
    link's level would make a search read outside of the graph.
    """
    faiss = library()
    hnsw = graph.hnsw
    levels = faiss.vector_to_array(hnsw.levels)
    widths = faiss.vector_to_array(hnsw.cum_nneighbor_per_level).astype(np.int64)
    if not 0 <= hnsw.entry_point < len(levels) or levels[hnsw.entry_point] != hnsw.max_level + 1:
        return "its entry point is not at the top"
    if levels.min() < 1 or widths[0] != 0 or (np.diff(widths) < 1).any():
        return "its levels have no width"
    offsets, links = _offsets(graph), _links(graph)
    for level in range(1, hnsw.max_level + 1):
        lists = offsets[:-1][levels > level]
        linked = links[lists[:, None] + np.arange(widths[level], widths[level + 1])]
        if (levels[linked[linked >= 0]] <= level).any():
            return f"a link of level {level} leads below it"
    return None
