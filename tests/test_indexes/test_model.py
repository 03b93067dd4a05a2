"""Any course of events against a list of rows: hypothesis looks for one that goes wrong."""

import shutil
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import indexes.build
import indexes.exact
from indexes import (
    Content,
    IndexExists,
    IndexNotFound,
    IndexUnfinished,
    IndexWriter,
    View,
)

IDS = "abcdefghij"
CONTENT = Content(dim=3, model={"name": "m", "fingerprint": "model-1"})


class Course(RuleBasedStateMachine):
    """``published`` is what readers must see; ``build`` what the writer holds, of which the first
    ``kept`` rows were checkpointed.
    """

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.folder = self.root / "0"
        self.crashes = self.made = 0
        self.writer = None
        self.published = None
        self.build, self.kept = [], 0
        self.views = []
        self.sizes = indexes.build.SEGMENT_ROWS, indexes.exact.BLOCK

    @initialize(rows=st.integers(1, 6), block=st.integers(1, 9))
    def choose_sizes(self, rows, block):
        indexes.build.SEGMENT_ROWS, indexes.exact.BLOCK = rows, block

    def teardown(self):
        if self.writer is not None:  # an empty one is falsy
            self.writer.close()
        indexes.build.SEGMENT_ROWS, indexes.exact.BLOCK = self.sizes
        shutil.rmtree(self.root)

    @precondition(lambda self: self.writer is None)
    @rule(overwrite=st.booleans())
    def open_writer(self, overwrite):
        try:
            self.writer = IndexWriter(self.folder, CONTENT, overwrite=overwrite)
        except IndexExists:
            assert self.published is not None
            assert not overwrite
            return
        assert overwrite or self.published is None
        self.build = self.build[: self.kept]

    @precondition(lambda self: self.writer is not None)
    @rule(ids=st.lists(st.sampled_from(IDS), max_size=8))
    def add(self, ids):
        rng = np.random.default_rng(self.made)
        vectors = rng.integers(-1, 2, (len(ids), 3)) + np.float32([0.25, 0.5, 0])  # ties, not zero
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        payloads = [
            b'{"id": "%s", "n": %d}' % (i.encode(), self.made + n) for n, i in enumerate(ids)
        ]
        self.made += len(ids) + 1
        self.writer.add(vectors, payloads)
        self.build += list(zip(ids, payloads, vectors, strict=True))

    @precondition(lambda self: self.writer is not None)
    @rule()
    def checkpoint(self):
        self.writer.checkpoint()
        self.kept = len(self.build)

    @precondition(lambda self: self.writer is not None and self.kept == len(self.build))
    @rule(share=st.floats(0, 1))
    def cut(self, share):
        rows = int(share * self.kept)
        self.writer.cut(rows)
        self.build, self.kept = self.build[:rows], rows

    @precondition(lambda self: self.writer is not None)
    @rule()
    def commit(self):
        content = self.writer.commit()
        self.writer.close()
        self.writer = None
        self.published, self.build, self.kept = self.build, [], 0
        assert content.rows == len({row_id for row_id, _, _ in self.published})

    @precondition(lambda self: self.writer is not None)
    @rule()
    def close(self):
        self.writer.close()
        self.writer = None
        self.build = self.build[: self.kept]

    @rule()
    def crash(self):
        """The folder as it is on disk at this moment goes on; the process does not."""
        self.crashes += 1
        crashed = self.root / str(self.crashes)
        if self.folder.exists():
            shutil.copytree(self.folder, crashed)
        if self.writer is not None:  # an empty one is falsy
            self.writer.close()
        self.writer, self.folder = None, crashed
        self.build = self.build[: self.kept]

    @precondition(lambda self: self.published is not None and len(self.views) < 3)
    @rule(full=st.booleans())
    def keep_reading(self, full):
        view = View(self.folder, verify="full" if full else "auto")
        self.views.append((view, self.published))

    @invariant()
    def the_writer_holds_the_build(self):
        if self.writer is not None:  # an empty one is falsy
            assert len(self.writer) == len(self.build)
            rows = [self.writer.payload(at) for at in range(len(self.build))]
            assert rows == [payload for _, payload, _ in self.build]
            last = {row_id: at for at, (row_id, _, _) in enumerate(self.build)}
            for row_id in IDS:
                found = self.writer.find(row_id)
                assert (found is None) == (row_id not in last)
                assert found is None or self.build[found][0] == row_id

    @invariant()
    def readers_see_what_is_published(self):
        for view, rows in self.views:
            self.agree(view, rows)
        try:
            view = View(self.folder)
        except (IndexNotFound, IndexUnfinished):
            assert self.published is None
        else:
            self.agree(view, self.published)

    def agree(self, view, rows):
        live = sorted({row_id: at for at, (row_id, _, _) in enumerate(rows)}.values())
        assert view.positions().tolist() == live
        assert [view.payload(at) for at in live] == [rows[at][1] + b"\n" for at in live]
        found = {row_id: view.find(row_id) for row_id in IDS}
        assert found == {**dict.fromkeys(IDS), **{rows[at][0]: at for at in live}}
        queries = np.eye(3, dtype=np.float32)
        scores, positions = view.search(queries, 4)
        if not live:
            assert positions.shape == (3, 0)
            return
        vectors = np.stack([rows[at][2] for at in live]).astype(np.float64)
        exact = np.clip(vectors @ queries.T, -1, 1).T.astype(np.float32)
        order = np.argsort(-exact, axis=1, kind="stable")[:, :4]
        np.testing.assert_array_equal(positions, np.array(live)[order])
        np.testing.assert_array_equal(scores, np.take_along_axis(exact, order, axis=1))


TestCourse = Course.TestCase
TestCourse.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, derandomize=True, database=None
)
