"""Every wait for the disk is needed: without any one of them the power cut finds what it breaks."""

import ast
import os
import shutil
import sys
from itertools import count
from pathlib import Path

import pytest

import indexes

HOME = Path(indexes.__file__).parent
WAITS = ("sync_file", "sync_folder")


def place(path):
    """Where in the sources a file or a folder is waited for, and which kind of file."""
    frame = sys._getframe()
    while frame.f_code.co_name not in WAITS:
        frame = frame.f_back
    code = frame.f_back.f_code
    return f"{Path(code.co_filename).stem}.{code.co_name}", os.path.splitext(path)[1][1:]


def in_the_sources():
    """The functions that wait for the disk."""
    for path in HOME.glob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name not in WAITS:
                calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
                if any(isinstance(call.func, ast.Name) and call.func.id in WAITS for call in calls):
                    yield f"{path.stem}.{function.name}"


class Building:
    """An index that is built from nothing, with checkpoints."""

    def __init__(self, faults, changes, put):
        self._faults = faults
        put(indexes.build, "SEGMENT_ROWS", 8)

    def run(self, folder, cut):
        self._faults.build(folder, kept=lambda rows: setattr(cut, "kept", rows))
        cut.collect(acknowledged=True)

    def check(self, folder, kept, acknowledged):
        self._faults.assert_recovers(folder, "nothing", kept=kept, acknowledged=acknowledged)


class Changing:
    """An index that is changed, with files of every kind."""

    def __init__(self, faults, changes, put):
        changes.make_small("hnsw", put)
        self._course = changes.Course(0, "hnsw")

    def run(self, folder, cut):
        def acknowledged():
            cut.kept += 1
            cut.collect()

        self._course.run(folder, acknowledged)

    def check(self, folder, kept, acknowledged):
        self._course.check(folder, kept)


@pytest.fixture(params=[Building, Changing])
def scenario(request, faults, changes, monkeypatch):
    return request.param(faults, changes, monkeypatch.setattr)


@pytest.fixture
def states(scenario, faults, power, fresh_folder, monkeypatch):
    """Run the scenario, forgetting what is said: the states that a power cut may leave, each with
    what was kept by then. Equal runs give equal states.
    """
    monkeypatch.setattr("indexes.certificate.time.perf_counter", lambda: 0.0)

    def run(forgets):
        numbers = count()
        monkeypatch.setattr("secrets.token_hex", lambda size: f"{next(numbers):0{2 * size}x}")
        folder = fresh_folder() / "a" / "index"
        cut = power.PowerCut(folder)
        with faults.Disk(folder, after=cut.after, forgets=forgets):
            scenario.run(folder, cut)
        return cut.images.items()

    return run


@pytest.fixture
def is_bad(scenario, power, tmp_path):
    """Whether something is lost in a state."""

    def check(state):
        (image, acknowledged), kept = state
        left = tmp_path / "left" / "index"
        left.parent.mkdir()
        power.after_the_cut(image, left)
        try:
            scenario.check(left, kept, acknowledged)
        except Exception:
            return True
        finally:
            shutil.rmtree(left.parent)
        return False

    return check


# What each scenario is for; the other files of a change are written as those of a build are.
TRIED = {
    Building: {
        *[("durable.make_folder", ""), ("durable.replace_file", ""), ("durable.write_new", "tmp")],
        *[("growing.create", ""), ("growing.checkpoint", "vec"), ("growing.checkpoint", "docs")],
        *[("growing.close", ""), ("durable.write_new", "rows"), ("durable.write_new", "del")],
        *[("durable.write_new", "parquet"), ("writer._publish", "")],
    },
    Changing: {("durable.write_new", suffix) for suffix in ("ann", "words", "parquet")},
}


def test_without_any_one_wait_a_power_cut_loses_something(
    states, is_bad, scenario, record_property
):
    met = set()
    whole = set(states(lambda path: met.add(place(path))))  # each of them is tried elsewhere
    tried = TRIED[type(scenario)]
    assert tried <= met
    for wait in sorted(tried):
        new = [s for s in states(lambda path, wait=wait: place(path) == wait) if s not in whole]
        assert any(map(is_bad, reversed(new))), f"nothing is lost without {wait}"
    record_property("waits for the disk left out, each noticed", len(tried))


def test_every_wait_in_the_sources_is_tried():
    assert {function for tried in TRIED.values() for function, _ in tried} == {*in_the_sources()}
