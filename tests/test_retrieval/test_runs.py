"""Runs and judgments in TREC's formats: what is written is read, and what cannot be is named."""

import os
import re

import pytest

from retrieval import CorpusError, Qrel, QueryError
from retrieval.metrics import ranked
from retrieval.runs import read_qrels, read_run, write_qrels, write_run

RUN = {"q1": {"d2": 0.1 + 0.2, "d1": -1e-30, "é": 7.0}, "q2": {"d1": 1 / 3}}


@pytest.fixture
def file(tmp_path):
    """A file with this content."""

    def write(content, name="file.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def test_a_run_is_written_best_first_in_trecs_columns(tmp_path):
    write_run(tmp_path / "run", {"q": {"b": 0.5, "a": 0.5, "c": 2}}, tag="mine")
    expected = "q Q0 c 1 2.0 mine\nq Q0 b 2 0.5 mine\nq Q0 a 3 0.5 mine\n"
    assert (tmp_path / "run").read_text() == expected


def test_a_run_read_is_the_run_written(tmp_path):
    write_run(tmp_path / "run", RUN)
    read = read_run(tmp_path / "run")
    assert read == RUN
    assert [list(read[query]) for query in read] == [ranked(RUN[query]) for query in RUN]


def test_scores_tell_the_order_of_a_run_and_ranks_do_not(file):
    path = file("q Q0 a 1 0.25 t\r\n\n  q\tQ0  b\t2 5e-1 t\nq Q0 c 1 -3 t")
    assert read_run(path) == {"q": {"a": 0.25, "b": 0.5, "c": -3.0}}
    assert ranked(read_run(path)["q"]) == ["b", "a", "c"]


GOOD = "q Q0 a 1 0.5 t\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (f"{GOOD}q Q0 b 2 0.4\n", "line 2: expected query, Q0, document, rank, score and tag"),
        (f"{GOOD}\nq Q0 b 2 high t\n", "line 3: expected query, Q0, document, rank, score and tag"),
        (f"{GOOD}q Q0 b 2 nan t\n", "line 2: expected query"),
        (f"{GOOD}q Q0 b 2 inf t\n", "line 2: expected query"),
        (f"{GOOD}q Q0 my doc 2 0.4 t\n", "line 2: expected query"),
        (f"{GOOD}q Q0 a 2 0.4 t\n", "line 2: query 'q' has document 'a' twice"),
        (GOOD.encode() + b"q Q0 \xff 2 0.4 t\n", "line 2: invalid UTF-8 at byte 5"),
        ("\n", "no line; expected a run"),
    ],
)
def test_a_line_that_is_no_ranking_is_named(file, content, message):
    path = file(content)
    with pytest.raises(CorpusError, match=f"{re.escape(str(path))}.*{re.escape(message)}"):
        read_run(path)


@pytest.mark.parametrize("read", [read_run, read_qrels])
def test_a_file_that_is_not_there_is_named(tmp_path, read):
    with pytest.raises(CorpusError, match="nowhere: no such file"):
        read(tmp_path / "nowhere")
    with pytest.raises(CorpusError, match=r"Is a directory"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["a b", "", " a", "a\n", "a\u2003b"])
def test_an_id_that_would_part_the_columns_is_refused_and_the_old_file_stays(tmp_path, name):
    path = tmp_path / "kept"
    path.write_text("old")
    with pytest.raises(QueryError, match=re.escape(f"document id {name!r}")):
        write_run(path, {"q": {"a": 1.0, name: 0.5}})
    with pytest.raises(QueryError, match=re.escape(f"query id {name!r}")):
        write_run(path, {name: {"a": 1.0}})
    with pytest.raises(QueryError, match=re.escape(f"the tag {name!r}")):
        write_run(path, RUN, tag=name)
    with pytest.raises(QueryError, match=re.escape(f"query id {name!r}")):
        write_qrels(path, [Qrel(name, "a", 1)])
    with pytest.raises(QueryError, match=re.escape(f"document id {name!r}")):
        write_qrels(path, [Qrel("q", name, 1)])
    assert path.read_text() == "old"


def test_a_disk_that_refuses_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    from retrieval import IndexWriteFailed

    path = tmp_path / "run"
    path.write_text("old")

    def refuse(*names):
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, refuse)
            with pytest.raises(IndexWriteFailed, match=r"run: No space left on device"):
                write_run(path, RUN)
        assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("run", "old")]
    with pytest.raises(IndexWriteFailed, match="no/such: No such file"):
        write_run(tmp_path / "no/such", RUN)


JUDGED = [Qrel("q1", "d1", 1), Qrel("q1", "d2", 0), Qrel("q2", "d1", -1)]


def test_judgments_read_are_the_judgments_written(tmp_path):
    write_qrels(tmp_path / "qrels", JUDGED)
    assert (tmp_path / "qrels").read_text() == "q1 0 d1 1\nq1 0 d2 0\nq2 0 d1 -1\n"
    assert read_qrels(tmp_path / "qrels") == JUDGED


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td1\t-1\n",
        "q1\td1\t1\r\nq1\td2\t0\r\n\r\nq2\td1\t-1\r\n",
        b"\xef\xbb\xbfq1 0 d1 1\nq1 0 d2 0\nq2 Q0 d1 -1",
        "q1\t0\td1\t1\nq1  0\td2 0 \nq2 0 d1 -1\n",
    ],
    ids=["beir", "beir without a header", "trec", "trec with tabs"],
)
def test_judgments_are_read_in_both_formats_and_no_line_is_lost(file, content):
    assert read_qrels(file(content)) == JUDGED


def test_beirs_ids_may_have_spaces(file):
    assert read_qrels(file("q 1\td 1 2\t1\n")) == [Qrel("q 1", "d 1 2", 1)]


@pytest.mark.parametrize(
    "content",
    [
        "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1 d2 1\n",
        "q1\td1\t1\nq1\td2\t1\nq1\td3\tyes\n",
        "q1\td1\t1\nq1\td2\t1\nq1 0 d3 1\n",
        "q1 0 d1 1\nq1 0 d2 1\nq1\td3\t1\n",
        "a header\nq1 0 d2 1\nq1 0 d2 0.5\n",
    ],
)
def test_a_bad_judgment_is_reported_by_its_line(file, content):
    with pytest.raises(CorpusError, match="line 3: expected query, document and a whole number"):
        read_qrels(file(content))
    with pytest.raises(CorpusError, match="line 2: expected query, document"):
        read_qrels(file("query-id\tcorpus-id\tscore\nq1 d2 1\n"))
