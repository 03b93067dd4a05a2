"""Search against numpy in float64 and against FAISS."""

import threading

import numpy as np
import pytest

from indexes import IndexWriter, VectorError, View
from indexes.exact import top_k


def brute_force(rows, queries, k):
    """The definition: float64 products, rounded once, best first, equal ones by position."""
    live = np.array(rows.live(), np.int64)
    exact = rows.vectors[live].astype(np.float64) @ queries.astype(np.float64).T
    scores = np.clip(exact.T, -1, 1).astype(np.float32)
    order = np.argsort(-scores, axis=1, kind="stable")[:, : min(k, len(live))]
    return np.take_along_axis(scores, order, axis=1), live[order]


def assert_same(found, expected):
    np.testing.assert_array_equal(found[1], expected[1])
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("n", "dim", "k", "per_segment", "block"),
    [
        (1, 1, 1, 100, 100),
        (1, 384, 5, 100, 100),
        (7, 3, 7, 100, 2),
        (90, 2, 10, 7, 3),
        (500, 16, 10, 1000, 16_384),
        (500, 16, 500, 1000, 64),
        (500, 33, 10, 60, 17),
        (800, 384, 100, 300, 128),
        (800, 384, 1, 801, 799),
    ],
)
def test_search_equals_brute_force_and_faiss(
    store, tmp_path, segment_rows, monkeypatch, n, dim, k, per_segment, block
):
    segment_rows(per_segment)
    monkeypatch.setattr("indexes.exact.BLOCK", block)
    monkeypatch.setattr("indexes.exact.QUERIES", 4)
    rows = store.rows(n, dim)
    view = store.build(tmp_path / "index", rows, batch=min(50, per_segment))
    assert len(view.content.segments) > 1 or n <= per_segment
    queries = store.unit(9, dim, seed=1)

    found = view.search(queries, k)

    assert_same(found, brute_force(rows, queries, k))
    scores, ids = view.to_faiss().search(queries, k)
    count = min(n, k)
    np.testing.assert_array_equal(view.positions()[ids[:, :count]], found[1])
    np.testing.assert_allclose(scores[:, :count], found[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("block", [16_384, 13])
def test_one_query_by_our_own_threads_gives_what_the_matrix_library_gives(
    store, tmp_path, segment_rows, monkeypatch, block
):
    segment_rows(60)
    monkeypatch.setattr("indexes.exact.BLOCK", block)
    rows = store.rows(150, 48, ids=[f"id-{at % 90}" for at in range(150)])
    view = store.build(tmp_path / "index", rows, batch=10)
    threads = set()
    einsum = np.einsum

    def noticed(*operands):
        threads.add(threading.get_ident())
        return einsum(*operands)

    monkeypatch.setattr("indexes.exact.np.einsum", noticed)
    for query in store.unit(8, 48, seed=1):
        monkeypatch.setattr("indexes.exact.SPINNING", "no such module")
        plain = view.search(query[None], 7)
        assert not threads
        monkeypatch.setattr("indexes.exact.SPINNING", "sys")  # a module that is there
        scores, positions = view.search(query[None], 7)
        assert scores.tobytes() == plain[0].tobytes()
        assert positions.tobytes() == plain[1].tobytes()
        assert threads
        assert threading.get_ident() not in threads
        threads.clear()


def test_our_own_threads_put_damaged_rows_first(store, monkeypatch):
    monkeypatch.setattr("indexes.exact.BLOCK", 8)
    monkeypatch.setattr("indexes.exact.SPINNING", "sys")
    rows = store.unit(40, 16).astype(np.float16)
    rows[21, 3], rows[33, 0] = np.nan, np.inf
    scores, positions = top_k([(rows, None)], store.unit(1, 16, seed=1), 3)
    assert positions[0, :2].tolist() == [21, 33]
    assert np.isposinf(scores[0, :2]).all()
    assert np.isfinite(scores[0, 2])


@pytest.mark.parametrize("k", [1, 3, 40, 10_000])
@pytest.mark.parametrize("per_segment", [20, 1000])
def test_replaced_rows_are_never_found(store, tmp_path, segment_rows, monkeypatch, k, per_segment):
    segment_rows(per_segment)
    monkeypatch.setattr("indexes.exact.BLOCK", 13)
    ids = [f"id-{at % 37}" for at in range(150)]
    rows = store.rows(150, ids=ids)
    view = store.build(tmp_path / "index", rows, batch=10)
    queries = np.concatenate([rows.vectors[:40], store.unit(5, seed=1)])  # exact hits on dead rows

    found = view.search(queries, k)

    assert len(view) == 37
    assert_same(found, brute_force(rows, queries, k))
    faiss_scores, faiss_ids = view.to_faiss().search(queries, min(k, 37))
    np.testing.assert_array_equal(view.positions()[faiss_ids], found[1])
    np.testing.assert_allclose(faiss_scores, found[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("copies", [2, 10, 60, 200])
@pytest.mark.parametrize("block", [16_384, 37])
def test_equal_scores_come_in_the_order_of_their_positions(
    store, tmp_path, segment_rows, monkeypatch, copies, block
):
    segment_rows(150)
    monkeypatch.setattr("indexes.exact.BLOCK", block)
    base = store.unit(6, 16)
    order = np.random.default_rng(2).permutation(np.repeat(np.arange(6), copies))
    rows = store.of(base[order])
    view = store.build(tmp_path / "index", rows, batch=30)
    queries = np.concatenate([base, store.unit(3, 16, seed=1)])
    for k in (1, 5, 25, copies + 1):
        assert_same(view.search(queries, k), brute_force(rows, queries, k))


@pytest.mark.parametrize(
    ("different", "copies", "dim"), [(2000, 1, 384), (2000, 1, 3), (10, 60, 16), (10, 60, 384)]
)
def test_a_batch_gives_bit_for_bit_what_single_queries_give(
    store, tmp_path, different, copies, dim
):
    base = store.unit(different, dim)
    order = np.random.default_rng(2).permutation(np.repeat(np.arange(different), copies))
    view = store.build(tmp_path / "index", store.of(base[order]))
    queries = store.unit(131, dim, seed=1)  # more than two groups of exact.QUERIES

    scores, positions = view.search(queries, 7)

    for at in range(0, len(queries), 5):
        alone = view.search(queries[at : at + 1], 7)
        assert alone[0].tobytes() == scores[at].tobytes()
        assert alone[1].tobytes() == positions[at].tobytes()


@pytest.mark.parametrize("k", [1, 10, 100])
def test_near_ties_are_ordered_by_their_exact_scores(store, tmp_path, k):
    """400 rows whose scores differ by less than a float32 product is off."""
    near = store.unit(1, 384) + np.random.default_rng(3).standard_normal((400, 384)) * 2e-5
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    rows = store.of(np.concatenate([store.unit(50, 384, seed=4), near]))
    view = store.build(tmp_path / "index", rows)
    for query in (store.unit(1, 384), store.unit(1, 384, seed=5)):
        assert_same(view.search(query, k), brute_force(rows, query, k))


@pytest.mark.parametrize("k", [21, 1000, 2**40])
def test_more_than_there_is_gives_all_there_is(store, tmp_path, k):
    rows = store.rows(20)
    found = store.build(tmp_path / "index", rows).search(store.unit(3, seed=1), k)
    assert found[0].shape == (3, 20)
    assert_same(found, brute_force(rows, store.unit(3, seed=1), 20))


@pytest.mark.parametrize("k", [0, -1, -(2**40)])
def test_fewer_than_one_is_refused(store, tmp_path, k):
    with pytest.raises(ValueError, match=f"at least 1, got {k}"):
        store.build(tmp_path / "index", store.rows(3)).search(store.unit(1), k)


def test_an_index_without_rows_finds_nothing(store, tmp_path):
    view = store.build(tmp_path / "index", store.rows(0))
    scores, positions = view.search(store.unit(3), 5)
    assert scores.shape == positions.shape == (3, 0)
    assert (len(view), view.find("a"), view.positions().tolist()) == (0, None, [])
    assert view.to_faiss().ntotal == 0
    assert len(View(view.folder, verify="full")) == 0


def test_no_queries_give_no_answers(store, tmp_path):
    scores, positions = store.build(tmp_path / "index", store.rows(3)).search(store.unit(0), 2)
    assert scores.shape == positions.shape == (0, 2)


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        (np.zeros((1, 8)), "vector 0 is zero"),
        ([[1.0] * 8, [0.0] * 8], "vector 1 is zero"),
        ([[np.nan] + [1.0] * 7], "vector 0 is not finite"),
        ([[1.0] * 8, [1.0] * 8, [np.inf] + [1.0] * 7], "vector 2 is not finite"),
        ([[-np.inf] + [1.0] * 7], "vector 0 is not finite"),
        (np.ones((1, 7)), r"shape \[n, 8\], got \[1, 7\]"),
        (np.ones((2, 9)), r"shape \[n, 8\], got \[2, 9\]"),
        (np.ones(8), r"shape \[n, 8\], got \[8\]"),
        (np.ones((1, 1, 8)), r"shape \[n, 8\], got \[1, 1, 8\]"),
        (np.ones((0, 7)), r"shape \[n, 8\], got \[0, 7\]"),
    ],
)
def test_a_query_without_a_direction_is_refused(store, tmp_path, query, reason):
    view = store.build(tmp_path / "index", store.rows(3))
    with pytest.raises(VectorError, match=reason):
        view.search(query, 1)


@pytest.mark.parametrize("length", [1e-40, 1e-30, 1e-3, 0.5, 17.0, 1e30, 1e38])
def test_the_length_of_a_query_does_not_matter(store, tmp_path, length):
    rows = store.rows(50)
    queries = store.unit(4, seed=1)
    scaled = (queries * np.float64(length)).astype(np.float32)
    found = store.build(tmp_path / "index", rows).search(scaled, 3)
    expected = brute_force(rows, queries, 3)
    np.testing.assert_array_equal(found[1], expected[1])
    # A subnormal query has few digits left.
    np.testing.assert_allclose(found[0], expected[0], rtol=0, atol=1e-4 if length < 1e-38 else 1e-6)


def test_queries_may_be_lists_or_wider_or_strided(store, tmp_path):
    view = store.build(tmp_path / "index", store.rows(50))
    queries = store.unit(4, seed=1)
    wide = np.asfortranarray(np.repeat(queries, 2, axis=1))[:, ::2]
    expected = view.search(queries, 3)
    for given in (queries.tolist(), queries.astype(np.float64), wide):
        found = view.search(given, 3)
        assert found[0].tobytes() == expected[0].tobytes()
        assert found[1].tobytes() == expected[1].tobytes()
    np.testing.assert_array_equal(queries, store.unit(4, seed=1))  # and they stay as they were


def test_scores_stay_within_one(store, tmp_path):
    stretched = store.unit(1) * np.float32(1.0005)  # as far off as a row may be
    rows = store.of(np.concatenate([stretched, -stretched]))
    scores, positions = store.build(tmp_path / "index", rows).search(store.unit(1), 2)
    assert scores.tolist() == [[1.0, -1.0]]
    assert positions.tolist() == [[0, 1]]


def test_faiss_counts_through_the_live_positions(store, tmp_path, segment_rows):
    segment_rows(5)
    rows = store.rows(12, ids=list("abcabdabeabf"))
    view = store.build(tmp_path / "index", rows, batch=1)
    assert view.positions().tolist() == [2, 5, 8, 9, 10, 11]
    flat = view.to_faiss()
    assert flat.ntotal == 6
    kept = flat.reconstruct_n(0, 6)
    assert kept.tobytes() == rows.vectors[view.positions()].tobytes()


def test_many_threads_get_what_one_gets(store, tmp_path, segment_rows, monkeypatch):
    segment_rows(70)
    monkeypatch.setattr("indexes.exact.BLOCK", 32)
    view = store.build(tmp_path / "index", store.rows(300, 24), batch=35)
    queries = store.unit(40, 24, seed=1)
    expected = [view.search(queries[at : at + 1], 9) for at in range(40)]
    wrong = []

    def ask(thread):
        for at in range(40):
            which = (at * 7 + thread) % 40
            found = view.search(queries[which : which + 1], 9)
            if found[0].tobytes() != expected[which][0].tobytes():
                wrong.append(which)
            wrong.extend(
                p for p in found[1][0].tolist() if view.find(f"0-{p}") != p or not view.payload(p)
            )

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_view_of_several_commits_searches_only_the_last(store, tmp_path):
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        writer.add(store.unit(3), store.rows(3).payloads)
        writer.commit()
    newer = store.rows(4, seed=9)
    view = store.build(tmp_path / "index", newer, overwrite=True)
    assert view.manifest.generation == 2
    assert_same(view.search(newer.vectors, 4), brute_force(newer, newer.vectors, 4))
