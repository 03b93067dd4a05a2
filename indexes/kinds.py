"""The kinds of index that may stand beside a segment's vectors, and how one is built.

A kind is a name in ``KINDS`` or a FAISS factory string. Its file, ``.ann``, is derived: it proposes
rows, which are scored again from the stored vectors, and it may be dropped and built again. One
number, the kind's knob, trades recall for speed when searching; ``certificate`` sets it.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from indexes.ann import Ann, content, unwrapped
from indexes.errors import KindError
from indexes.graph import Graph, Index, let_go_of_storage, library, name_by_row, reserve
from indexes.layout import Vectors

EXACT_BELOW = 20_000  # rows of a segment that are searched exactly whatever the kind
FLAT_BELOW = 50_000  # rows of a whole index up to which "auto" is flat
TRAIN_ROWS = 65_536  # rows of the whole corpus that a kind is trained on, at most
BUILD_WIDTH = 100  # efConstruction: how many vertices a new one is compared with
BLOCK = 16_384  # rows added at once: bounds what is copied and the time between signals
LARGEST = 2**20  # number in a factory string: more would fill the memory before it is refused
KNOBS = {
    "efSearch": (
        *(10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128),
        *(160, 192, 256, 320, 384, 512, 768, 1024),
    ),
    "nprobe": (
        *(1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256),
        *(384, 512, 768, 1024, 1536, 2048),
    ),
}


@dataclass(frozen=True)
class Kind:
    """One kind: its FAISS factory string, None where there is nothing to build.

    ``{lists}`` and ``{parts}`` in the string are filled in by the rows and the width.
    """

    name: str
    factory: str | None
    what: str

    @property
    def knob(self) -> str | None:
        """``"nprobe"``, ``"efSearch"``, or None where nothing is to be set."""
        if re.search(r"(^|,)IVF", self.factory or ""):
            return "nprobe"
        return "efSearch" if re.search(r"(^|,)HNSW", self.factory or "") else None

    @property
    def knobs(self) -> tuple[int, ...]:
        """The settings worth trying, the fastest first; ``(0,)`` without a knob."""
        return KNOBS[self.knob] if self.knob else (0,)


# The codes of small take 4 bits for every 4 numbers; RaBitQ needs as many bytes and is slower.
KINDS = {
    kind.name: kind
    for kind in (
        Kind("flat", None, "exact: every row is scored"),
        Kind("hnsw", "HNSW32", "a graph over the stored vectors: the fastest"),
        Kind("small", "IVF{lists},PQ{parts}x4fs", "codes of 1/20 of the vectors, then rescored"),
    )
}


def choose(name: str, rows: int) -> str:
    """The kind that ``"auto"`` means for an index of so many rows; any other name is itself."""
    if name != "auto":
        return name
    return "flat" if rows < FLAT_BELOW else "hnsw"


def kind_of(name: str, dim: int | None = None) -> Kind:
    """The kind of this name: one of ``KINDS``, or a FAISS factory string.

    With ``dim``, the width of the vectors, the string is tried out as well, which a string that
    was read from a file must not be. KindError when FAISS does not know it, or knows no way to
    search it under a filter by inner product.
    """
    if name in KINDS:
        return KINDS[name]
    numbers = [int(digits) for digits in re.findall(r"[0-9]{1,9}", name)]
    if not name or not name.isprintable() or max(numbers, default=0) > LARGEST:
        raise _unknown(name, f"it needs readable text, and numbers up to {LARGEST}")
    kind = Kind(name, name, "a FAISS factory string")
    if dim is not None:
        made(kind, dim, 1, 1)
    return kind


def check(name: str, dim: int, recall: float) -> None:
    """KindError unless vectors of ``dim`` numbers can be indexed so, with a recall in (0, 1]."""
    if not 0 < recall <= 1:
        raise KindError(f"a recall target must be above 0 and at most 1, got {recall}")
    if name != "auto":
        kind_of(name, dim)


def _unknown(name: str, reason: str) -> KindError:
    return KindError(
        f"unknown kind of index {name!r}: {reason}; known are auto, {', '.join(KINDS)}, and FAISS "
        'factory strings such as "IVF256,SQ8", "HNSW32" or "OPQ16,IVF64,PQ16"'
    )


def made(kind: Kind, dim: int, rows: int, train: int) -> Index:
    """An empty FAISS index of this kind; KindError as :func:`kind_of`."""
    faiss = library()
    lists = min(2 ** round(np.log2(2 * rows**0.5)), max(train // 39, 1))  # FAISS asks for 39 each
    part = next(size for size in range(min(4, dim), dim + 1) if dim % size == 0)
    text = (kind.factory or "").replace("{lists}", str(lists)).replace("{parts}", str(dim // part))
    try:
        index = faiss.index_factory(dim, text, faiss.METRIC_INNER_PRODUCT)
    except (RuntimeError, MemoryError) as error:
        said = str(error).strip().splitlines()[-1:] or ["no memory for it"]
        reason = said[0].rpartition("Error: ")[2]
        raise _unknown(kind.name, f"FAISS refuses it for {dim} numbers: {reason}") from None
    inner = unwrapped(index)
    filterable = (faiss.IndexIVF, faiss.IndexHNSW, faiss.IndexScalarQuantizer, faiss.IndexRaBitQ)
    if not isinstance(inner, filterable) or inner.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise _unknown(
            kind.name,
            f"FAISS cannot search {type(inner).__name__} under a filter by inner product "
            "(rescoring from the stored vectors is done for every kind)",
        )
    return index


def build(
    name: str,
    vectors: npt.NDArray[np.floating[Any]],
    *,
    train: Vectors,
    seed: int,
    held: npt.ArrayLike = (),
    trial: Callable[[Ann], None] | None = None,
    workers: int = 1,
) -> bytes:
    """The content of the ``.ann`` file of a segment: unit rows [n, dim], float32 or float16.

    ``train`` is a float32 sample [m, dim] of the whole corpus, ``TRAIN_ROWS`` at most. One thread
    gives the same bytes for the same seed; more build a graph faster, an equally good one, whose
    bytes differ from run to run. A graph is built over a copy of the segment's vectors, which is
    let go before the file is made; every other kind copies ``BLOCK`` rows at a time.

    ``trial`` is called once with an index that does not yet know the rows ``held`` [h], so that
    they can ask it as new queries would; they are in the file that is returned, and the index is
    for that call only.
    """
    faiss = library()
    kind = kind_of(name)
    if kind.factory is None:
        raise ValueError(
            f"kind {name!r} searches the vectors themselves: there is nothing to build"
        )
    rows, dim = vectors.shape
    index = made(kind, dim, rows, len(train))
    inner = unwrapped(index)
    with threads(workers):
        prepare(inner, seed)
        index.train(np.ascontiguousarray(train, np.float32))
        apart = np.zeros(rows, bool)
        apart[np.asarray(held, np.int64)] = True
        if isinstance(inner, faiss.IndexHNSW):
            _grow_graph(index, inner, vectors, apart, seed, trial)
        else:
            add_rows(index, vectors, np.arange(rows))
            if trial is not None:
                trial(Ann(index, rows, known=~apart))
        return content(index)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let FAISS use so many threads of the process, all of it, for a while."""
    faiss = library()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(count)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def prepare(inner: Index, seed: int) -> None:
    """Set what building depends on, before an index is trained or added to."""
    faiss = library()
    if isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efConstruction = BUILD_WIDTH
    elif isinstance(inner, faiss.IndexIVF):
        inner.cp.seed = seed
        inner.cp.min_points_per_centroid = 1  # else FAISS complains on standard error


