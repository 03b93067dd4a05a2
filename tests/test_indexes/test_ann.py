"""A file that is not the index of its segment is refused in one line, whatever it is."""

import gc
import random
from pathlib import Path

import faiss
import numpy as np
import pytest

from indexes import IndexCorrupt
from indexes.ann import content, load
from indexes.graph import mapped_storage, reserve, unsound
from indexes.kinds import build, kind_of

ROWS, DIM = 1200, 16
PATH = Path("1.ann")
KINDS = ("hnsw", "small", "IVF16,SQ8", "HNSW8,SQ8", "PCA8,IVF16,SQ8", "SQ8")


@pytest.fixture(scope="module")
def vectors(store):
    return store.unit(ROWS, DIM)


@pytest.fixture(scope="module")
def built(vectors):
    return {name: build(name, vectors, train=vectors, seed=1) for name in KINDS}


def read(name, data, vectors):
    return load(kind_of(name).knob, data, vectors, path=PATH)


def refused(name, data, vectors, reason):
    with pytest.raises(IndexCorrupt, match=rf"^1\.ann is no index of its segment: .*{reason}.*"):
        read(name, data, vectors)


@pytest.mark.parametrize("name", KINDS)
def test_another_segment_is_refused(built, vectors, store, name):
    refused(name, built[name], vectors[:-1], "it has 1200 rows of 16 numbers, the segment 1199 of")
    refused(name, built[name], store.unit(ROWS, 8), "the segment 1200 of 8")


@pytest.mark.parametrize("name", KINDS)
def test_half_a_file_or_more_than_one_is_refused(built, vectors, name):
    for size in (0, 3, 30, len(built[name]) // 2, len(built[name]) - 1):
        refused(name, built[name][:size], vectors, "read error|bytes|size|null")
    refused(name, built[name] + b"\0", vectors, "1 bytes too many")


def test_another_kind_is_refused(built, vectors):
    for name, other in (("hnsw", "small"), ("small", "SQ8"), ("SQ8", "hnsw")):
        refused(name, built[other], vectors, "it is a FAISS Index")
    flat = faiss.IndexFlatIP(DIM)
    flat.add(vectors)
    for name in KINDS:
        refused(name, content(flat), vectors, "it is a FAISS IndexFlat")


def test_another_metric_is_refused(vectors):
    index = faiss.index_factory(DIM, "SQ8", faiss.METRIC_L2)
    index.train(vectors)
    index.add(vectors)
    refused("SQ8", content(index), vectors, "inner product")


def test_a_graph_over_vectors_of_another_metric_is_refused(vectors):
    metrics = (faiss.METRIC_INNER_PRODUCT, faiss.METRIC_L2)
    graph, other = (
        faiss.IndexHNSWSQ(DIM, faiss.ScalarQuantizer.QT_8bit, 4, metric) for metric in metrics
    )
    for index in (graph, other):
        index.train(vectors)
        index.add(vectors)
    graph.own_fields = False
    graph.storage = other.storage
    refused("HNSW8,SQ8", content(graph), vectors, "another metric")


def graph_with(vectors, change):
    """A graph in which something was changed after it was built."""
    graph = faiss.IndexHNSWFlat(DIM, 4, faiss.METRIC_INNER_PRODUCT)
    graph.add(vectors)
    links = faiss.rev_swig_ptr(graph.hnsw.neighbors.data(), graph.hnsw.neighbors.size())
    levels = faiss.vector_to_array(graph.hnsw.levels)
    offsets = faiss.vector_to_array(graph.hnsw.offsets).astype(int)
    change(graph.hnsw, links, levels, offsets)
    writer = faiss.VectorIOWriter()
    faiss.write_index(graph, writer, faiss.IO_FLAG_SKIP_STORAGE)
    return faiss.vector_to_array(writer.data).tobytes()


def link_below(hnsw, links, levels, offsets):
    links[offsets[np.argmax(levels == 2)] + 8] = np.argmax(levels == 1)


def enter_low(hnsw, links, levels, offsets):
    hnsw.entry_point = int(np.argmax(levels == 1))


def enter_nowhere(hnsw, links, levels, offsets):
    hnsw.entry_point = -1


def link_outside(hnsw, links, levels, offsets):
    links[5] = 10**9


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (link_below, "a link of level 1 leads below it"),
        (enter_low, "its entry point is not at the top"),
        (enter_nowhere, "its entry point is not at the top"),
        (link_outside, "out of range"),
    ],
)
def test_a_graph_that_leads_outside_of_itself_is_refused(vectors, change, reason):
    refused("hnsw", graph_with(vectors, change), vectors, reason)


