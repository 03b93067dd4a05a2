"""What survives a power cut, a failing disk, and an interruption at any moment."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import indexes
from indexes import IndexWriter

STATES = ("nothing", "published", "unfinished")
GROWS = {"create", "mkdir", "write", "fsync", "replace"}  # what a full disk may refuse


@pytest.fixture
def small_segments(segment_rows):
    segment_rows(8)


def suffix(name):
    return name.rpartition(".")[2]


def assert_waited_for(log, suffixes):
    """Files, then their names in the folder, then the manifest's bytes, then its name."""
    log = [(kind, suffix(name)) for kind, name in log]

    def last(*step):
        return max(at for at, taken in enumerate(log) if taken == step)

    manifest = last("write", "tmp")
    for kind in suffixes:
        assert last("write", kind) < last("fsync", kind) < manifest
    created = max(last("create", kind) for kind in suffixes)
    assert ("fsync", "") in log[created:manifest]  # of the folder
    assert manifest < last("fsync", "tmp") < last("replace", "MANIFEST") < last("fsync", "")


def test_data_then_names_then_the_manifest_are_waited_for_in_this_order(store, faults, tmp_path):
    rows = store.rows(6, ids=list("abcabd"))
    with (
        faults.Disk(tmp_path / "index") as disk,
        IndexWriter(tmp_path / "index", store.content()) as writer,
    ):
        writer.add(rows.vectors, rows.payloads)
        writer.checkpoint()
        assert_waited_for(disk.log, ["vec", "docs"])
        begun = len(disk.log)
        writer.commit()
        assert_waited_for(disk.log[begun:], ["rows", "del"])
        begun = len(disk.log)
    assert disk.log[begun:] == []  # nothing is left to be done after the answer


def test_old_files_go_only_after_the_new_manifest_is_safe(store, faults, tmp_path):
    store.build(tmp_path / "index", store.rows(3))
    old = {path.name for path in (tmp_path / "index").glob("0*")}
    rows = store.rows(4, seed=1)
    with (
        faults.Disk(tmp_path / "index") as disk,
        IndexWriter(tmp_path / "index", store.content(), overwrite=True) as writer,
    ):
        writer.add(rows.vectors, rows.payloads)
        writer.commit()
    removed = [at for at, step in enumerate(disk.log) if step[0] == "unlink" and step[1] in old]
    safe = [at for at, step in enumerate(disk.log) if step == ("fsync", ".")]
    assert len(removed) == 4
    assert min(removed) > max(safe) > disk.log.index(("replace", "MANIFEST"))


@pytest.mark.parametrize("place", ["index", "a/index", "a/b/index"])
def test_the_names_of_new_folders_are_waited_for_too(store, faults, tmp_path, place):
    folder = tmp_path / place
    with faults.Disk(folder) as disk:
        store.build(folder, store.rows(3))
    last_made = max(at for at, (kind, _) in enumerate(disk.log) if kind == "mkdir")
    waited_for = {name for kind, name in disk.log[last_made:] if kind == "fsync"}
    assert {path.name for path in folder.parents if tmp_path in (path, *path.parents)} <= waited_for


@pytest.mark.parametrize("state", STATES)
def test_a_power_cut_at_any_moment_leaves_the_old_rows_or_the_new(
    faults, power, tmp_path, small_segments, state, soak, record_property
):
    folder = tmp_path / "index"
    faults.begin(folder, state)
    cut = power.PowerCut(folder)
    with faults.Disk(folder, after=cut.after):
        faults.build(folder, kept=lambda rows: setattr(cut, "kept", rows))
    cut.collect(acknowledged=True)
    assert len(cut.images) > 50
    problems = []
    tried = list(cut.images.items())[:: 1 if soak else 8]
    for number, ((image, acknowledged), kept) in enumerate(tried):
        left = tmp_path / "left" / str(number) / "index"
        left.parent.mkdir(parents=True)
        power.after_the_cut(image, left)
        try:
            faults.assert_recovers(left, state, kept=kept, acknowledged=acknowledged)
        except Exception as error:
            problems.append(f"image {number} of {len(tried)}: {error!r}")
        shutil.rmtree(left.parent)
    assert problems == []
    record_property("states after a power cut, while an index is built", len(tried))


def full_from(at, log, kind, half):
    """A disk that is full from one operation on; what had begun is done by half."""
    if len(log) >= at and kind in GROWS:
        half()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def failing_at(at, log, kind, half):
    """A disk that fails once."""
    if len(log) == at:
        half()
        raise OSError(errno.EIO, os.strerror(errno.EIO))


# When the fault strikes, what it does, and what the message says.
FAULTS = {
    "full": ("before", full_from, "No space left on device; free some space"),
    "failing": ("before", failing_at, "Input/output error"),
    "late": ("after", failing_at, "Input/output error"),  # done, and yet reported as failed
}


class Failure(NamedTuple):
    """What a fault at the n-th operation led to."""

    number: int
    error: str | None  # what the build raised
    orphans: set[str]  # files that it left behind and no manifest names
    wrong: str | None  # what was wrong with the folder then, or with a further build


def fail_at(number, faults, folder, state, fault):
    """Build on a disk that fails at one operation; None when the build has fewer."""
    when, act, _ = FAULTS[fault]
    disk = faults.Disk(folder)

    def strike(kind, name, half=lambda: None):
        if when == "before" or kind != "create":
            act(number, disk.log, kind, half)

    setattr(disk, when, strike)
    error = wrong = None
    with disk:
        try:
            faults.build(folder)
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
    if error is None and len(disk.log) < number:
        return None
    orphans = orphans_in(folder)
    try:
        faults.assert_recovers(folder, state, acknowledged=error is None)
    except Exception as found:
        wrong = repr(found)
    return Failure(number, error, orphans, wrong)


