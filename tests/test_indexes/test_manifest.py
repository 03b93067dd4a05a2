"""A manifest that is damaged, too new, or made to do harm is refused, and nothing else happens."""

import copy
import hashlib
import json
import os
import signal
import zlib
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from indexes import (
    IndexCorrupt,
    IndexNotFound,
    IndexTooNew,
    IndexWriter,
    RetrievalError,
    View,
    read_manifest,
)
from indexes.durable import replace_file, write_new


class Hangs(BaseException):
    """Not an Exception, so that nobody takes it for a failing disk."""


@contextmanager
def soon():
    """A hang becomes a failure."""

    def stop(number, frame):
        raise Hangs

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 3)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(store, tmp_path, segment_rows):
    """An index of two segments, with dead rows, and an unfinished build of two more."""
    segment_rows(6)
    folder = tmp_path / "index"
    store.build(folder, store.rows(9, ids=list("abcabdaxy")), batch=3)
    with IndexWriter(folder, store.content(), overwrite=True) as writer:
        for start in (0, 3, 6):
            rows = store.rows(3, seed=start)
            writer.add(rows.vectors, rows.payloads)
        writer.checkpoint(source={"files": []})
    return folder


def use(store, folder):
    """Open, search, look up, read everything; then go on with the unfinished build."""
    with suppress(RetrievalError):
        view = View(folder)
        view.search(store.unit(2), 4)
        for position in view.positions():
            view.payload(int(position))
        for row_id in "abcdxyz":
            view.find(row_id)
    with suppress(RetrievalError):
        View(folder, verify="full")
    with (
        suppress(RetrievalError),
        IndexWriter(folder, store.content(), overwrite=True) as writer,
    ):
        for position in range(len(writer)):
            writer.payload(position)
        writer.cut(min(1, len(writer)))


def leaves(record, path=()):
    """The places of a JSON value, from the top down."""
    yield path
    for key in record if isinstance(record, dict) else range(len(record)):
        if isinstance(record[key], (dict, list)):
            yield from leaves(record[key], (*path, key))
        else:
            yield (*path, key)


def changed(record, path, value):
    """The record with another value at a place."""
    if not path:
        return value
    record = copy.deepcopy(record)
    place = record
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return record


def without(record, path):
    record = copy.deepcopy(record)
    place = record
    for key in path[:-1]:
        place = place[key]
    del place[path[-1]]
    return record


def test_a_manifest_is_one_line_of_json_and_its_checksum(folder):
    text, digest, rest = (folder / "MANIFEST").read_bytes().split(b"\n")
    assert hashlib.sha256(text).hexdigest().encode() == digest
    assert rest == b""
    record = json.loads(text)
    assert record["format"] == 1
    assert set(record) == {"format", "generation", "published", "pending"}
    manifest = read_manifest(folder)
    assert (manifest.generation, manifest.published.rows, manifest.pending.rows) == (1, 6, 9)


