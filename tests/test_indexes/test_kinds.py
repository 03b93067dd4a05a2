"""Kinds of index are built from a seed, read back with every check, and find what is nearest."""

import threading
from pathlib import Path

import faiss
import numpy as np
import pytest

from indexes import IndexCorrupt
from indexes.ann import load
from indexes.kinds import FLAT_BELOW, KINDS, build, choose, kind_of

ROWS, DIM = 3000, 32
GRAPHS = ("hnsw", "HNSW16", "HNSW16,SQ8", "PCA24,HNSW16")
LISTS = ("small", "IVF32,SQ8", "IVF32,Flat", "IVF32,RaBitQ", "PCA24,IVF16,SQ8")
CODES = ("SQ8", "RaBitQ")
EVERY = (*GRAPHS, *LISTS, *CODES)
WIDEST = 1024  # of either knob
PATH = Path("1.ann")


def clustered(rows, seed):
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((60, DIM))
    near = centres[rng.integers(0, 60, rows)] + 0.6 * rng.standard_normal((rows, DIM))
    return (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)


VECTORS, QUERIES = clustered(ROWS, 1), clustered(300, 2)


def nearest(queries, k, allowed=None, vectors=VECTORS):
    scores = queries @ vectors.T
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def best(candidates, queries, k, vectors=VECTORS):
    """What is left of candidates when they are scored exactly."""
    scores = np.einsum("nmd,nd->nm", vectors[candidates], queries)
    scores[candidates < 0] = -np.inf
    return np.take_along_axis(candidates, np.argsort(-scores, axis=1)[:, :k], axis=1)


def recall(found, truth):
    pairs = zip(found, truth, strict=True)
    return np.mean([np.isin(true, line).mean() for line, true in pairs])


def read(name, content, vectors=VECTORS):
    return load(kind_of(name).knob, content, vectors, path=PATH)


@pytest.fixture(scope="module")
def built():
    return {name: build(name, VECTORS, train=VECTORS, seed=1) for name in EVERY}


@pytest.mark.parametrize("name", EVERY)
def test_the_nearest_rows_are_among_the_candidates(built, name):
    ann = read(name, built[name])
    widest = ann.candidates(QUERIES, 10, knob=WIDEST)
    assert widest.dtype == np.int64
    assert recall(best(widest, QUERIES, 10), nearest(QUERIES, 10)) > 0.97
    one_by_one = [ann.candidates(query[None], 10, knob=WIDEST)[0] for query in QUERIES]
    assert np.array_equal(np.sort(one_by_one, axis=1), np.sort(widest, axis=1))


@pytest.mark.parametrize("name", [*GRAPHS[:2], *LISTS[:3]])
def test_the_knob_trades_recall_for_speed(built, name):
    ann, truth = read(name, built[name]), nearest(QUERIES, 10)
    low, high = (recall(ann.candidates(QUERIES, 10, knob=knob), truth) for knob in (1, WIDEST))
    assert low < high


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("share", [0.5, 0.01, 0])
def test_only_allowed_rows_are_found(built, name, share):
    allowed = np.random.default_rng(3).random(ROWS) < share
    ann = read(name, built[name])
    found = ann.candidates(QUERIES, 10, knob=WIDEST, allowed=allowed)
    assert allowed[found[found >= 0]].all()
    if share == 0:
        assert (found == -1).all()
    else:
        assert recall(best(found, QUERIES, 10), nearest(QUERIES, 10, allowed)) > 0.97


@pytest.mark.parametrize("name", EVERY)
def test_one_seed_gives_the_same_bytes_and_another_seed_others(built, name):
    assert build(name, VECTORS, train=VECTORS, seed=1) == built[name]
    if name in (*GRAPHS, *LISTS):
        assert build(name, VECTORS, train=VECTORS, seed=2) != built[name]


def test_building_says_nothing_and_leaves_the_number_of_threads_as_it_was(capfd):
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        build("IVF32,SQ8", VECTORS[:500], train=VECTORS[:500], seed=1)
        assert faiss.omp_get_max_threads() == 3
        assert capfd.readouterr() == ("", "")
    finally:
        faiss.omp_set_num_threads(before)


def test_a_graph_is_stored_without_the_vectors_and_small_in_an_eighth_of_them(built):
    assert len(built["hnsw"]) < ROWS * 300  # 64 links of 4 bytes, an offset and a level
    wide = np.random.default_rng(0).standard_normal((2000, 384)).astype(np.float32)
    wide /= np.linalg.norm(wide, axis=1, keepdims=True)
    codes = len(build("small", wide, train=wide, seed=1)) - 64 * 384 * 4  # but for the centroids
    assert codes < wide.nbytes / 8