def orphans_in(folder):
    if not folder.exists():
        return set()
    named = {"LOCK"}
    if (folder / "MANIFEST").exists():
        record = json.loads((folder / "MANIFEST").read_bytes().splitlines()[0])
        segments = [s for c in (record["published"], record["pending"]) if c for s in c["segments"]]
        named |= {f"{s['name']}.{f}" for s in segments for f in s["files"]} | {"MANIFEST"}
    return {path.name for path in folder.iterdir()} - named


FAILED = [
    ("nothing", "full"),
    ("published", "late"),
    ("unfinished", "full"),
    ("unfinished", "failing"),
]


@pytest.fixture(scope="module", params=FAILED, ids="-".join)
def failures(request, faults, fresh_folder, soak):
    """A fault at the n-th operation of a build, for every n (or every third), and the files that
    stayed open.
    """
    state, fault = request.param
    root = fresh_folder()
    seen, left_open = [], []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexes.build.SEGMENT_ROWS", 8)
        faults.begin(root / "base" / "index", state)
        patch.setattr("sys.unraisablehook", lambda args: left_open.append(str(args.exc_value)))
        for number in range(1, 1000, 1 if soak else 3):
            folder = root / str(number) / "index"
            shutil.copytree(root / "base", folder.parent)
            seen.append(fail_at(number, faults, folder, state, fault))
            if seen[-1] is None:
                break
            shutil.rmtree(folder.parent)
    assert len(seen) > (50 if soak else 17)
    return fault, seen[:-1], left_open


def test_after_a_failed_write_the_old_rows_answer_and_a_further_build_succeeds(failures):
    _, seen, _ = failures
    assert [failure for failure in seen if failure.wrong] == []


def test_a_failed_write_is_reported_as_what_it_is(failures):
    fault, seen, _ = failures
    errors = [failure.error for failure in seen if failure.error]
    assert len(errors) > 12
    message = FAULTS[fault][2]
    assert [e for e in errors if not e.startswith("IndexWriteFailed") or message not in e] == []


def test_after_a_failed_write_no_file_stays_open(failures):
    assert failures[2] == []


def test_a_full_disk_is_not_filled_with_orphans(failures):
    fault, seen, _ = failures
    orphans = {failure.number: failure.orphans for failure in seen if failure.orphans}
    assert fault != "full" or orphans == {}


class Interruption:
    """Ctrl-C at a line of ``indexes``: at one visit of it, or nowhere (then it counts visits)."""

    def __init__(self, line=None, visit=1):
        self.visits = Counter()
        self._at = line, visit

    def _trace(self, frame, event, argument):
        where = frame.f_code.co_filename
        if not where.startswith(HOME):
            return None
        if event == "line":
            line = f"{Path(where).name}:{frame.f_lineno}"
            self.visits[line] += 1
            if (line, self.visits[line]) == self._at:
                raise KeyboardInterrupt
        return self._trace

    def __enter__(self):
        self._before = sys.gettrace()
        sys.settrace(self._trace)
        return self

    def __exit__(self, *_):
        sys.settrace(self._before)


HOME = str(Path(indexes.__file__).parent)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interruption_at_any_line_leaves_the_old_rows_or_the_new(
    faults, tmp_path, small_segments, soak
):
    faults.begin(tmp_path / "base" / "index", "unfinished")
    shutil.copytree(tmp_path / "base", tmp_path / "counted")
    with faults.Disk(tmp_path / "counted" / "index"), Interruption() as counted:
        faults.build(tmp_path / "counted" / "index")
    rng = np.random.default_rng(1)
    visits = {line: int(rng.integers(1, n + 1)) for line, n in counted.visits.items()}
    # Every line of the room that leads, and some of the others.
    some = 4 if soak else 12
    lines = [line for at, line in enumerate(visits) if line.startswith("writer") or at % some == 0]
    problems = []
    for line in lines:
        folder = tmp_path / "one" / "index"
        shutil.copytree(tmp_path / "base", folder.parent)
        with faults.Disk(folder), Interruption(line, visits[line]), suppress(KeyboardInterrupt):
            faults.build(folder)
        try:
            faults.assert_recovers(folder, "unfinished")
        except Exception as error:
            problems.append(f"{line}, visit {visits[line]}: {error!r}")
        shutil.rmtree(folder.parent)
    assert len(lines) > 100
    assert problems == []


@pytest.fixture(scope="module")
def ended(fresh_folder, soak):
    """What ``faults.py`` saw when it killed a process at every operation of a build, or every
    second.
    """
    script = str(Path(__file__).parent / "faults.py")
    children = {}
    for state in ("nothing", "unfinished"):
        command = [sys.executable, script, str(fresh_folder()), state, "1" if soak else "2"]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # it forks
        children[state] = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    return {state: json.loads(child.communicate()[0]) for state, child in children.items()}


@pytest.mark.parametrize("state", ["nothing", "unfinished"])
def test_a_process_killed_at_any_operation_leaves_the_old_rows_or_the_new(
    ended, state, record_property
):
    record_property("kill -9, while an index is built", ended[state]["kills"])
    assert ended[state]["kills"] > 25
    assert ended[state]["status"] == 0  # and the last one got through
    assert ended[state]["problems"] == []