PUBLISHED = ("published",)
SEGMENT = ("published", "segments", 0)
HOSTILE = [
    ((), None),
    ((), []),
    ((), 7),
    ((), "text"),
    ((), {}),
    (("format",), "1"),
    (("format",), None),
    (("format",), -1),
    (("format",), True),
    (("format",), 1.0),
    (("generation",), -1),
    (("generation",), True),
    (("generation",), 1.0),
    (("generation",), "1"),
    (("generation",), None),
    (PUBLISHED, []),
    (PUBLISHED, "x"),
    (PUBLISHED, {}),
    (PUBLISHED, 1),
    ((*PUBLISHED, "dim"), 0),
    ((*PUBLISHED, "dim"), -8),
    ((*PUBLISHED, "dim"), 8.0),
    ((*PUBLISHED, "dim"), True),
    ((*PUBLISHED, "dim"), 9),
    ((*PUBLISHED, "dim"), 10**30),
    ((*PUBLISHED, "dim"), "8"),
    ((*PUBLISHED, "dim"), None),
    ((*PUBLISHED, "dim"), float("nan")),
    ((*PUBLISHED, "dtype"), "float16"),
    ((*PUBLISHED, "dtype"), None),
    ((*PUBLISHED, "dtype"), ["float32"]),
    ((*PUBLISHED, "model"), None),
    ((*PUBLISHED, "model"), {}),
    ((*PUBLISHED, "model"), "model-1"),
    ((*PUBLISHED, "model"), ["fingerprint"]),
    ((*PUBLISHED, "model"), {"fingerprint": 7}),
    ((*PUBLISHED, "model"), {"fingerprint": None}),
    ((*PUBLISHED, "segments"), None),
    ((*PUBLISHED, "segments"), "ab"),
    ((*PUBLISHED, "segments"), {"a": 1}),
    ((*PUBLISHED, "segments"), 3),
    ((*PUBLISHED, "unknown"), 3),
    (SEGMENT, None),
    (SEGMENT, []),
    (SEGMENT, {}),
    ((*SEGMENT, "unknown"), 1),
    ((*SEGMENT, "name"), "../../etc/passwd"),
    ((*SEGMENT, "name"), "/etc/passwd"),
    ((*SEGMENT, "name"), "00000001-0123abcd/../x"),
    ((*SEGMENT, "name"), "00000001-0123abcd\n"),
    ((*SEGMENT, "name"), "00000001-0123ABCD"),
    ((*SEGMENT, "name"), "00000001-0123abcd\0"),
    ((*SEGMENT, "name"), "٠٠٠٠٠٠٠١-0123abcd"),
    ((*SEGMENT, "name"), ""),
    ((*SEGMENT, "name"), None),
    ((*SEGMENT, "name"), 1),
    ((*SEGMENT, "name"), "x" * 100_000),
    ((*SEGMENT, "rows"), -1),
    ((*SEGMENT, "rows"), 5),
    ((*SEGMENT, "rows"), 7),
    ((*SEGMENT, "rows"), 6.0),
    ((*SEGMENT, "rows"), True),
    ((*SEGMENT, "rows"), "6"),
    ((*SEGMENT, "rows"), None),
    ((*SEGMENT, "rows"), 2**31),
    ((*SEGMENT, "rows"), 10**18),
    ((*SEGMENT, "rows"), float("inf")),
    ((*SEGMENT, "dead"), -1),
    ((*SEGMENT, "dead"), 0),
    ((*SEGMENT, "dead"), 7),
    ((*SEGMENT, "dead"), 2.0),
    ((*SEGMENT, "dead"), True),
    ((*SEGMENT, "files"), None),
    ((*SEGMENT, "files"), []),
    ((*SEGMENT, "files"), {}),
    ((*SEGMENT, "files", "../vec"), {"bytes": 0, "sha256": ""}),
    ((*SEGMENT, "files", "a/b"), {"bytes": 0, "sha256": ""}),
    ((*SEGMENT, "files", "..del"), {"bytes": 0, "sha256": ""}),
    ((*SEGMENT, "files", ""), {"bytes": 0, "sha256": ""}),
    ((*SEGMENT, "files", "x\0"), {"bytes": 0, "sha256": ""}),
    ((*SEGMENT, "files", "missing"), {"bytes": 0, "sha256": ""}),
    ((*SEGMENT, "files", "y" * 300), {"bytes": 0, "sha256": ""}),
    ((*SEGMENT, "files", "vec"), None),
    ((*SEGMENT, "files", "vec"), [192, "x"]),
    ((*SEGMENT, "files", "vec", "bytes"), -1),
    ((*SEGMENT, "files", "vec", "bytes"), 0),
    ((*SEGMENT, "files", "vec", "bytes"), 192.0),
    ((*SEGMENT, "files", "vec", "bytes"), True),
    ((*SEGMENT, "files", "vec", "bytes"), "192"),
    ((*SEGMENT, "files", "vec", "bytes"), 2**63),
    ((*SEGMENT, "files", "docs", "bytes"), 10**30),
    ((*SEGMENT, "files", "rows", "bytes"), 8),
]


@pytest.mark.parametrize(("path", "value"), HOSTILE, ids=lambda part: repr(part)[-50:])
def test_a_hostile_manifest_with_a_true_checksum_is_refused(store, folder, path, value):
    record = changed(store.record(folder), path, value)
    store.seal(folder, record)
    with pytest.raises(IndexCorrupt), soon():
        View(folder)
    with soon():
        use(store, folder)


