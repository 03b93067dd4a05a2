"""What a writer takes, keeps, gives back and refuses."""

import json
import shutil
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest

import indexes.lock
import indexes.view
from indexes import (
    IndexCorrupt,
    IndexExists,
    IndexLocked,
    IndexNotFound,
    IndexUnfinished,
    IndexWriter,
    RetrievalError,
    VectorError,
    View,
)
from indexes.writer import check_target


def spoilt(rows, at, value):
    """A copy of the vectors with one row multiplied or replaced."""
    vectors = rows.vectors.copy()
    vectors[at] = value(vectors[at])
    return vectors


@pytest.mark.parametrize(
    "value",
    [
        lambda row: row * 0,
        lambda row: np.where(np.arange(8) == 3, np.nan, row),
        lambda row: np.where(np.arange(8) == 3, np.inf, row),
        lambda row: np.where(np.arange(8) == 3, -np.inf, row),
        lambda row: row * np.float32(1.01),
        lambda row: row * np.float32(0.99),
        lambda row: row * np.float32(1e30),
    ],
    ids=["zero", "nan", "inf", "-inf", "long", "short", "huge"],
)
def test_a_row_without_unit_length_is_refused_by_name_with_its_batch(store, tmp_path, value):
    kept, more = store.rows(4), store.rows(5, seed=1)
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        writer.add(kept.vectors, kept.payloads)
        with pytest.raises(VectorError, match="'1-3'"):
            writer.add(spoilt(more, 3, value), more.payloads)
        assert len(writer) == 4
        assert writer.find("1-0") is None
        writer.add(more.vectors, more.payloads)
        writer.commit()
    store.assert_holds(View(tmp_path / "index", verify="full"), kept + more)


@pytest.mark.parametrize("shape", [(5, 7), (5, 9), (4, 8), (6, 8), (40,), (5, 8, 1)])
def test_rows_of_another_shape_are_refused(store, tmp_path, shape):
    rows = store.rows(5)
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        with pytest.raises(VectorError, match=r"expected vectors of shape \[5, 8\]"):
            writer.add(np.ones(shape, np.float32), rows.payloads)
        assert len(writer) == 0


def test_rows_that_reduced_precision_has_rounded_are_taken(store, tmp_path):
    rows = store.rows(50, dim=384)
    rows.vectors = rows.vectors.astype(np.float16).astype(np.float32)
    store.assert_holds(store.build(tmp_path / "index", rows), rows)


def test_a_row_over_the_limit_is_refused_with_its_batch(store, tmp_path, monkeypatch):
    monkeypatch.setattr("indexes.incoming.LONGEST_ROW", 40)
    rows = store.rows(3)
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        with pytest.raises(RetrievalError, match="limit of 40"):
            writer.add(rows.vectors, [*rows.payloads[:2], b'{"id": "%s"}' % (b"x" * 40)])
        assert len(writer) == 0


@pytest.mark.parametrize("payload", [b"{}", b"not json", b"[1]", b'{"id": "a"', b"\xff"])
def test_a_refused_payload_leaves_the_rows_around_it_whole(store, tmp_path, payload):
    before, after = store.rows(4), store.rows(4, seed=2)
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        writer.add(before.vectors, before.payloads)
        with pytest.raises((ValueError, KeyError, TypeError, RetrievalError)):
            writer.add(store.unit(3, seed=1), [b'{"id": "x"}', payload, b'{"id": "y"}'])
        writer.add(after.vectors, after.payloads)
        writer.commit()
    store.assert_holds(View(tmp_path / "index", verify="full"), before + after)


@pytest.mark.parametrize("per_segment", [3, 8, 100])
@pytest.mark.parametrize("ids", ["abcdefgh", "aaaaaaaa", "abcabcab", "abababxy", "xabcdefx"])
def test_of_rows_with_one_id_the_last_stays(store, tmp_path, segment_rows, per_segment, ids):
    segment_rows(per_segment)
    rows = store.rows(8, ids=list(ids))
    view = store.build(tmp_path / "index", rows, batch=1)
    store.assert_holds(view, rows)
    deletions = list((tmp_path / "index").glob("*.del"))
    assert len(deletions) == sum(segment.dead > 0 for segment in view.content.segments)
    assert bool(deletions) == (len(set(ids)) < 8)
    store.assert_tidy(tmp_path / "index")
    store.assert_holds(View(tmp_path / "index", verify="full"), rows)