def test_a_graph_looks_into_the_vectors_it_is_given(built):
    vectors = VECTORS.copy()
    ann = read("hnsw", built["hnsw"], vectors)
    before = ann.candidates(QUERIES, 10, knob=64)
    vectors[before[0, 0]] *= -1
    assert ann.candidates(QUERIES[:1], 10, knob=64)[0, 0] != before[0, 0]


def test_float16_vectors_are_searched_where_they_lie():
    halves = VECTORS.astype(np.float16)
    content = build("hnsw", halves, train=VECTORS, seed=1)
    found = read("hnsw", content, halves).candidates(QUERIES, 10, knob=200)
    truth = nearest(QUERIES, 10, vectors=halves.astype(np.float32))
    assert recall(found, truth) > 0.99


@pytest.mark.parametrize("name", EVERY)
def test_a_trial_searches_everything_but_the_held_rows_and_the_file_has_them_too(built, name):
    held = np.random.default_rng(5).choice(ROWS, 150, replace=False)
    others = ~np.isin(np.arange(ROWS), held)
    tried = []

    def trial(ann):
        queries = VECTORS[held]
        found = ann.candidates(queries, 10, knob=WIDEST)
        tried.append(recall(best(found, queries, 10), nearest(queries, 10, others)))
        assert others[found[found >= 0]].all()
        even = np.arange(ROWS) % 2 == 0
        found = ann.candidates(queries, 10, knob=WIDEST, allowed=even)
        assert (others & even)[found[found >= 0]].all()

    content = build(name, VECTORS, train=VECTORS, seed=1, held=held, trial=trial)
    assert len(tried) == 1
    assert tried[0] > 0.97
    itself = read(name, content).candidates(VECTORS[held], 2, knob=128)
    assert recall(best(itself, VECTORS[held], 1), held[:, None]) > 0.99
    if name in LISTS + CODES:
        assert content == built[name]


def test_many_threads_find_what_one_does(built):
    allowed = np.random.default_rng(3).random(ROWS) < 0.3
    for name in ("hnsw", "small"):
        ann = read(name, built[name])
        settings = [(knob, mask) for knob in (2, 16, 100) for mask in (None, allowed)]
        alone = [ann.candidates(QUERIES, 10, knob=k, allowed=m).tobytes() for k, m in settings]
        wrong = []

        def search(at, ann=ann, alone=alone, wrong=wrong, settings=settings):
            for turn in range(at, at + 12):
                knob, mask = settings[turn % 6]
                found = ann.candidates(QUERIES, 10, knob=knob, allowed=mask)
                if found.tobytes() != alone[turn % 6]:
                    wrong.append((knob, mask))

        threads = [threading.Thread(target=search, args=(at,)) for at in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


def test_no_more_candidates_than_rows(built):
    few = VECTORS[:40]
    for name in ("hnsw", "SQ8"):
        ann = read(name, build(name, few, train=few, seed=1), few)
        found = ann.candidates(QUERIES, 1000, knob=WIDEST)
        assert found.shape == (300, 40)
        assert recall(found, nearest(QUERIES, 40, vectors=few)) > 0.999


def test_auto_is_exact_for_few_rows_and_a_graph_for_many():
    assert choose("auto", FLAT_BELOW - 1) == "flat"
    assert choose("auto", FLAT_BELOW) == "hnsw"
    assert choose("small", 1) == "small"


@pytest.mark.parametrize("name", [*KINDS, *EVERY])
def test_known_kinds_are_known(name):
    kind = kind_of(name, DIM)
    knobs = {"IVF": "nprobe", "HNSW": "efSearch"}
    assert kind.knob == next((knobs[key] for key in knobs if key in (kind.factory or "")), None)
    assert list(kind.knobs) == sorted(set(kind.knobs))


@pytest.mark.parametrize(
    "name",
    [
        *("", "fast", "IVF", "IVF64", "HNSW32,PQ8", "IVF8,PQ7", "PQ8", "Flat", "LSH", "NSG32"),
        *("IDMap,Flat", "IVF8,SQ8,RFlat", "IMI2x4,SQ8", "IVF3000000,Flat", "IVF8,Flat\0"),
    ],
)
def test_an_unknown_kind_is_refused_with_the_known_ones(name):
    with pytest.raises(ValueError, match="known are auto, flat, hnsw, small, and FAISS") as caught:
        kind_of(name, DIM)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_built_for_exact_search():
    with pytest.raises(ValueError, match="nothing to build"):
        build("flat", VECTORS, train=VECTORS, seed=1)


def test_an_empty_file_is_refused():
    with pytest.raises(IndexCorrupt, match=r"1\.ann is no index of its segment"):
        read("hnsw", b"")
