"""A process that is killed at any moment loses nothing that a checkpoint has kept."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def killed(fresh_folder):
    """What ``killed.py`` saw, with and without an index that the build replaces."""
    script = str(Path(__file__).parent / "killed.py")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # it forks
    children = {}
    for state in ("nothing", "published"):
        command = [sys.executable, script, str(fresh_folder()), "1", state]
        children[state] = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    return {state: json.loads(child.communicate()[0]) for state, child in children.items()}


@pytest.mark.parametrize("state", ["nothing", "published"])
def test_a_killed_build_ends_as_an_uninterrupted_one_and_encodes_nothing_twice(
    killed, state, record_property
):
    builds = killed[state]
    record_property("kill -9 at random moments of builds", sum(seen["kills"] for seen in builds))
    assert sum(seen["kills"] for seen in builds) >= 16  # 32 in both
    assert sum(seen["resumed"] for seen in builds) >= 5
    assert sum(seen["reads"] for seen in builds) >= 50
    assert [seen["wrong"] for seen in builds if seen["wrong"]] == []
    assert [seen["encoded_again"] for seen in builds if seen["encoded_again"]] == []