@pytest.mark.parametrize("per_segment", [3, 100])
def test_ids_that_share_a_key_are_told_apart(
    store, tmp_path, segment_rows, monkeypatch, per_segment
):
    for module in ("growing", "segment"):
        monkeypatch.setattr(f"indexes.{module}.key_of", lambda row_id: ord(row_id) % 2)
    segment_rows(per_segment)
    rows = store.rows(9, ids=list("abcdaxybc"))
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        for at in range(9):
            writer.add(rows.vectors[at : at + 1], rows.payloads[at : at + 1])
            assert writer.find(rows.ids[at]) == at
        assert [writer.find(row_id) for row_id in "abcdxyz"] == [4, 7, 8, 3, 5, 6, None]
        writer.commit()
    view = View(tmp_path / "index", verify="full")
    store.assert_holds(view, rows)
    assert view.find("z") is None


@pytest.mark.parametrize("per_segment", [1, 4, 100])
def test_an_open_build_finds_and_gives_back_its_rows(store, tmp_path, segment_rows, per_segment):
    segment_rows(per_segment)
    rows = store.rows(11, ids=list("abcdeaffgha"))
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        for start in range(0, 11, 2):
            part = rows[start : start + 2]
            writer.add(part.vectors, part.payloads)
        assert len(writer) == 11
        assert [writer.payload(at) for at in range(11)] == rows.payloads
        found = {row_id: writer.find(row_id) for row_id in "abcdefghz"}
        assert found == dict(zip("abcdefghz", [10, 1, 2, 3, 4, 7, 8, 9, None], strict=True))
        with pytest.raises(IndexError):
            writer.payload(11)


def test_many_ids_are_all_found_again(store, tmp_path):
    rows = store.rows(20_000, dim=2)  # several runs of the table of keys
    with IndexWriter(tmp_path / "index", store.content(2)) as writer:
        for start in range(0, 20_000, 1000):
            part = rows[start : start + 1000]
            writer.add(part.vectors, part.payloads)
        assert all(writer.find(rows.ids[at]) == at for at in range(0, 20_000, 37))
        writer.commit()
    view = View(tmp_path / "index")
    assert all(view.find(rows.ids[at]) == at for at in range(0, 20_000, 37))
    assert view.find("0-20000") is None


@pytest.mark.parametrize("row_id", ["", " ", "日本", "a\nb", 'q"\\', "\u2028", "x" * 5000, "\0"])
def test_any_text_is_an_id(store, tmp_path, row_id):
    rows = store.rows(3, ids=["a", row_id, "z"])
    store.leave_unfinished(tmp_path / "index", rows)
    view = store.build(tmp_path / "index", store.rows(1, seed=1))
    assert view.find(row_id) == 1
    assert json.loads(view.payload(1))["id"] == row_id


def test_what_is_loaded_is_what_was_saved(store, tmp_path, segment_rows):
    segment_rows(40)
    rows = store.rows(100, dim=17, ids=[f"id {at % 90}" for at in range(100)])
    store.build(tmp_path / "index", rows, batch=9)
    shutil.copytree(tmp_path / "index", tmp_path / "elsewhere")
    for folder in ("index", "elsewhere"):
        for verify in ("auto", "full"):
            store.assert_holds(View(tmp_path / folder, verify=verify), rows)
            store.assert_holds(View(str(tmp_path / folder), verify=verify), rows)


def test_an_unknown_verify_is_refused(store, tmp_path):
    store.build(tmp_path / "index", store.rows(1))
    with pytest.raises(ValueError, match="'auto' or 'full', got 'half'"):
        View(tmp_path / "index", verify="half")


