"""What is left of an index when its process, its disk or the power failed in a change of it."""

import errno
import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from indexes import IndexWriteFailed, IndexWriter

SOAK = os.environ.get("RETRIEVAL_SOAK") == "1"
# For each flavour of index how many courses; and at which operations of them a process is killed.
COURSES = [("flat", seed) for seed in range(3 if SOAK else 1)]
COURSES += [("hnsw", seed) for seed in range(2 if SOAK else 1)]
EVERY = {"flat": 1, "hnsw": 1} if SOAK else {"flat": 6, "hnsw": 20}
# Of the states after a power cut one in so many is tried.
STATES = {"flat": 1, "hnsw": 1} if SOAK else {"flat": 10, "hnsw": 25}


@pytest.fixture(params=COURSES, ids=lambda given: f"{given[0]}-{given[1]}")
def given(request):
    """The flavour of an index and the seed of what happens to it."""
    return request.param


@pytest.fixture
def course(given, changes, monkeypatch):
    flavour, seed = given
    changes.make_small(flavour, monkeypatch.setattr)
    return changes.Course(seed, flavour)


def test_a_process_killed_at_any_operation_loses_nothing_acknowledged(
    fresh_folder, given, record_property
):
    flavour, seed = given
    script = str(Path(__file__).parent / "changes.py")
    command = [sys.executable, script, fresh_folder(), flavour, seed, EVERY[flavour]]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # it forks
    ran = subprocess.run(list(map(str, command)), capture_output=True, env=environment)
    assert (ran.returncode, ran.stderr) == (0, b"")
    seen = json.loads(ran.stdout)
    assert seen["problems"] == []
    assert seen["whole"] == seen["operations"] // EVERY[flavour] > 300 / EVERY[flavour]
    assert seen["half"] > 0
    for way in ("whole", "half"):
        record_property(f"kill -9 at a durable operation of a {flavour} index, {way}", seen[way])


def test_a_power_cut_at_any_moment_loses_nothing_acknowledged(
    faults, power, tmp_path, course, given, record_property
):
    cut = power.PowerCut(tmp_path / "index")

    def acknowledged():
        cut.kept += 1
        cut.collect()

    with faults.Disk(tmp_path / "index", after=cut.after):
        course.run(tmp_path / "index", acknowledged)
    images = list(cut.images.items())
    assert len(images) > 1_000
    problems = []
    tried = range(0, len(images), STATES[given[0]])
    for number in tried:
        (image, _), commits = images[number]
        left = tmp_path / "left"
        power.after_the_cut(image, left)
        try:
            course.check(left, commits)
        except Exception as error:
            problems.append(f"image {number}: {error!r}")
        shutil.rmtree(left, ignore_errors=True)
    assert problems == []
    record_property(f"states after a power cut, while a {given[0]} index is changed", len(tried))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_refuses_leaves_what_was_acknowledged(
    faults, tmp_path, course, given, code, soak, record_property
):
    step = 7 if soak else 37
    at, done = 0, False
    while not done:
        at += step
        folder, commits = tmp_path / str(at) / "index", []
        folder.parent.mkdir()
        disk = faults.Disk(folder)

        def strike(kind, name, half, disk=disk, at=at):
            writes = kind in ("create", "write", "fsync", "replace")
            if writes and (len(disk.log) >= at if code == errno.ENOSPC else len(disk.log) == at):
                half()
                raise OSError(code, os.strerror(code))

        disk.before = strike
        with disk, suppress(IndexWriteFailed):
            course.run(folder, lambda commits=commits: commits.append(1))
            done = len(disk.log) < at
        course.check(folder, len(commits))
    record_property(f"a disk that is full or fails, a {given[0]} index", at // step)


class FailsOnce:
    """Before a disk's operations: the n-th wait fails."""

    def __init__(self, number):
        self.left = number

    def __call__(self, kind, name, half):
        self.left -= kind == "fsync"
        if kind == "fsync" and self.left == 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_wait_that_fails_is_never_acknowledged(
    faults, tmp_path, course, given, soak, record_property
):
    step = 1 if soak else 15
    for tried in range(1_000):
        folder, commits, fail = tmp_path / str(tried) / "index", [], FailsOnce(1 + tried * step)
        folder.parent.mkdir()
        with faults.Disk(folder, before=fail), suppress(IndexWriteFailed):
            course.run(folder, lambda commits=commits: commits.append(1))
        course.check(folder, len(commits))
        if fail.left > 0:  # there are no more
            break
    assert tried * step > 100
    record_property(f"waits for the disk that failed, a {given[0]} index", tried)


@pytest.mark.parametrize("suffix", ["vec", "docs", "rows", "del", "cols.parquet", "MANIFEST.tmp"])
def test_what_could_not_be_waited_for_is_not_waited_for_again(faults, tmp_path, suffix):
    """The disk may have dropped it, and says so only once."""
    folder, lost = tmp_path / "index", set()

    def fail(kind, name, half):
        if kind == "fsync" and name.endswith(suffix):
            assert name not in lost, f"{name} is waited for again"
            if not failed:
                failed.append(name)
                lost.add(name)
                raise OSError(errno.EIO, os.strerror(errno.EIO))
        if kind == "create":
            lost.discard(name)

    failed = []
    with faults.Disk(folder, before=fail), IndexWriter(folder, faults.CONTENT) as writer:
        writer.add(faults.NEW.vectors, faults.NEW.payloads)
        with pytest.raises(IndexWriteFailed, match="Input/output error"):
            writer.commit()
        with suppress(IndexWriteFailed, ValueError):
            writer.commit()
    assert failed
    faults.assert_recovers(folder, "nothing")
