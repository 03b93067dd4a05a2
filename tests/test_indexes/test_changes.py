"""Adding to an index that is there, deleting from it, compacting it."""

import errno
import json
import os

import numpy as np
import pytest

import indexes.compaction
from indexes import (
    IndexNotFound,
    IndexUnfinished,
    IndexWriter,
    VectorError,
    View,
    read_manifest,
)
from indexes.compaction import MOST_SEGMENTS, runs_to_merge
from indexes.manifest import Content, SegmentEntry


@pytest.fixture
def small(changes, monkeypatch):
    changes.make_small("flat", monkeypatch.setattr)
    return changes


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("flavour", ["flat", "hnsw"])
def test_every_commit_holds_what_it_must(changes, monkeypatch, tmp_path, flavour, seed):
    changes.make_small(flavour, monkeypatch.setattr)
    course, commits, generations = changes.Course(seed, flavour), [], []

    def look():
        commits.append(changes.holds(tmp_path / "index"))
        generations.append(read_manifest(tmp_path / "index").generation)

    course.run(tmp_path / "index", look)
    assert commits == course.states[1:]
    assert generations[-1] > len(generations)  # some compacted
    assert any((tmp_path / "index").glob("*.ann")) == (flavour == "hnsw")
    assert any((tmp_path / "index").glob("*.words")) == (flavour == "hnsw")


def test_a_row_takes_the_place_of_the_one_with_its_id(store, tmp_path):
    rows, newer = store.rows(9, ids="abcdefghi"), store.rows(3, seed=1, ids="cxa")
    store.build(tmp_path / "index", rows)
    before = View(tmp_path / "index")
    with IndexWriter(tmp_path / "index") as writer:
        writer.upsert(newer.vectors, newer.payloads)
        assert len(writer) == 3
        store.assert_holds(View(tmp_path / "index"), rows)  # nothing is seen before the commit
        writer.commit()
    store.assert_holds(View(tmp_path / "index", verify="full"), rows + newer)
    store.assert_holds(before, rows)  # what was opened before stays as it was


def test_deleting_counts_what_was_there(store, tmp_path):
    rows = store.rows(4, ids="abcd")
    store.build(tmp_path / "index", rows)
    with IndexWriter(tmp_path / "index") as writer:
        assert writer.delete(["b", "nothing", "b"]) == 1
        writer.upsert(rows.vectors[:2], rows.payloads[:2])  # b is back, as a new row
        assert writer.delete(["a"]) == 1
        writer.commit()
    view = View(tmp_path / "index", verify="full")
    assert [view.payload(at) for at in view.positions()] == [
        rows.payloads[at] + b"\n" for at in (2, 3, 1)
    ]
    assert view.find("a") is None


def test_an_index_may_become_empty_and_full_again(store, tmp_path):
    rows = store.rows(3)
    store.build(tmp_path / "index", rows)
    with IndexWriter(tmp_path / "index") as writer:
        assert writer.delete(rows.ids) == 3
        assert writer.commit().segments == ()
    view = View(tmp_path / "index")
    assert len(view) == 0
    assert view.search(rows.vectors, 2)[1].shape == (3, 0)
    with IndexWriter(tmp_path / "index") as writer:
        writer.upsert(rows.vectors, rows.payloads)
        writer.commit()
    store.assert_holds(View(tmp_path / "index", verify="full"), rows)


def test_without_a_commit_nothing_has_happened(store, tmp_path):
    rows = store.rows(4)
    store.build(tmp_path / "index", rows)
    with IndexWriter(tmp_path / "index") as writer:
        writer.upsert(rows.vectors[:1], [b'{"id": "new"}'])
        writer.delete(rows.ids[2:])
    store.assert_holds(View(tmp_path / "index", verify="full"), rows)
    store.assert_tidy(tmp_path / "index")


def test_a_change_needs_a_whole_index(store, tmp_path):
    with pytest.raises(IndexNotFound, match="does not exist"):
        IndexWriter(tmp_path / "index")
    assert not (tmp_path / "index").exists()
    store.leave_unfinished(tmp_path / "index", store.rows(3))
    with pytest.raises(IndexUnfinished, match="run the same command again"):
        IndexWriter(tmp_path / "index")
    store.build(tmp_path / "whole", store.rows(3))
    store.leave_unfinished(tmp_path / "whole", store.rows(2), overwrite=True)
    with pytest.raises(IndexUnfinished, match="2 rows beside its index; finish it first"):
        IndexWriter(tmp_path / "whole")


def test_a_bad_row_spoils_nothing(store, tmp_path):
    rows = store.rows(2)
    store.build(tmp_path / "index", rows)
    with IndexWriter(tmp_path / "index") as writer:
        with pytest.raises(VectorError, match="length 2"):
            writer.upsert(2 * rows.vectors, rows.payloads)
        writer.commit()
    store.assert_holds(View(tmp_path / "index", verify="full"), rows)