def test_what_belongs_to_the_owner_is_kept(store, tmp_path):
    fields = {
        "schema": [{"name": "n", "type": "int64"}],
        "probes": [{"text": "x", "vector": "AAAA"}],
        "source": {"files": [{"name": "ü", "bytes": 3}], "skipped": 0},
    }
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        writer.add(store.unit(1), store.rows(1).payloads)
        published = writer.commit(**fields)
    content = View(tmp_path / "index").content
    assert content == published
    assert {name: getattr(content, name) for name in fields} == fields
    assert content.model == {"name": "m", "fingerprint": "model-1"}
    assert content.rows == 1
    files = [path for path in (tmp_path / "index").iterdir() if path.name[0] == "0"]
    assert content.bytes == sum(path.stat().st_size for path in files)


def test_a_reader_goes_on_with_the_rows_it_opened(store, tmp_path, segment_rows):
    segment_rows(10)
    folder = tmp_path / "index"
    old, new = store.rows(25, ids=[f"i{at % 20}" for at in range(25)]), store.rows(5, seed=1)
    view = store.build(folder, old, batch=5)
    before = view.search(store.unit(3, seed=2), 20)
    names = {path.name for path in folder.glob("*.vec")}

    newer = store.build(folder, new, overwrite=True)

    assert names.isdisjoint(path.name for path in folder.iterdir())  # the old files are gone
    store.assert_tidy(folder)
    store.assert_holds(view, old)
    after = view.search(store.unit(3, seed=2), 20)
    assert (after[0].tobytes(), after[1].tobytes()) == (before[0].tobytes(), before[1].tobytes())
    store.assert_holds(newer, new)
    assert (view.manifest.generation, newer.manifest.generation) == (1, 2)


@pytest.mark.parametrize("commits", [1, 3])
def test_a_reader_that_opens_during_a_commit_sees_the_new_rows(
    store, tmp_path, monkeypatch, commits
):
    """Between reading the manifest and opening the files, the files go: again and again."""
    newest = store.rows(4, seed=commits)
    store.build(tmp_path / "index", store.rows(4))
    real, seeds = indexes.view.read_manifest, iter(range(1, commits + 1))

    def read_just_before_a_commit(folder):
        manifest = real(folder)
        if (seed := next(seeds, None)) is not None:
            with IndexWriter(folder, store.content(), overwrite=True) as writer:
                rows = store.rows(4, seed=seed)
                writer.add(rows.vectors, rows.payloads)
                writer.commit()
        return manifest

    monkeypatch.setattr("indexes.view.read_manifest", read_just_before_a_commit)
    view = View(tmp_path / "index")
    store.assert_holds(view, newest)
    assert view.manifest.generation == commits + 1


def test_a_published_index_answers_while_the_next_is_built(store, tmp_path):
    old, new = store.rows(6), store.rows(8, seed=1)
    store.build(tmp_path / "index", old)
    with IndexWriter(tmp_path / "index", store.content(), overwrite=True) as writer:
        for start in (0, 4):
            writer.add(new.vectors[start : start + 4], new.payloads[start : start + 4])
            store.assert_holds(View(tmp_path / "index", verify="full"), old)
            writer.checkpoint()
            store.assert_holds(View(tmp_path / "index", verify="full"), old)
        writer.commit()
        store.assert_holds(View(tmp_path / "index", verify="full"), new)


@pytest.mark.parametrize("mentioned", ["run the same command again", "7 rows so far"])
def test_a_folder_with_only_an_unfinished_build_says_so(store, tmp_path, mentioned):
    store.leave_unfinished(tmp_path / "index", store.rows(7))
    with pytest.raises(IndexUnfinished, match=mentioned):
        View(tmp_path / "index")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda folder: None, IndexNotFound),
        (lambda folder: folder.mkdir(), IndexNotFound),
        (lambda folder: folder.write_text("x"), IndexNotFound),
        (lambda folder: (folder.mkdir(), (folder / "a.txt").touch()), IndexNotFound),
        (lambda folder: (folder.mkdir(), (folder / "LOCK").touch()), IndexUnfinished),
        (lambda folder: (folder.mkdir(), (folder / "MANIFEST").mkdir()), IndexCorrupt),
    ],
    ids=["nothing", "empty", "file", "foreign", "lock", "folder"],
)
def test_where_there_is_no_index_opening_says_why(tmp_path, make, error):
    make(tmp_path / "index")
    with pytest.raises(error, match="index"):
        View(tmp_path / "index")


