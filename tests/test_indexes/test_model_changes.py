"""Any course of changes against a dict and numpy: hypothesis looks for one that goes wrong."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from indexes import Content, IndexWriter, View

IDS = "abcdefghijklmnopqrst"
SCHEMA = ({"name": "n", "type": "int64"}, {"name": "tag", "type": "string"})
# A filter, and what it says of a row's id and metadata.
FILTERS = {
    "n >= 9": lambda row_id, n, tag: n >= 9,
    "not n < 4 and n != 12": lambda row_id, n, tag: n >= 4 and n != 12,
    "tag = 'x'": lambda row_id, n, tag: tag == "x",
    "tag is null or n < 5": lambda row_id, n, tag: tag is None or n < 5,
    "tag in ('x', 'y') and id > 'h'": lambda row_id, n, tag: tag in ("x", "y") and row_id > "h",
    "id like 'c%' or id = 'a'": lambda row_id, n, tag: row_id in ("a", "c"),
    "n < 0": lambda row_id, n, tag: False,
}
filters = st.sampled_from(sorted(FILTERS))
some_ids = st.lists(st.sampled_from(IDS), min_size=1, max_size=16)
tags = st.sampled_from(["x", "y", None])
soon = st.integers(0, 3).map(bool)  # whether a change is committed at once


class Rows(dict):
    """Id to (n, tag, vector), in the order of the index."""

    def put(self, row_id, row):
        self.pop(row_id, None)
        self[row_id] = row

    def selected(self, where):
        """Places of the rows that a filter selects; of all without one."""
        rule = FILTERS.get(where, lambda *row: True)
        return [at for at, (i, (n, tag, _)) in enumerate(self.items()) if rule(i, n, tag)]

    def payloads(self):
        return [payload_of(i, n, tag) + b"\n" for i, (n, tag, _) in self.items()]


def payload_of(row_id, n, tag):
    metadata = {"n": n} if tag is None else {"n": n, "tag": tag}
    return json.dumps({"id": row_id, "title": "", "text": "", "metadata": metadata}).encode()


class Changes(RuleBasedStateMachine):
    """``published`` is what readers must see, ``staged`` what it is with the change under way, of
    which ``fresh`` are the ids that the change has put there.
    """

    kind = "flat"

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr("os.fsync", lambda handle: None)
        self.published, self.made, self.kept = Rows(), 0, []
        self.writer = None

    @initialize(
        rows=st.integers(5, 30),
        pieces=st.integers(1, 4),
        few=st.sampled_from([0, 4_096]),
        ids=some_ids,
        tag=tags,
    )
    def begin(self, rows, pieces, few, ids, tag):
        for name, value in {
            "indexes.build.SEGMENT_ROWS": rows,
            "indexes.compaction.MOST_SEGMENTS": pieces,
            "indexes.compaction.TAIL": pieces,
            "indexes.certifying.EXACT_BELOW": 4,
            "indexes.exact.BLOCK": rows,
            "indexes.view.FEW": few,
            "indexes.approximate.KNOB_COST": 0,
        }.items():
            self.patch.setattr(name, value)
        content = Content(dim=3, model={"fingerprint": "m"}, kind=self.kind, schema=SCHEMA)
        with IndexWriter(self.root / "index", content) as writer:
            writer.commit()
        self.open()
        self.upsert(ids=ids, tag=tag, commit=True)

    def open(self):
        if self.writer is not None:  # an empty one is falsy
            self.writer.close()
        self.writer = IndexWriter(self.root / "index")
        self.staged, self.fresh, self.changed = Rows(self.published), set(), False

    def teardown(self):
        if self.writer is not None:
            self.writer.close()
        self.patch.undo()
        shutil.rmtree(self.root)

    @rule(ids=some_ids, tag=tags, commit=soon)
    def upsert(self, ids, tag, commit):
        rng = np.random.default_rng(self.made)
        vectors = rng.integers(-1, 2, (len(ids), 3)) + np.float32([0.25, 0.5, 0])  # ties, not zero
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        numbers = [(self.made + at) % 17 for at in range(len(ids))]
        payloads = [payload_of(i, n, tag) for i, n in zip(ids, numbers, strict=True)]
        self.made += len(ids)
        self.writer.upsert(vectors, payloads)
        for row_id, n, vector in zip(ids, numbers, vectors, strict=True):
            self.staged.put(row_id, (n, tag, vector))
        self.fresh |= set(ids)
        self.changed = True
        self.commit(commit)

    @rule(ids=some_ids.map(lambda ids: ids[:4]), commit=soon)
    def delete(self, ids, commit):
        there = set(ids) & self.staged.keys()
        assert self.writer.delete(ids) == len(there)
        for row_id in there:
            del self.staged[row_id]
        self.fresh -= there
        self.changed |= bool(there)
        self.commit(commit)

    @rule(where=filters, commit=soon)
    def delete_where(self, where, commit):
        names = list(self.published)
        old = {names[at] for at in self.published.selected(where)}
        gone = old & (self.staged.keys() - self.fresh)  # only of rows that are published
        assert self.writer.delete_where(where) == len(gone)
        for row_id in gone:
            del self.staged[row_id]
        self.changed |= bool(gone)
        self.commit(commit)

    @rule(commit=st.just(True))
    def commit(self, commit):
        if not commit:
            return
        assert self.writer.commit().rows == len(self.staged)
        self.published, self.fresh, self.changed = Rows(self.staged), set(), False
        self.search(where=None, k=7, full=False)

    @rule()
    def compact(self):
        if self.changed:
            with pytest.raises(ValueError, match="commit the change"):
                self.writer.compact()
            return
        self.writer.compact()
        segments = View(self.root / "index").content.segments
        assert sum(segment.dead for segment in segments) == 0

    @rule()
    def reopen(self):
        """What was not committed is gone."""
        self.open()

    @precondition(lambda self: len(self.kept) < 2)
    @rule()
    def keep_reading(self):
        self.kept.append((View(self.root / "index"), self.published))

    @precondition(lambda self: self.kept)
    @rule(where=st.none() | filters, k=st.integers(1, 20))
    def read_what_was_kept(self, where, k):
        view, rows = self.kept.pop()
        self.agree(view, rows, where, k)

    @rule(where=st.none() | filters, k=st.integers(1, 20), full=st.booleans())
    def search(self, where, k, full):
        view = View(self.root / "index", verify="full" if full else "auto")
        self.agree(view, self.published, where, k)

    def agree(self, view, rows, where, k):
        positions = view.positions()
        assert [view.payload(int(at)) for at in positions] == rows.payloads()
        there = dict(zip(rows, positions.tolist(), strict=True))
        assert {i: view.find(i) for i in IDS} == {**dict.fromkeys(IDS), **there}
        selected = rows.selected(where)
        if where is not None:
            assert view.select(where).tolist() == positions[selected].tolist()
        queries = np.eye(3, dtype=np.float32)
        vectors = np.array([vector for _, _, vector in rows.values()], np.float64).reshape(-1, 3)
        scores = np.clip(queries @ vectors[selected].T, -1, 1).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        found = view.search(queries, k, where=where, exact=True)
        np.testing.assert_array_equal(found[1], positions[np.array(selected, int)][order])
        np.testing.assert_array_equal(found[0], np.take_along_axis(scores, order, axis=1))
        self.promise(view.search(queries, k, where=where), scores, positions[selected], k)

    @staticmethod
    def promise(found, scores, selected, k):
        """min(k, matches) rows that are selected, best first, each with its own score."""
        assert found[1].shape == (3, min(k, len(selected)))
        for line, row_scores, row_positions in zip(scores, *found, strict=True):
            assert len(set(row_positions.tolist())) == len(row_positions)
            own = dict(zip(selected.tolist(), line.tolist(), strict=True))
            assert [own[at] for at in row_positions.tolist()] == row_scores.tolist()
            assert row_scores.tolist() == sorted(row_scores.tolist(), reverse=True)


class GraphChanges(Changes):
    kind = "hnsw"


@pytest.mark.parametrize("machine", [Changes, GraphChanges])
def test_any_course_of_changes_holds_what_a_dict_holds(machine, soak, record_property):
    examples = 300 if soak else 30
    how = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        derandomize=True,
        database=None,
    )
    run_state_machine_as_test(machine, settings=how)
    record_property("courses of 40 changes and searches against a dict and numpy", examples)