def test_a_sound_graph_of_faiss_itself_is_read(vectors):
    data = graph_with(vectors, lambda *parts: None)
    found = read("hnsw", data, vectors).candidates(vectors, 1, knob=300)
    assert (found[:, 0] == np.arange(ROWS)).mean() > 0.99


def test_a_graph_over_codes_without_its_codes_is_refused(vectors):
    graph = faiss.IndexHNSWSQ(DIM, faiss.ScalarQuantizer.QT_8bit, 4, faiss.METRIC_INNER_PRODUCT)
    graph.train(vectors)
    graph.add(vectors)
    assert unsound(graph) is None
    writer = faiss.VectorIOWriter()
    faiss.write_index(graph, writer, faiss.IO_FLAG_SKIP_STORAGE)
    data = faiss.vector_to_array(writer.data).tobytes()
    refused("HNSW8,SQ8", data, vectors, "its vectors are missing")


def test_a_row_that_is_not_there_is_an_error_and_no_answer(vectors):
    index = faiss.index_factory(DIM, "IVF1,SQ8", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add_with_ids(vectors, np.arange(ROWS) + 1)
    ann = read("IVF16,SQ8", content(index), vectors)
    with pytest.raises(IndexCorrupt, match=r"1\.ann is damaged: it names row 1200 of 1200"):
        ann.candidates(vectors[-1:], 1, knob=1)


@pytest.mark.parametrize("name", KINDS)
def test_an_index_keeps_what_it_looks_into(built, vectors, name):
    expected = read(name, built[name], vectors).candidates(vectors, 5, knob=64)
    ann = read(name, bytes(bytearray(built[name])), vectors.copy())
    gc.collect()
    others = [np.full(size, 255, np.uint8) for size in (vectors.nbytes, len(built[name]), 400)]
    assert ann.candidates(vectors, 5, knob=64).tolist() == expected.tolist()
    del others


def test_a_file_cannot_make_faiss_believe_numbers_beyond_its_size(built, vectors, monkeypatch):
    seen = []

    def see(reader):
        seen.append(faiss.get_deserialization_vector_byte_limit())
        seen.append(faiss.get_deserialization_loop_limit())
        raise MemoryError

    monkeypatch.setattr(faiss, "read_index", see)
    refused("small", built["small"], vectors, "no memory for it")
    assert seen == [len(built["small"])] * 2


def test_a_graph_that_grows_never_moves_its_vectors(vectors):
    graph = faiss.IndexHNSWFlat(DIM, 4, faiss.METRIC_INNER_PRODUCT)
    reserve(graph, ROWS)
    addresses = set()
    for start in range(0, ROWS, 100):
        graph.add(vectors[start : start + 100])
        codes = faiss.downcast_index(graph.storage).codes
        addresses.add(faiss.rev_swig_ptr(codes.data(), codes.size()).ctypes.data)
    assert len(addresses) == 1
    assert graph.storage.reconstruct_n(0, ROWS).tobytes() == vectors.tobytes()


def test_the_limits_of_faiss_are_as_before(built, vectors):
    limits = ("get_deserialization_vector_byte_limit", "get_deserialization_loop_limit")
    before = [getattr(faiss, name)() for name in limits]
    read("small", built["small"], vectors)
    refused("small", b"IwPQ", vectors, "read error")
    assert [getattr(faiss, name)() for name in limits] == before


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_file_is_refused_or_answers_and_nothing_else(
    built, vectors, name, soak, record_property
):
    chance = random.Random(name)
    counts = {"refused": 0, "answered": 0}
    for _ in range(1_000 if soak else 60):
        data = bytearray(built[name])
        width = chance.choice([1, 4, 8, 64])
        at = chance.randrange(min(len(data), chance.choice([200, 2000, 10**9])) - width)
        worst = chance.choice([b"\0", b"\xff", b"\x7f", None])
        data[at : at + width] = worst * width if worst else chance.randbytes(width)
        try:
            found = read(name, bytes(data), vectors).candidates(vectors[:20], 5, knob=8)
        except IndexCorrupt as error:
            counts["refused" if "\n" not in str(error) else "refused at length"] += 1
        else:
            assert -1 <= found.min() <= found.max() < ROWS
            counts["answered"] += 1
    assert min(counts.values()) > 0
    record_property("damaged .ann files with a true checksum", sum(counts.values()))


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_mapped_storage_is_the_memory_itself(vectors, dtype):
    rows = vectors.astype(dtype)
    storage = mapped_storage(rows)
    assert storage.reconstruct_n(0, ROWS).tobytes() == rows.astype(np.float32).tobytes()
    rows[3] = rows[4]
    assert storage.reconstruct(3).tolist() == rows[4].astype(np.float32).tolist()
