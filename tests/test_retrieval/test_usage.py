"""Wrong usage, and what --debug adds."""

import io
import re
import subprocess
import sys

import pytest

USAGE = [  # the command, and what the message names
    (["query", ""], "the question is empty"),
    (["query", " \n"], "the question is empty"),
    (["query", "word", "-k", "0"], "'--top-k'"),
    (["query", "word", "-k", "-1"], "'--top-k'"),
    (["query", "word", "-k", "many"], "'many'"),
    (["query", "word", "--min-score", "high"], "'high'"),
    (["query", "word", "--nope"], "--nope"),
    (["query", "two", "words"], "words"),
    (["nope"], "'nope'"),
    (["index"], "'FILES...'"),
    (["index", "c.jsonl", "--device", "tpu"], "'auto', 'cpu', 'cuda', 'mps'"),
    (["index", "c.jsonl", "--on-error", "ignore"], "'raise', 'skip'"),
    (["index", "c.jsonl", "--max-length", "2"], "'--max-length'"),
    (["embed", "c.jsonl", "-o", "."], "'.' is a directory"),
]


@pytest.mark.parametrize(("arguments", "named"), USAGE, ids=lambda value: str(value))
def test_wrong_usage_ends_with_2_and_a_hint(arguments, named, cli):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    usage, hint, empty, error = err.splitlines()
    assert usage.startswith("Usage: retrieval ")
    assert re.fullmatch(r"Try 'retrieval.* --help' for help\.", hint)
    assert empty == ""
    assert error.startswith("Error: ")
    assert named in error


def test_a_query_without_a_question_on_a_terminal_is_wrong_usage(cli, monkeypatch):
    from retrieval.cli import run

    terminal = io.TextIOWrapper(io.BytesIO())
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    assert run(["query"]) == 2


def test_debug_shows_the_traceback(tmp_path):
    ran = [
        subprocess.run(
            [sys.executable, "-m", "retrieval", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        for arguments in (["info"], ["--debug", "info"], ["info", "--debug"])
    ]
    last = "retrieval-index does not exist; make an index: retrieval index FILE -i retrieval-index"
    assert [done.returncode for done in ran] == [1, 1, 1]
    assert ran[0].stderr == f"retrieval: {last}\n"
    for done in ran[1:]:
        assert done.stderr.startswith("Traceback (most recent call last):\n")
        assert done.stderr.endswith(f"indexes.errors.IndexNotFound: {last}\n")