def test_a_build_that_never_reached_a_checkpoint_leaves_nothing(store, tmp_path):
    rows = store.rows(3)
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        writer.add(rows.vectors, rows.payloads)
        assert list((tmp_path / "index").glob("*.vec"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_was_there_before_stays(store, tmp_path):
    (tmp_path / "index").mkdir()
    with IndexWriter(tmp_path / "index", store.content()):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "index"]
    assert list((tmp_path / "index").iterdir()) == []


def test_an_index_goes_into_folders_that_do_not_exist_yet(store, tmp_path):
    store.build(tmp_path / "a" / "b" / "index", store.rows(2))
    store.assert_tidy(tmp_path / "a" / "b" / "index")


def test_a_closed_writer_takes_nothing(store, tmp_path):
    writer = IndexWriter(tmp_path / "index", store.content())
    writer.close()
    for use in (lambda: len(writer), writer.checkpoint, writer.commit, lambda: writer.find("a")):
        with pytest.raises(ValueError, match="closed"):
            use()
    writer.close()  # twice is once


@pytest.mark.parametrize("per_segment", [5, 20, 100])
@pytest.mark.parametrize("tail", [0, 3])
def test_a_build_is_taken_up_at_its_last_checkpoint(
    store, tmp_path, segment_rows, per_segment, tail
):
    segment_rows(per_segment)
    rows = store.rows(40, ids=[f"i{at % 33}" for at in range(40)])
    for start in range(0, 40, 10):
        with IndexWriter(tmp_path / "index", store.content()) as writer:
            assert len(writer) == start
            assert [writer.payload(at) for at in range(start)] == rows.payloads[:start]
            writer.add(rows.vectors[start : start + 10], rows.payloads[start : start + 10])
            writer.checkpoint()
            if tail:
                lost = store.rows(tail, seed=start + 1)
                writer.add(lost.vectors, lost.payloads)
        store.assert_tidy(tmp_path / "index")
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        writer.commit()
    store.assert_holds(View(tmp_path / "index", verify="full"), rows)
    store.assert_tidy(tmp_path / "index")


def test_the_rest_of_a_torn_write_is_cut_off(store, tmp_path):
    rows = store.rows(6)
    store.leave_unfinished(tmp_path / "index", rows[:4])
    for path in (*(tmp_path / "index").glob("*.vec"), *(tmp_path / "index").glob("*.docs")):
        with path.open("ab") as file:
            file.write(b'{"id": "torn')
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        writer.add(rows.vectors[4:], rows.payloads[4:])
        writer.commit()
    store.assert_holds(View(tmp_path / "index", verify="full"), rows)


@pytest.mark.parametrize("kept", range(13))
@pytest.mark.parametrize("per_segment", [3, 5, 100])
def test_an_unfinished_build_can_be_cut_anywhere(store, tmp_path, segment_rows, per_segment, kept):
    segment_rows(per_segment)
    rows, new = store.rows(12, ids=list("abcdefabcdgh")), store.rows(4, seed=1)
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        for at in range(12):
            writer.add(rows.vectors[at : at + 1], rows.payloads[at : at + 1])
        writer.checkpoint()
    with IndexWriter(tmp_path / "index", store.content(), overwrite=True) as writer:
        writer.cut(kept)
        assert len(writer) == kept
        store.assert_tidy(tmp_path / "index")
        for at in range(4):
            writer.add(new.vectors[at : at + 1], new.payloads[at : at + 1])
        writer.commit()
    store.assert_holds(View(tmp_path / "index", verify="full"), rows[:kept] + new)
    store.assert_tidy(tmp_path / "index")


@pytest.mark.parametrize(("checkpointed", "kept"), [(0, 5), (4, 3), (4, 6), (4, 8)])
def test_a_cut_counts_the_rows_since_the_last_checkpoint_too(store, tmp_path, checkpointed, kept):
    rows = store.rows(8)
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        writer.add(rows.vectors[:checkpointed], rows.payloads[:checkpointed])
        writer.checkpoint()
        writer.add(rows.vectors[checkpointed:], rows.payloads[checkpointed:])
        writer.cut(kept)
        assert [writer.payload(at) for at in range(len(writer))] == rows.payloads[:kept]


def test_a_payload_of_several_lines_is_refused_or_survives_an_interruption(store, tmp_path):
    payload = b'{\n  "id": "a"\n}'
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        try:
            writer.add(store.unit(1), [payload])
        except RetrievalError:
            assert len(writer) == 0
            return
        writer.checkpoint()
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        assert [writer.payload(at) for at in range(len(writer))] == [payload]


@pytest.mark.parametrize(
    "change", [{"fingerprint": "model-2"}, {"dim": 4}], ids=["fingerprint", "dim"]
)
def test_a_build_of_another_model_is_taken_up_by_nobody(store, tmp_path, change):
    store.leave_unfinished(tmp_path / "index", store.rows(4))
    with pytest.raises(IndexUnfinished, match="another model"):
        IndexWriter(tmp_path / "index", store.content(**change))
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        assert len(writer) == 4  # and it is still there for its own
    with IndexWriter(tmp_path / "index", store.content(**change), overwrite=True) as writer:
        assert len(writer) == 0
        store.assert_tidy(tmp_path / "index")


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 4  # of .rows: a checksum
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-5])


