"""Folders from strangers: whatever they hold, they are refused, at once and at no cost."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from indexes import IndexWriteFailed, IndexWriter, View

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, makes pipes")
HERE = Path(__file__).parent
# Which uses of a folder must be refused; every other may succeed or be refused.
REFUSED = {
    "HOSTILE": {"auto", "full"},
    "FOR_CHECK": {"check"},
    "FOR_MODEL": {"ask"},
    "FOR_WRITER": {"resume"},
    "FOR_GRAPH": set(),
    "FOR_DERIVED": {"full", "check"},
    "FOR_PROMISE": {"auto", "full"},
}


def run(script, *arguments):
    """The standard output of a script beside this file, from a process of its own."""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / script), *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (ran.returncode, ran.stderr) == (0, "")  # a signal would be a negative code
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def seen(fresh_folder):
    return run("hostile.py", fresh_folder())


def test_what_is_not_hostile_is_used_in_every_way(seen):
    assert seen["whole"].keys() == {"ask", "resume"}  # there is no such model; it is finished
    assert seen["begun"].keys() == {"auto", "full", "check", "ask", "change"}  # it is not finished
    large = [r for r in seen["results"].values() if r["kind"] == "LARGE"]
    assert [r["errors"].keys() for r in large] == [{}.keys()] * 3


def test_every_hostile_folder_is_refused_where_it_matters(seen, record_property):
    hostile = {name: r for name, r in seen["results"].items() if r["kind"] in REFUSED}
    assert len(hostile) >= 140
    record_property("hostile folders, each refused in one line or gone without", len(hostile))
    accepted = {n for n, r in hostile.items() if not REFUSED[r["kind"]] <= r["errors"].keys()}
    assert accepted == set()


def unclear(results):
    """The refusals that are not one short line of ours."""
    return [
        (name, use, kind, line[:200])
        for name, result in results.items()
        for use, (kind, message, ours) in result["errors"].items()
        for line in message.split(" | ")  # of a check, which goes on
        if not ours or not line or "\n" in line or len(line) > 400
    ]


def test_a_refusal_is_one_short_line_of_ours(seen):
    assert unclear(seen["results"]) == []


def test_a_refusal_takes_no_second_of_computing_and_nothing_hangs(seen):
    hostile = {name: r for name, r in seen["results"].items() if r["kind"] != "LARGE"}
    slow = {name: r["seconds"] for name, r in hostile.items() if r["seconds"] >= 1}
    assert slow == {}


def test_nothing_is_run_or_fetched_or_changed_outside_the_folder(seen):
    assert seen["noted"] == []


def test_all_of_them_together_take_less_than_200_mb(seen):
    assert seen["growth"] < 200 * 2**20


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 10_000), ("MAX_VALUES", 1_000)])
def test_a_manifest_that_no_reader_would_accept_is_not_published(
    store, tmp_path, monkeypatch, limit, value
):
    rows = store.rows(3)
    store.build(tmp_path / "index", rows)
    monkeypatch.setattr(f"indexes.manifest.{limit}", value)
    with IndexWriter(tmp_path / "index", store.content(), overwrite=True) as writer:
        writer.add(rows.vectors, rows.payloads)
        with pytest.raises(IndexWriteFailed, match="MANIFEST would be larger than"):
            writer.commit(source={"files": [{"name": f"file {n}"} for n in range(1_000)]})
    store.assert_holds(View(tmp_path / "index"), rows)
    store.assert_tidy(tmp_path / "index")


# How often each of 31 files is changed in each way, and how many changes that are at least.
TIMES, LEAST = (20, 3_000) if os.environ.get("RETRIEVAL_SOAK") == "1" else (2, 300)
MUTATIONS = {"truncate", "flip", "garbage", "zero_page", "append", "delete"}
DERIVED = {"parquet", "ann", "words"}


@pytest.fixture(scope="module")
def mutated(fresh_folder):
    """How often each use of each kind of file that was changed in each way came to what."""
    return Counter(map(tuple, run("mutated.py", fresh_folder(), TIMES, 1)))


def test_every_change_of_every_kind_of_file_is_noticed_and_the_file_named(mutated, record_property):
    changes = sum(n for (use, *_), n in mutated.items() if use in ("full", "resume", "every"))
    assert changes >= LEAST
    tried = {(use, kind): set() for use, kind, *_ in mutated}
    for use, kind, how, _ in mutated:
        tried[use, kind].add(how)
    kinds = {"vec", "docs", "rows", "del", "MANIFEST"}
    assert {kind for use, kind in tried if use == "full"} == kinds | {"parquet"}
    assert {kind for use, kind in tried if use == "resume"} == kinds - {"del"}
    assert {kind for use, kind in tried if use == "every"} == kinds | DERIVED
    assert {kind for use, kind in tried if use == "auto"} == DERIVED
    assert all(ways == MUTATIONS for ways in tried.values())
    others = {what: n for what, n in mutated.items() if what[-1] != "noticed"}
    # What an unfinished build wrote after its last checkpoint counts for nothing; one without a
    # manifest never began; and a manifest may lack its last line end.
    torn = {("resume", kind, "append", "identical") for kind in ("vec", "docs")}
    uses = ("full", "check", "resume", "every")
    cut = {(use, "MANIFEST", "truncate", "identical") for use in uses}
    without = {("auto", kind, how, "identical") for kind in DERIVED for how in MUTATIONS}
    assert torn | without <= others.keys()
    allowed = torn | without | cut | {("resume", "MANIFEST", "delete", "another answer")}
    assert others.keys() <= allowed
    record_property("changed files, each noticed, named, or gone without", changes)