def add_rows(index: Index, vectors: npt.NDArray[Any], rows: npt.NDArray[np.int64]) -> None:
    """Add some of the vectors, in this order, a block at a time."""
    for start in range(0, len(rows), BLOCK):
        index.add(np.asarray(vectors[rows[start : start + BLOCK]], np.float32))


def _grow_graph(
    index: Index,
    inner: Graph,
    vectors: npt.NDArray[Any],
    apart: npt.NDArray[np.bool_],
    seed: int,
    trial: Callable[[Ann], None] | None,
) -> None:
    """Add the rows in a random order, those apart last, and name them by row in the end.

    A vertex shapes the links around it, so that a query equal to one is answered too well, even
    where that row itself does not count. Hence the trial before those rows are added.
    """
    order = np.random.default_rng(seed).permutation(len(apart))
    order = order[np.argsort(apart[order], kind="stable")]
    reserve(inner, len(order))
    known = len(order) - int(apart.sum())
    add_rows(index, vectors, order[:known])
    if trial is not None:
        trial(Ann(index, len(apart), order=order[:known]))
    add_rows(index, vectors, order[known:])
    if isinstance(index, library().IndexHNSWFlat):
        let_go_of_storage(inner)  # a reader finds the same vectors in the segment
    name_by_row(inner, order)