DAMAGE = {"flip": flip, "cut": cut_short, "empty": lambda path: path.write_bytes(b"")}


@pytest.mark.parametrize("damage", [*DAMAGE, "delete"])
@pytest.mark.parametrize(
    ("which", "suffix"),
    [(-1, "vec"), (-1, "docs"), (0, "vec"), (0, "docs"), (0, "rows")],
    ids=["growing-vec", "growing-docs", "closed-vec", "closed-docs", "closed-rows"],
)
def test_a_damaged_unfinished_build_is_refused_and_overwrite_starts_anew(
    store, tmp_path, segment_rows, damage, which, suffix
):
    segment_rows(10)
    rows, old = store.rows(16), store.rows(3, seed=1)
    folder = tmp_path / "index"
    store.build(folder, old)
    with IndexWriter(folder, store.content(), overwrite=True) as writer:
        for start in (0, 10):
            part = rows[start : start + 10]
            writer.add(part.vectors, part.payloads)
        writer.checkpoint()
    name = store.record(folder)["pending"]["segments"][which]["name"]
    DAMAGE.get(damage, lambda path: path.unlink())(folder / f"{name}.{suffix}")

    with IndexWriter(folder, store.content(), overwrite=True) as writer:
        with suppress(IndexCorrupt):  # a changed byte may show only when its row is read
            assert [writer.payload(at) for at in range(len(writer))] == []
        writer.cut(0)
        writer.add(rows.vectors, rows.payloads)
        writer.commit()
    store.assert_holds(View(folder, verify="full"), rows)
    store.assert_tidy(folder)


@pytest.mark.parametrize("damage", [*DAMAGE, "delete"])
@pytest.mark.parametrize("suffix", ["vec", "docs"])
def test_without_overwrite_a_damaged_unfinished_build_stays_as_it_is(
    store, tmp_path, damage, suffix
):
    folder = tmp_path / "index"
    store.leave_unfinished(folder, store.rows(16))
    (path,) = folder.glob(f"*.{suffix}")
    DAMAGE.get(damage, lambda path: path.unlink())(path)
    before = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name != "LOCK"}
    with pytest.raises(IndexCorrupt, match=rf"{path.name}.*overwrite"):
        IndexWriter(folder, store.content())
    after = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.name != "LOCK"}
    assert after == before


def test_a_finished_index_is_in_the_way(store, tmp_path):
    rows = store.rows(3)
    store.build(tmp_path / "index", rows)
    for refuse in (
        lambda: check_target(tmp_path / "index", overwrite=False),
        lambda: IndexWriter(tmp_path / "index", store.content()),
    ):
        with pytest.raises(IndexExists, match=r"already holds an index.*--overwrite"):
            refuse()
    check_target(tmp_path / "index", overwrite=True)
    store.assert_holds(View(tmp_path / "index"), rows)


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    "name", ["notes.txt", ".hidden", "index", "00000001", "1-abc.vec", "MANIFEST.bak", "LOCK2"]
)
def test_a_folder_with_foreign_files_is_in_the_way(store, tmp_path, name, overwrite):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / name).write_text("mine")
    with pytest.raises(IndexExists, match="not empty and not an index folder"):
        IndexWriter(tmp_path / "index", store.content(), overwrite=overwrite)
    assert [path.name for path in (tmp_path / "index").iterdir()] == [name]
    assert (tmp_path / "index" / name).read_text() == "mine"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_is_in_the_way(store, tmp_path, overwrite):
    (tmp_path / "index").write_text("mine")
    with pytest.raises(IndexExists, match="not an index folder"):
        IndexWriter(tmp_path / "index", store.content(), overwrite=overwrite)
    assert (tmp_path / "index").read_text() == "mine"


