"""The command line as a process of its own: pipes, terminals, signals."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

# The real command line around an encoder that is there at once and takes a pause if asked to.
STAND_IN = """
import hashlib, os, signal, sys, time, types
import numpy as np

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background job

class Encoder:
    dim = 16
    max_length = 256
    fingerprint = "stand-in"
    def __init__(self, model="", **how): pass
    @classmethod
    def from_record(cls, record, **options): return cls()
    def encode_document(self, texts):
        time.sleep(float(os.environ.get("PAUSE", "0")))
        return self.encode_query(texts), np.zeros(len(texts), np.int32)
    def encode_query(self, texts):
        rows = np.full((len(texts), 16), 1e-3, np.float32)
        for row, text in zip(rows, texts):
            for word in text.split():
                row[hashlib.blake2b(word.encode()).digest()[0] % 16] += 1
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

assembly = types.ModuleType("retrieval.assembly")
assembly.Encoder = Encoder
sys.modules["retrieval.assembly"] = assembly
from retrieval.cli import main
main()
"""
ROWS = 2_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder with a corpus, its index, and the command line in a file."""
    path = tmp_path_factory.mktemp("work")
    (path / "retrieval.py.txt").write_text(STAND_IN)
    rows = ({"id": str(n), "text": f"word{n} common"} for n in range(ROWS))
    (path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    subprocess.run(command("index", "corpus.jsonl"), cwd=path, check=True, capture_output=True)
    return path


def command(*arguments: str) -> list[str]:
    return [sys.executable, "retrieval.py.txt", *arguments]


@pytest.mark.parametrize(
    "arguments",
    [["query", "common", "-k", str(ROWS)], ["embed", "corpus.jsonl"], ["info"], ["--help"]],
    ids=lambda arguments: arguments[0],
)
def test_a_reader_that_has_seen_enough_ends_a_command_in_silence(arguments, folder):
    reading, writing = os.pipe()
    with subprocess.Popen(
        command(*arguments), cwd=folder, stdout=writing, stderr=subprocess.PIPE
    ) as process:
        os.close(writing)
        if arguments[0] in ("query", "embed"):
            assert os.read(reading, 10).startswith(b"{")
        os.close(reading)
        assert process.stderr.read() == b""
    assert process.returncode == 0


def on_a_terminal(arguments: list[str], folder: Path, **environment: str) -> tuple[int, str]:
    """The exit code of a command with a terminal for input and output, and what it shows there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **environment},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65_536):
            shown += part
    except OSError:  # Linux reports the closed other end so
        pass
    os.close(ours)
    return process.wait(), shown.decode().replace("\r\n", "\n")


def test_a_terminal_gets_a_table_and_a_pipe_gets_json(folder):
    code, shown = on_a_terminal(["query", "common", "-k", "2"], folder, TERM="dumb")
    assert code == 0
    assert shown.startswith("common\n")
    assert shown.count(" common") == 2
    assert not {"{", "\x1b"} & set(shown)
    piped = subprocess.run(
        command("query", "common", "-k", "2"), cwd=folder, capture_output=True, text=True
    )
    assert [json.loads(line)["rank"] for line in piped.stdout.splitlines()] == [1, 2]


def test_a_query_without_a_question_on_a_terminal_does_not_wait_for_one(folder):
    code, shown = on_a_terminal(["query"], folder)
    assert code == 2
    assert shown.endswith("\nError: give a question, or pipe questions in, one a line\n")


def test_a_build_on_a_terminal_shows_its_progress_and_takes_it_away(folder):
    code, shown = on_a_terminal(
        ["index", "corpus.jsonl", "-i", "shown"], folder, PAUSE="0.3", TERM="xterm"
    )
    assert code == 0
    *lines, last = shown.split("\r\x1b[K")
    assert re.fullmatch(r"[\d,]+ rows, [\d,]+/s, \d+%, \d:\d\d left", lines[1])
    assert re.fullmatch(r"2,000 rows in shown, \d\.\d s, [\d,]+ rows/s\n", last)


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "retrieval: interrupted; what was kept goes on with the same command"),
        (signal.SIGTERM, 143, ""),
    ],
    ids=["SIGINT", "SIGTERM"],
)
def test_a_signal_ends_a_build_that_goes_on_where_it_stopped(number, code, said, folder):
    index = folder / f"after-{code}"
    build = command("index", "corpus.jsonl", "-i", index.name)
    process = subprocess.Popen(
        build,
        cwd=folder,
        env={**os.environ, "PAUSE": "0.3"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while not list(index.glob("*.docs")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)  # within the second window
    process.send_signal(number)
    began = time.monotonic()
    _, err = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert (process.returncode, err.strip()) == (code, said)
    asked = subprocess.run(
        command("info", "-i", index.name), cwd=folder, capture_output=True, text=True
    )
    kept = int(re.search(r"is not finished \((\d+) rows so far\)", asked.stderr)[1])
    assert kept in range(256, ROWS, 256)
    again = subprocess.run(build, cwd=folder, capture_output=True, text=True)
    assert again.returncode == 0
    assert again.stderr.endswith(f" rows/s, {kept:,} of them encoded before the interruption\n")


@pytest.mark.parametrize("verb", ["index", "embed"])
def test_a_named_pipe_is_read_like_a_file(verb, folder):
    pipe = f"{verb}.jsonl"
    os.mkfifo(folder / pipe)
    options = ["-i", "piped"] if verb == "index" else ["-o", "piped.npy"]
    with subprocess.Popen(["sh", "-c", f"cat corpus.jsonl > {pipe}"], cwd=folder) as writer:
        ran = subprocess.run(command(verb, pipe, *options), cwd=folder, capture_output=True)
        writer.kill()  # where the command did not read it all
    assert ran.stderr.decode().startswith("2,000 ")
    assert ran.returncode == 0


def test_standard_output_that_is_full_is_an_error(folder):
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            command("query", "common"), cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ran.returncode == 1
    assert ran.stderr == "retrieval: [Errno 28] No space left on device\n"


def test_json_lines_are_utf8_whatever_the_locale_says(folder):
    (folder / "words.jsonl").write_text(json.dumps({"text": "façade 日本語"}))
    subprocess.run(
        command("index", "words.jsonl", "-i", "words"), cwd=folder, check=True, capture_output=True
    )
    ran = subprocess.run(
        command("query", "word", "-i", "words"),
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
        capture_output=True,
    )
    assert ran.stderr == b""
    assert json.loads(ran.stdout.decode())["text"] == "façade 日本語"
