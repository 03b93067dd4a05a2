"""File systems that are full, read-only, or not for everybody."""

import errno
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from indexes import IndexWriteFailed, IndexWriter, RetrievalError, View


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 600 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("a file system can only be mounted by root, and not in every container")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("verify", ["auto", "full"])
def test_an_index_on_a_file_system_that_is_read_only_answers(store, small_disk, verify):
    folder, rows = small_disk / "index", store.rows(5)
    store.build(folder, rows)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    store.assert_holds(View(folder, verify=verify), rows)
    refused = r"Read-only file system; choose a folder that you may write to"
    with pytest.raises(IndexWriteFailed, match=refused):
        IndexWriter(folder)
    with pytest.raises(IndexWriteFailed, match=refused):
        IndexWriter(small_disk / "other", store.content())
    store.assert_holds(View(folder, verify=verify), rows)


def test_a_file_system_that_turns_read_only_leaves_the_old_rows(faults, tmp_path):
    """As one does after an error of its disk; where nothing can be mounted too."""
    folder = tmp_path / "index"
    faults.begin(folder, "published")
    disk = faults.Disk(folder)

    def strike(kind, name, half):
        if len(disk.log) >= 12:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    disk.before = strike
    with disk, pytest.raises(IndexWriteFailed, match="Read-only file system; choose a folder"):
        faults.build(folder)
    assert faults.what_answers(folder) == "old"
    faults.assert_recovers(folder, "published")


def write_all(store, folder, rows):
    with IndexWriter(folder, store.content(rows.vectors.shape[1]), overwrite=True) as writer:
        for start in range(0, len(rows), 100):
            part = rows[start : start + 100]
            writer.add(part.vectors, part.payloads)
            writer.checkpoint()
        writer.commit()


def test_on_a_full_disk_the_old_index_answers_and_space_lets_the_build_go_on(store, small_disk):
    folder, old, new = small_disk / "index", store.rows(200, 64), store.rows(3000, 64, seed=1)
    write_all(store, folder, old)
    with pytest.raises(IndexWriteFailed, match=r"No space left on device; free some space and run"):
        write_all(store, folder, new)
    store.assert_holds(View(folder, verify="full"), old)
    with IndexWriter(folder, store.content(64), overwrite=True) as writer:
        assert len(writer) > 300
        writer.cut(300)
        writer.commit()
    store.assert_holds(View(folder, verify="full"), new[:300])
    store.assert_tidy(folder)


def test_a_build_that_does_not_fit_at_all_leaves_nothing(store, small_disk):
    with pytest.raises(IndexWriteFailed, match="No space left on device"):
        write_all(store, small_disk / "index", store.rows(100, 2048))
    assert list(small_disk.iterdir()) == []


@pytest.fixture
def as_nobody():
    """A folder that anybody can reach, and a process that is not root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    root = os.geteuid() == 0
    yield folder, lambda: os.seteuid(65534) if root else None
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    for path in (path for path in folder.rglob("*") if path.is_dir()):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_nothing_is_written_where_writing_is_not_allowed(store, as_nobody):
    folder, become_nobody = as_nobody
    folder.chmod(0o555)
    become_nobody()
    for target in (folder, folder / "index", folder / "a" / "index"):
        with pytest.raises(IndexWriteFailed, match="Permission denied; choose a folder that you"):
            IndexWriter(target, store.content())
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("verify", ["auto", "full"])
def test_an_index_that_may_only_be_read_answers(store, as_nobody, verify):
    folder, become_nobody = as_nobody
    rows = store.rows(5)
    store.build(folder / "index", rows)
    for path in (folder / "index").iterdir():
        path.chmod(0o444)
    (folder / "index").chmod(0o555)
    become_nobody()
    store.assert_holds(View(folder / "index", verify=verify), rows)
    with pytest.raises(IndexWriteFailed, match="Permission denied"):
        IndexWriter(folder / "index", store.content(), overwrite=True)
    store.assert_holds(View(folder / "index", verify=verify), rows)


@pytest.mark.parametrize("closed", ["parent", "folder", "MANIFEST", "vec", "docs", "rows"])
def test_an_index_that_may_not_be_read_is_refused_as_such(store, as_nobody, closed):
    folder, become_nobody = as_nobody
    store.build(folder / "index", store.rows(5))
    closing = {"parent": folder, "folder": folder / "index"}
    (found,) = [closing[closed]] if closed in closing else (folder / "index").glob(f"*{closed}")
    found.chmod(0)
    become_nobody()
    with pytest.raises(RetrievalError, match="Permission denied"):
        View(folder / "index")
    with pytest.raises(RetrievalError, match="Permission denied"):
        IndexWriter(folder / "index", store.content(), overwrite=True)