def test_what_a_crash_left_is_removed_by_the_next_writer(store, tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("LOCK", "00000001-0123abcd.vec", "00000001-0123abcd.docs", "MANIFEST.tmp"):
        (folder / name).write_bytes(b"torn")
    store.build(folder, store.rows(3))
    store.assert_tidy(folder)


def test_an_index_published_at_the_last_moment_is_in_the_way_and_unharmed(
    store, tmp_path, monkeypatch
):
    folder, rows = tmp_path / "index", store.rows(5)

    def another_is_faster(target, *, overwrite):
        check_target(target, overwrite=overwrite)
        monkeypatch.undo()
        store.build(folder, rows)

    monkeypatch.setattr("indexes.writer.check_target", another_is_faster)
    with pytest.raises(IndexExists):
        IndexWriter(folder, store.content())
    store.assert_holds(View(folder, verify="full"), rows)


HOLDER = """
import sys
from indexes import Content, IndexLocked, IndexWriter
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
try:
    writer = IndexWriter(sys.argv[1], Content(dim=8, model={"fingerprint": "model-1"}))
except IndexLocked as error:
    sys.stdout.write(f"locked: {error}\\n")
else:
    sys.stdout.write("won\\n"); sys.stdout.flush()
    sys.stdin.readline()
    writer.close()
"""


def test_of_many_writers_one_wins_and_the_others_learn_who_it_is(store, tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "index")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command, **pipes) for _ in range(4)]
    try:
        assert [child.stdout.readline() for child in children] == ["ready\n"] * 4
        for child in children:
            child.stdin.write("go\n")
            child.stdin.flush()
        said = [child.stdout.readline() for child in children]
        assert sorted(line.split(":")[0].strip() for line in said) == ["locked"] * 3 + ["won"]
        winner = children[said.index("won\n")]
        assert all(f"process {winner.pid} on " in line for line in said if line != "won\n")
        with pytest.raises(IndexLocked, match=f"written by process {winner.pid} on .*wait"):
            IndexWriter(tmp_path / "index", store.content())
        winner.kill()  # a lock ends with its process
        winner.wait()
        with IndexWriter(tmp_path / "index", store.content()) as writer:
            assert len(writer) == 0
    finally:
        for child in children:
            child.kill()
            child.communicate()


def test_a_second_writer_of_the_same_process_is_locked_out_too(store, tmp_path):
    rows = store.rows(3)
    with IndexWriter(tmp_path / "index", store.content()) as writer:
        with pytest.raises(IndexLocked):
            IndexWriter(tmp_path / "index", store.content())
        writer.add(rows.vectors, rows.payloads)
        writer.commit()
        with pytest.raises(IndexLocked):
            IndexWriter(tmp_path / "index", store.content(), overwrite=True)
    store.assert_holds(View(tmp_path / "index", verify="full"), rows)


def test_two_writers_never_hold_one_folder_when_a_third_goes_away(store, tmp_path, monkeypatch):
    folder = tmp_path / "index"
    folder.mkdir()
    first = IndexWriter(folder, store.content())
    lock = indexes.lock._lock

    def lock_after_the_first_has_gone(file):
        monkeypatch.setattr("indexes.lock._lock", lock)
        first.close()
        lock(file)

    monkeypatch.setattr("indexes.lock._lock", lock_after_the_first_has_gone)
    holding = []
    for _ in range(2):
        try:
            holding.append(IndexWriter(folder, store.content()))
        except IndexLocked:
            continue
    for writer in holding:
        writer.close()
    assert len(holding) == 1
