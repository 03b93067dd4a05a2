"""Readers and copies beside a writer that rewrites an index without a pause."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import indexes.segment
import retrieval.searcher
from indexes import IndexWriter, View
from retrieval import Searcher

SECONDS = 20 if os.environ.get("RETRIEVAL_SOAK") == "1" else 1
FOUND = ("torn", "backwards", "errors")


@pytest.fixture(scope="module", params=["flat", "hnsw"])
def seen(request, fresh_folder):
    """What ``rewriting.py`` saw of an index of this kind."""
    script = str(Path(__file__).parent / "rewriting.py")
    command = [sys.executable, script, str(fresh_folder() / "index"), str(SECONDS), request.param]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # it forks
    ran = subprocess.run(command, capture_output=True, env=environment, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
    return json.loads(ran.stdout)


def test_readers_beside_a_writer_see_one_commit_each_and_never_an_older_one(seen, record_property):
    assert seen["codes"] == [0] * 4
    assert seen["writer"]["stamps"] >= 12
    assert all(seen["writer"][way] for way in ("upserts", "compacts", "builds anew"))
    threads = seen["reader 0"] + seen["reader 1"]
    assert len(threads) == 8
    assert [thread[what] for thread in threads for what in FOUND if thread[what]] == []
    reads = [thread["reads"] for thread in threads]
    assert min(reads) > 0
    record_property("commits of a writer beside readers", seen["writer"]["stamps"])
    record_property("reads beside a writer, each of one commit", sum(reads))


def test_a_copy_of_the_files_that_one_manifest_names_is_whole(seen, record_property):
    [copies] = seen["copies"]
    assert [copies[what] for what in FOUND if copies[what]] == []
    assert copies["reads"] > 0
    record_property("backups beside a writer, each whole", copies["reads"])


class Encoder:
    dim, max_length, fingerprint = 8, 9, "model-1"


def replace_all(folder, store, seed):
    """Publish other rows under the same ids; the old files go."""
    rows = store.rows(4, seed=seed, ids="abcd")
    with IndexWriter(folder, store.content(), overwrite=True) as writer:
        writer.add(rows.vectors, rows.payloads)
        writer.commit()


def test_a_searcher_that_two_threads_refresh_does_not_go_back(store, tmp_path, monkeypatch):
    replace_all(tmp_path / "index", store, 0)
    searcher = Searcher(tmp_path / "index", encoder=Encoder())
    replace_all(tmp_path / "index", store, 1)
    opened, go_on, usual = threading.Event(), threading.Event(), retrieval.searcher.View

    def open_slowly(*given, **named):
        view = usual(*given, **named)
        if threading.current_thread() is slow:
            opened.set()
            go_on.wait(60)
        return view

    monkeypatch.setattr("retrieval.searcher.View", open_slowly)
    slow = threading.Thread(target=searcher.refresh)
    slow.start()
    opened.wait(60)
    replace_all(tmp_path / "index", store, 2)
    quick = threading.Thread(target=searcher.refresh)
    quick.start()
    quick.join(1)  # it may wait for the other
    go_on.set()
    slow.join()
    quick.join()
    newest = store.rows(4, seed=2)
    assert (searcher._view.vectors(np.arange(4)) == newest.vectors).all()


def test_a_reader_that_opens_while_derived_files_go_sees_the_new_ones(
    store, tmp_path, monkeypatch, caplog
):
    folder = tmp_path / "index"
    replace_all(folder, store, 0)
    usual, before = indexes.segment.Segment._map, iter([True])

    def map_just_after_a_commit(segment, suffix, size):
        if suffix == "cols.parquet" and next(before, False):
            replace_all(folder, store, 1)
        return usual(segment, suffix, size)

    monkeypatch.setattr("indexes.segment.Segment._map", map_just_after_a_commit)
    view = View(folder, verify="full")
    assert (view.vectors(np.arange(4)) == store.rows(4, seed=1).vectors).all()
    assert caplog.text == ""
