"""What was opened before a fork is refused in the child, where it would hang."""

import os
import subprocess
import sys

import pytest

from indexes.errors import ForkedError, RetrievalError
from indexes.forks import Process

# The parent uses FAISS and torch with two threads each: in the child their next use never returns.
FORK = """
import os, signal, sys
import numpy as np, torch, faiss
from indexes import View
from indexes.errors import ForkedError
from indexes.forks import Process
from retrieval import Searcher

what, folder = sys.argv[1:]
queries = np.eye(8, dtype=np.float32)


class Encoder:
    dim, max_length, fingerprint = 8, 9, "model-1"

    def encode_query(self, texts):
        torch.ones(600, 600) @ torch.ones(600, 600)
        return queries[: len(texts)]


guard, view, searcher = Process(), View(folder), Searcher(folder, encoder=Encoder())
index = view.to_faiss()


def use_guard():
    guard.check()
    torch.ones(600, 600) @ torch.ones(600, 600)
    return index.search(np.tile(queries, (200, 1)), 3)


uses = {
    "guard": use_guard,
    "view": lambda: view.search(queries, 3),
    "searcher": lambda: searcher.search("word"),
}
uses["guard"]()  # and with it FAISS and torch, whatever is tried in the child
uses[what]()
child = os.fork()
if child:
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    uses[what]()  # the parent goes on
    sys.exit(code)
signal.alarm(30)  # a hang is a failure
try:
    uses[what]()
except ForkedError as error:
    opened = View(folder)  # what the child opens itself serves it
    found = opened.find("0-0"), opened.payload(0)[:7]
    print(os.getppid(), error, found, sep="|", flush=True)
    os._exit(0)
os._exit(7)
"""


@pytest.mark.parametrize("what", ["guard", "view", "searcher"])
def test_in_a_forked_child_what_the_parent_opened_is_refused_at_once(store, tmp_path, what):
    rows = store.rows(40)
    rows.payloads = [
        b'{"id":"0-%d","text":"t","title":"","metadata":{}}' % n for n in range(len(rows))
    ]
    store.build(tmp_path / "index", rows)
    ran = subprocess.run(
        [sys.executable, "-c", FORK, what, tmp_path / "index"],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    parent, message, found = ran.stdout.strip().split("|")
    assert message == (
        f"opened before a fork in process {parent}; "
        "open it again in the child, or start workers by spawn"
    )
    assert found == '(0, b\'{"id":"\')'


def test_in_its_own_process_nothing_is_refused(monkeypatch):
    guard = Process()
    guard.check()
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(ForkedError, match=r"opened before a fork in process \d+; open it again"):
        guard.check()
    Process().check()


def test_the_error_is_one_of_ours_and_a_runtime_error():
    assert issubclass(ForkedError, RetrievalError)
    assert issubclass(ForkedError, RuntimeError)