def test_compacting_leaves_the_live_rows_in_one_segment(small, store, tmp_path):
    course = small.Course(3)
    course.run(tmp_path / "index")
    before = small.holds(tmp_path / "index")
    with IndexWriter(tmp_path / "index") as writer:
        writer.upsert(small.vector(b"x")[None], [b'{"id": "x"}'])
        with pytest.raises(ValueError, match="commit the change"):
            writer.compact()
    with IndexWriter(tmp_path / "index") as writer:
        writer.compact()
        assert not writer.compact()
    assert small.holds(tmp_path / "index") == before
    segments = read_manifest(tmp_path / "index").published.segments
    assert sum(entry.dead for entry in segments) == 0
    assert len(segments) == 1
    store.assert_tidy(tmp_path / "index")


@pytest.mark.parametrize("flavour", ["flat", "hnsw"])
def test_a_reader_from_before_a_compaction_goes_on(changes, monkeypatch, tmp_path, flavour):
    changes.make_small(flavour, monkeypatch.setattr)
    folder, course = tmp_path / "index", changes.Course(5, flavour)
    course.run(folder)
    view, old = View(folder), {path.name for path in folder.glob("0*")}
    rows = [b'{"id": "%s", "n": 99}' % i.encode() for i in changes.IDS]
    with IndexWriter(folder, sidecars={"words": changes.words}) as writer:
        writer.upsert(np.stack([*map(changes.vector, rows)]), rows)
        writer.delete(["a"])
        writer.commit()
        writer.compact()
    assert old.isdisjoint(path.name for path in folder.iterdir())  # its files are gone
    positions = view.positions()
    payloads = [view.payload(int(at)).removesuffix(b"\n") for at in positions]
    assert sorted(payloads) == sorted(course.states[-1].values())
    assert (view.vectors(positions) == [*map(changes.vector, payloads)]).all()
    changes.check_what_can_be_made_again(view)  # what it opens only now, too
    assert all(view.find(json.loads(payload)["id"]) is not None for payload in payloads)
    assert len(View(folder, verify="full")) == len(changes.IDS) - 1


def test_a_commit_stands_where_compaction_fails(store, faults, tmp_path, caplog, monkeypatch):
    rows = store.rows(4)
    store.build(tmp_path / "index", rows)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("indexes.writer.merge", full)
    with IndexWriter(tmp_path / "index") as writer:
        writer.delete(rows.ids[:3])
        writer.commit()
    assert "not compacted: " in caplog.text
    assert len(View(tmp_path / "index", verify="full")) == 1


def content_of(segments):
    return Content(dim=3, model={"fingerprint": "m"}, segments=tuple(segments))


def test_rows_are_copied_once_for_every_doubling():
    segments, copied = [], 0
    for _ in range(3_000):
        segments.append(SegmentEntry("s", 10, {}))
        for first, behind in runs_to_merge(content_of(segments)):
            rows = sum(segment.rows for segment in segments[first:behind])
            copied += rows
            segments[first:behind] = [SegmentEntry("s", rows, {})]
        assert len(segments) <= MOST_SEGMENTS
    assert copied / 30_000 < np.log2(3_000)


def test_full_segments_and_worn_ones():
    full, worn = (SegmentEntry("s", indexes.build.SEGMENT_ROWS, {}, dead) for dead in (0, 400_000))
    assert runs_to_merge(content_of([full] * 20)) == []
    assert runs_to_merge(content_of([full, worn, full])) == [(1, 2)]
    assert runs_to_merge(content_of([full]), everything=True) == []
    assert runs_to_merge(content_of([worn]), everything=True) == [(0, 1)]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_half_the_bytes_give_nearly_the_same_scores(store, tmp_path, dtype):
    rows = store.rows(200, dim=32)
    with IndexWriter(tmp_path / "index", store.content(32, dtype=dtype)) as writer:
        writer.add(rows.vectors, rows.payloads)
        writer.commit()
    with IndexWriter(tmp_path / "index") as writer:
        writer.delete(rows.ids[:60])
        writer.commit()
    view = View(tmp_path / "index", verify="full")
    stored = rows.vectors[60:].astype(dtype).astype(np.float64)
    exact = np.clip(rows.vectors.astype(np.float64) @ stored.T, -1, 1).astype(np.float32)
    scores, _ = view.search(rows.vectors, 140)
    np.testing.assert_array_equal(scores, -np.sort(-exact, axis=1))
    assert np.abs(exact - rows.vectors @ rows.vectors[60:].T).max() < 1e-3
    [entry] = view.content.segments
    assert entry.files["vec"].bytes == 140 * 32 * np.dtype(dtype).itemsize
