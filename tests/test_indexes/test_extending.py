"""A graph goes on growing: what it takes along, what it leaves, how good it stays."""

from pathlib import Path

import faiss
import numpy as np
import pytest

from indexes.ann import load
from indexes.extending import can_grow, extend
from indexes.kinds import build, kind_of

ROWS, DIM, KNOB = 3_000, 16, 64
PATH = Path("1.ann")


@pytest.fixture(scope="module")
def vectors(store):
    return store.unit(ROWS + 600, DIM)


@pytest.fixture(scope="module")
def before(vectors):
    made = build("hnsw", vectors[:ROWS], train=vectors[:1], seed=1)
    return load("efSearch", made, vectors[:ROWS], path=PATH)


def grown(before, kept, vectors, trial=lambda ann: None):
    made = extend("hnsw", before, kept, vectors, trial=trial)
    return load("efSearch", made, vectors, path=PATH), made  # which checks every link


def test_a_graph_that_keeps_all_and_gets_nothing_is_the_same(before, vectors):
    kept = np.ones(ROWS, bool)
    same, _ = grown(before, kept, vectors[:ROWS])
    for name in ("levels", "offsets", "cum_nneighbor_per_level"):
        old, new = (faiss.vector_to_array(getattr(a.graph.hnsw, name)) for a in (before, same))
        assert (old == new).all()
    links = [
        faiss.rev_swig_ptr(a.graph.hnsw.neighbors.data(), a.graph.hnsw.neighbors.size())
        for a in (before, same)
    ]
    assert (links[0] == links[1]).all()
    assert same.graph.hnsw.entry_point == before.graph.hnsw.entry_point
    assert same.graph.hnsw.max_level == before.graph.hnsw.max_level


def recall(ann, vectors, queries):
    truth = np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    found = ann.candidates(queries, 10, knob=KNOB)
    assert (found >= 0).all()
    return np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, found, strict=True)])


@pytest.mark.parametrize("gone", ["none", "some", "entry", "half"])
def test_it_is_as_good_as_one_that_is_built_anew(before, vectors, store, gone):
    kept = np.ones(ROWS, bool)
    if gone == "entry":  # the whole upper part of the graph
        kept[faiss.vector_to_array(before.graph.hnsw.levels) > 1] = False
    elif gone != "none":
        share = 0.1 if gone == "some" else 0.5
        kept[np.random.default_rng(3).random(ROWS) < share] = False
    merged = np.concatenate([vectors[:ROWS][kept], vectors[ROWS:]])
    tried = []

    def trial(ann):
        found = ann.candidates(merged, 1, knob=KNOB)
        tried.append(found.max())  # none of the new rows

    after, made = grown(before, kept, merged, trial)
    assert tried[0] < kept.sum()
    queries = store.unit(300, DIM, seed=9)
    fresh = load("efSearch", build("hnsw", merged, train=merged[:1], seed=1), merged, path=PATH)
    assert recall(after, merged, queries) > recall(fresh, merged, queries) - 0.03
    itself = after.candidates(merged[-600:], 1, knob=KNOB)[:, 0]
    assert np.mean(itself == np.arange(len(merged) - 600, len(merged))) > 0.98
    assert made == grown(before, kept, merged)[1]


def test_only_graphs_over_the_vectors_themselves_grow():
    can = {
        name: can_grow(kind_of(name)) for name in ("hnsw", "HNSW16", "HNSW16,SQ8", "small", "flat")
    }
    assert can == {"hnsw": True, "HNSW16": True, "HNSW16,SQ8": False, "small": False, "flat": False}
