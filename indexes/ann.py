"""A FAISS index of one segment: made into bytes, read back with every check, and searched."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from indexes.errors import IndexCorrupt
from indexes.graph import Graph, Index, library, mapped_storage, unsound
from indexes.layout import Mask, Vectors

if TYPE_CHECKING:
    import mmap

QUERIES = 256  # queries in one call of FAISS, which no signal interrupts
REFINE = 10  # candidates for each wanted row, where an index scores by codes

_reading = threading.Lock()  # FAISS has one set of limits for the whole process

Candidates: TypeAlias = npt.NDArray[np.int64]


class Ann:
    """An index over the rows of a segment that is only ever read: safe from any thread.

    ``keep`` is memory that the index looks into. While one is being built, ``order`` names the
    row of each vertex, or ``known`` the rows that may be found.
    """

    def __init__(
        self,
        index: Index,
        rows: int,
        *,
        keep: tuple[object, ...] = (),
        order: Candidates | None = None,
        known: Mask | None = None,
        path: Path | None = None,
    ) -> None:
        faiss = library()
        self.rows = rows
        self._index = index
        self._inner = unwrapped(index)
        self._keep = keep
        self._order = order
        self._known = known
        self._path = path
        by_vectors = isinstance(index, faiss.IndexHNSWFlat | faiss.IndexIVFFlat)
        self._refine = 1 if by_vectors else REFINE

    @property
    def graph(self) -> Graph:
        """The FAISS graph, of an index that is one."""
        return self._inner

    def candidates(
        self, queries: Vectors, k: int, *, knob: int, allowed: Mask | None = None
    ) -> Candidates:
        """The rows among which the ``k`` best should be: int64 [n, m], padded with -1.

        ``queries`` are unit float32 rows [n, dim]; ``m`` is k, or ``REFINE`` times k where the
        index scores by codes, and never more than the rows. Score all of a line from the stored
        vectors and keep the best k: neither the order nor the number is final. ``allowed`` [rows]
        says which rows may be found; fewer than k are where they are few, even if more would do.
        ``knob`` is what the certificate says; an index without a knob ignores it. IndexCorrupt
        when FAISS names a row that is not there.
        """
        width = min(k * self._refine, self.rows)
        params, bits = self._parameters(knob, allowed)
        found = np.empty((len(queries), width), np.int64)
        for start in range(0, len(queries), QUERIES):
            part = np.ascontiguousarray(queries[start : start + QUERIES], np.float32)
            found[start : start + QUERIES] = self._index.search(part, width, params=params)[1]
        del bits  # FAISS looks into it until here
        if found.size and not -1 <= found.min() <= found.max() < self.rows:
            raise IndexCorrupt(
                f"{self._path} is damaged: it names row {found.max()} of {self.rows}"
            )
        if self._order is not None:
            found = np.append(self._order, -1)[found]
        return found

    def _parameters(self, knob: int, allowed: Mask | None) -> tuple[Any, Any]:
        """What one search is told; the index itself is never changed."""
        faiss = library()
        if self._known is not None:
            allowed = self._known if allowed is None else self._known & allowed
        elif allowed is not None and self._order is not None:
            allowed = allowed[self._order]
        bits = None if allowed is None else np.packbits(allowed, bitorder="little")
        chosen = None if bits is None else faiss.IDSelectorBitmap(bits)
        if isinstance(self._inner, faiss.IndexIVF):
            params = faiss.SearchParametersIVF(sel=chosen, nprobe=knob)
        elif isinstance(self._inner, faiss.IndexHNSW):
            params = faiss.SearchParametersHNSW(sel=chosen, efSearch=knob)
        else:
            params = faiss.SearchParameters(sel=chosen)
        return params, (bits, chosen)


def unwrapped(index: Index) -> Index:
    """The index behind the transforms of its vectors (PCA, OPQ), where there are any."""
    faiss = library()
    wrapped = isinstance(index, faiss.IndexPreTransform)
    return faiss.downcast_index(index.index) if wrapped else index


def content(index: Index) -> bytes:
    """A FAISS index as bytes, a graph without storage among them."""
    faiss = library()
    alone = isinstance(index, faiss.IndexHNSWFlat) and index.storage is None
    flags = faiss.IO_FLAG_SKIP_STORAGE if alone else 0
    writer = faiss.VectorIOWriter()
    faiss.write_index(index, writer, flags)
    return bytes(faiss.rev_swig_ptr(writer.data.data(), writer.data.size()))


def load(
    knob: str | None, data: "bytes | mmap.mmap", vectors: npt.NDArray[Any], *, path: Path
) -> Ann:
    """The index in ``data``, the content of the file ``path`` of a segment with these vectors.

    ``vectors`` is contiguous [rows, dim], float32 or float16. ``knob`` is the kind's. A graph and
    the vectors it leans on, and what else FAISS can leave in its place, stay in the map; memory
    holds about 12 bytes a row beside them, and of ``small`` its codes. IndexCorrupt when the bytes
    are no FAISS index, or not one of this kind over these rows.
    """
    faiss = library()
    raw = np.frombuffer(data, np.uint8)
    reader = faiss.ZeroCopyIOReader(faiss.swig_ptr(raw), len(raw))
    try:
        with _limits(max(len(raw), 1024)):
            index = faiss.read_index(reader)
    except (RuntimeError, MemoryError) as error:
        said = str(error).strip().splitlines()[-1:] or ["no memory for it"]
        raise _damaged(path, said[0].rpartition("Error: ")[2]) from None
    reason = _misfit(index, knob, *vectors.shape) or (
        f"{len(raw) - reader.rp_} bytes too many" if reader.rp_ != len(raw) else None
    )
    if reason:
        raise _damaged(path, reason)
    keep: tuple[object, ...] = (data, raw)
    if isinstance(index, faiss.IndexHNSWFlat) and not index.storage:
        storage = mapped_storage(vectors)
        index.own_fields = False
        index.storage = storage
        keep = (*keep, vectors, storage)
    return Ann(index, len(vectors), keep=keep, path=path)


def _damaged(path: Path, reason: str) -> IndexCorrupt:
    return IndexCorrupt(f"{path} is no index of its segment: {reason}; build the kind again")


@contextmanager
def _limits(size: int) -> Iterator[None]:
    """Let FAISS believe no number that a file of this size cannot keep."""
    faiss = library()
    names = ("vector_byte_limit", "loop_limit")
    with _reading:
        before = [getattr(faiss, f"get_deserialization_{name}")() for name in names]
        for name in names:
            getattr(faiss, f"set_deserialization_{name}")(size)
        try:
            yield
        finally:
            for name, value in zip(names, before, strict=True):
                getattr(faiss, f"set_deserialization_{name}")(value)


def _misfit(index: Index, knob: str | None, rows: int, dim: int) -> str | None:
    """Why this is no index of this kind over rows [rows, dim]; None where it is one."""
    faiss = library()
    inner = unwrapped(index)
    types = {
        "efSearch": (faiss.IndexHNSW,),
        "nprobe": (faiss.IndexIVF,),
        None: (faiss.IndexScalarQuantizer, faiss.IndexRaBitQ),
    }
    if not isinstance(inner, types[knob]):
        return f"it is a FAISS {type(inner).__name__}"
    if (index.d, index.ntotal, inner.ntotal) != (dim, rows, rows):
        return f"it has {index.ntotal} rows of {index.d} numbers, the segment {rows} of {dim}"
    if {index.metric_type, inner.metric_type} != {faiss.METRIC_INNER_PRODUCT}:
        return "it does not compare by inner product"
    if not (index.is_trained and inner.is_trained):
        return "it is not trained"
    return _misfit_of_graph(index, inner) if knob == "efSearch" else None


def _misfit_of_graph(index: Index, inner: Graph) -> str | None:
    if inner.storage is None:
        alone = isinstance(index, type(inner)) and "Flat" in type(inner).__name__
        return unsound(inner) if alone else "its vectors are missing"
    if inner.storage.metric_type != inner.metric_type:
        return "its vectors compare by another metric"
    return unsound(inner)