OPTIONAL = {"dead", "dtype", "kind", "schema", "probes", "source", "name", "sha256"}
OPTIONAL |= {"cols.parquet", "recall", "ann", "sidecars"}


@pytest.mark.parametrize("which", ["published", "pending"])
def test_a_missing_key_is_damage_unless_it_has_a_default(store, folder, which):
    record = store.record(folder)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    problems = []
    for path in list(leaves(record)):
        if not path or (path[0] != which and len(path) > 1) or isinstance(path[-1], int):
            continue
        for name, content in kept.items():
            (folder / name).write_bytes(content)
        store.seal(folder, without(record, path))
        try:
            with soon():
                use(store, folder)
            if path[0] == "published" and path[-1] not in OPTIONAL:
                store.seal(folder, without(record, path))
                View(folder)
                problems.append(f"without {path}: it opens")
        except IndexCorrupt:
            continue
        except Exception as error:
            problems.append(f"without {path}: {error!r}")
    assert problems == []


VALUES = [
    None,
    True,
    -1,
    0,
    1,
    5,
    2**31,
    2**63,
    10**40,
    0.5,
    float("nan"),
    float("-inf"),
    "",
    "x",
    "../../../etc/passwd",
    "00000001-0123abcd",
    "float32",
    [],
    [[]],
    {},
    {"fingerprint": "x"},
    {"bytes": 0, "sha256": ""},
]


def test_no_value_anywhere_in_a_manifest_leads_to_another_error(store, folder):
    record = store.record(folder)
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    outside = sorted(folder.parent.iterdir())
    rng = np.random.default_rng(0)
    tried, problems = 0, []
    for path in leaves(record):
        for at in rng.permutation(len(VALUES))[:9]:
            for name, content in kept.items():
                (folder / name).write_bytes(content)
            store.seal(folder, changed(record, path, VALUES[at]))
            tried += 1
            try:
                with soon():
                    use(store, folder)
            except Exception as error:
                problems.append(f"{path} = {VALUES[at]!r}: {error!r}")
    assert tried > 500
    assert problems == []
    assert sorted(folder.parent.iterdir()) == outside


@pytest.mark.parametrize("format", [2, 3, 10**20])
def test_a_newer_format_is_named_whatever_else_it_holds(store, folder, format):
    store.seal(folder, {"format": format, "something": "else"})
    for attempt in (
        lambda: View(folder),
        lambda: IndexWriter(folder, store.content(), overwrite=True),
    ):
        with pytest.raises(IndexTooNew, match=f"format {format}; this version reads 1: upgrade"):
            attempt()
    assert len(list(folder.glob("*.vec"))) == 4  # what it cannot read it does not clear away


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[" * 200_000,
        b'{"format":' + b"[" * 200_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"format": 1, "generation": ' + b"9" * 10_000 + b"}",
        b'{"format": 1e400}',
        b'{"format": 1}' * 2,
    ],
    ids=range(10),
)
def test_a_first_line_that_is_no_manifest_is_refused(store, folder, text):
    store.seal(folder, text)
    for attempt in (
        lambda: View(folder),
        lambda: IndexWriter(folder, store.content(), overwrite=True),
    ):
        with pytest.raises(IndexCorrupt, match="MANIFEST"), soon():
            attempt()


def test_a_manifest_over_the_limit_is_refused_without_being_read_whole(store, folder):
    with (folder / "MANIFEST").open("r+b") as file:
        file.truncate(2**33)
    with pytest.raises(IndexCorrupt, match="MANIFEST"), soon():
        View(folder)


def test_an_empty_manifest_with_a_true_checksum_is_no_index(store, folder):
    store.seal(folder, {"format": 1, "generation": 0, "published": None, "pending": None})
    with pytest.raises(IndexNotFound, match="empty manifest"):
        View(folder)


def as_link(path):
    target = path.parent.parent / "target"
    path.rename(target)
    path.symlink_to(target)


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_loop(path):
    path.unlink()
    path.symlink_to(path)


def as_endless(path):
    path.unlink()
    path.symlink_to("/dev/zero")


ODD = {"link": as_link, "pipe": as_pipe, "folder": as_folder, "loop": as_loop, "zero": as_endless}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("suffix", ["vec", "docs", "rows", "del"])
def test_only_a_regular_file_is_opened_as_a_segments(store, folder, suffix, odd):
    name = store.record(folder)["published"]["segments"][0]["name"]
    (path,) = folder.glob(f"{name}*.{suffix}")
    ODD[odd](path)
    for verify in ("auto", "full"):
        with pytest.raises(IndexCorrupt, match=path.name), soon():
            View(folder, verify=verify)


@pytest.mark.parametrize("odd", sorted(set(ODD) - {"link"}))
def test_only_a_regular_file_is_read_as_the_manifest(store, folder, odd):
    ODD[odd](folder / "MANIFEST")
    for attempt in (
        lambda: View(folder),
        lambda: IndexWriter(folder, store.content(), overwrite=True),
    ):
        with pytest.raises(RetrievalError, match="MANIFEST"), soon():
            attempt()


@pytest.mark.parametrize("name", ["LOCK", "MANIFEST.tmp"])
def test_a_writer_follows_no_link_out_of_the_folder(store, folder, name):
    victim = folder.parent / "victim"
    victim.write_text("precious")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(victim)
    with (
        suppress(RetrievalError),
        IndexWriter(folder, store.content(), overwrite=True) as writer,
    ):
        writer.checkpoint()
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("suffix", ["vec", "docs"])
def test_taking_up_a_build_follows_no_link_out_of_the_folder(store, tmp_path, suffix):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    store.leave_unfinished(tmp_path / "index", store.rows(1))
    record = store.record(tmp_path / "index")
    (segment,) = record["pending"]["segments"]
    nothing = {"bytes": 0, "sha256": hashlib.sha256(b"").hexdigest()}
    segment |= {"rows": 0, "files": {"vec": nothing, "docs": nothing}}
    store.seal(tmp_path / "index", record)
    path = tmp_path / "index" / f"{segment['name']}.{suffix}"
    path.unlink()
    path.symlink_to(victim)
    with suppress(RetrievalError):
        IndexWriter(tmp_path / "index", store.content()).close()
    assert victim.read_text() == "precious"


def test_deleted_rows_of_an_odd_size_are_damage(store, tmp_path):
    store.build(tmp_path / "index", store.rows(4, ids=list("aabc")))
    (suffix,) = [path.name.split(".", 1)[1] for path in (tmp_path / "index").glob("*.del")]
    for content in (b"\0" * 5, b"\0" * 3, b"\xff" * 4, b"\0" * 8, b""):
        store.reseal(tmp_path / "index", suffix, content)
        with pytest.raises(IndexCorrupt, match="del"):
            View(tmp_path / "index")


@pytest.mark.parametrize("payload", [b"{}", b"[1]", b"7", b"nope", b"\xff", b"[" * 50_000, b""])
def test_a_strangers_payload_is_refused_as_damage(store, tmp_path, payload):
    rows = store.rows(1, ids=["a"])
    store.build(tmp_path / "index", rows)
    (old,) = (tmp_path / "index").glob("*.rows")
    index = bytearray(old.read_bytes())  # offsets 0 and 8, the key at 16, the CRC at 24, a row
    index[8:16] = np.uint64(len(payload)).tobytes()
    index[24:28] = np.uint32(zlib.crc32(rows.vectors.tobytes(), zlib.crc32(payload))).tobytes()
    store.reseal(tmp_path / "index", "docs", payload)
    store.reseal(tmp_path / "index", "rows", bytes(index))
    with pytest.raises(IndexCorrupt):
        View(tmp_path / "index", verify="full").find("a")


def test_replacing_a_file_shows_the_old_bytes_or_the_new(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    for old, new in ((b"old", b""), (b"", b"new" * 1000)):
        with path.open("rb") as reader:
            replace_file(path, new)
            assert reader.read() == old  # who had it open goes on with that
        assert path.read_bytes() == new
        assert list(tmp_path.iterdir()) == [path]
    (tmp_path / "file.tmp").write_bytes(b"left by a crash")
    replace_file(path, b"newest")
    assert path.read_bytes() == b"newest"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_is_in_the_way_of_a_new_one_stays(tmp_path):
    path = Path(tmp_path / "file")
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        write_new(path, [b"other"])
    assert path.read_bytes() == b"mine"
