"""Checking an index: its model, its counts, leftovers, unfinished builds, repairs."""

import base64
import hashlib
import json

import numpy as np
import pytest

import indexes.audit
from indexes import Content, IndexLocked, IndexWriter
from indexes.lock import WriterLock
from retrieval import Document, ModelError, build_index
from retrieval.checking import MOST, REPAIRS, check_index

DOCUMENTS = [Document(str(n), f"word{n} text", metadata={"n": n}) for n in range(30)]


@pytest.fixture
def folder(tmp_path, bag):
    build_index(DOCUMENTS, tmp_path / "index", encoder=bag)
    return tmp_path / "index"


def rewrite(folder, change):
    """Change the manifest and give it the checksum that fits."""
    record = json.loads((folder / "MANIFEST").read_bytes().splitlines()[0])
    change(record["published"])
    raw = json.dumps(record).encode()
    digest = hashlib.sha256(raw).hexdigest().encode()
    (folder / "MANIFEST").write_bytes(b"%s\n%s\n" % (raw, digest))


def at_cosine(vector, cosine):
    """A unit vector at this cosine to another."""
    other = np.roll(vector, 1) - np.roll(vector, 1) @ vector * vector
    return cosine * vector + np.sqrt(1 - cosine**2) * other / np.linalg.norm(other)


def turn_probe(folder, number, cosine, **model):
    def change(content):
        probe = content["probes"][number]
        vector = np.frombuffer(base64.b64decode(probe["vector"]), "<f4").astype(float)
        turned = at_cosine(vector, cosine).astype("<f4")
        probe["vector"] = base64.b64encode(turned.tobytes()).decode()
        content["model"] |= model

    rewrite(folder, change)


@pytest.mark.parametrize(
    ("cosine", "dtype", "agrees"),
    [
        (0.99995, "float32", True),
        (0.99985, "float32", False),
        (0.99985, "bfloat16", True),
        (0.9982, "bfloat16", True),
        (0.9978, "bfloat16", False),
    ],
)
def test_a_model_that_gives_other_vectors_is_refused(folder, bag, cosine, dtype, agrees):
    turn_probe(folder, 2, cosine, dtype=dtype)
    report = check_index(folder, encoder=bag)
    assert report.probes == f"{7 + agrees} of 8, least cosine {cosine:.6f}"
    assert len(report.problems) == (not agrees)
    for problem in report.problems:
        assert problem[:2] == ("MANIFEST", None)
        text = "'Transmission of heat through a boundary '"
        assert f"probe text {text} at cosine {cosine:.4f}" in problem.what


def test_the_number_format_of_the_encoder_counts_too(folder, bag):
    turn_probe(folder, 2, 0.9985)
    assert check_index(folder, encoder=bag).problems
    bag.record = {"dtype": "bfloat16"}
    assert check_index(folder, encoder=bag).problems == ()


@pytest.mark.parametrize(
    ("vector", "words"),
    [
        ("", "probe 3 has no vector of 32 numbers"),
        ("!", "cannot be compared"),
        (base64.b64encode(bytes(128)).decode(), "probe 3 has no vector of 32 numbers"),
        (base64.b64encode(b"\0\0\xc0\x7f" * 32).decode(), "probe 3 has no vector of 32 numbers"),
    ],
)
def test_probe_texts_without_a_vector_are_a_problem(folder, bag, vector, words):
    rewrite(folder, lambda content: content["probes"][3].update(vector=vector))
    (problem,) = check_index(folder, encoder=bag).problems
    assert problem.file == "MANIFEST"
    assert words in problem.what


def test_an_encoder_that_fails_is_a_problem_and_another_one_an_error(folder, bag, bag_class):
    def fail(texts):
        raise ModelError("its weights may be damaged")

    bag.encode_document = fail
    report = check_index(folder, encoder=bag)
    assert report.probes == "failed"
    assert "its weights may be damaged" in report.problems[0].what
    with pytest.raises(ModelError, match="built with BagOfWords, not with BagOfWords: another fin"):
        check_index(folder, encoder=bag_class(name="other"))


def test_without_the_model_the_rest_is_checked(folder):
    report = check_index(folder)
    assert report.problems == ()
    assert report.probes.startswith("not checked: the index was built with an encoder of its own")
    rewrite(folder, lambda content: content["model"].update(name="evil/repo", folder="nowhere"))
    report = check_index(folder)
    assert report.problems == ()
    assert report.probes.startswith("not checked: model 'evil/repo' was not found in: a path")


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        ({"rows": 29}, {"vec": "its 29 rows need 3712", "rows": "its 29 rows need 704"}),
        ({"dead": 1}, {"00000009.del": "its 30 rows need 4"}),
        ({"dead": 2}, {"00000009.del": "does not fit its segment"}),
    ],
    ids=str,
)
@pytest.mark.parametrize("deleted", [[7, 30], [8, 7], [7, 7]], ids=str)
def test_counts_that_do_not_go_together_are_found(folder, bag, change, problems, deleted):
    def alter(content):
        (segment,) = content["segments"]
        segment |= change
        if "dead" in change:
            raw = np.array(deleted, "<u4").tobytes()
            (folder / f"{segment['name']}.00000009.del").write_bytes(raw)
            entry = {"bytes": 8, "sha256": hashlib.sha256(raw).hexdigest()}
            segment["files"]["00000009.del"] = entry

    rewrite(folder, alter)
    found = check_index(folder, encoder=bag).problems
    assert {problem.file.split(".", 1)[1] for problem in found} == problems.keys()
    for suffix, words in problems.items():
        assert any(p.file.endswith(suffix) and words in p.what for p in found), found


def test_a_large_file_of_no_rows_is_hashed_when_all_is_asked_for(folder, bag, monkeypatch):
    def add(content):
        (segment,) = content["segments"]
        (folder / f"{segment['name']}.extra").write_bytes(b"other")
        segment["files"]["extra"] = {"bytes": 5, "sha256": hashlib.sha256(b"extra").hexdigest()}

    rewrite(folder, add)
    name = next(folder.glob("*.vec")).stem
    expected = f"{name}.extra: is damaged: it does not match its checksum"
    monkeypatch.setattr(indexes.audit, "SMALL", 5)
    assert list(map(str, check_index(folder, encoder=bag).problems)) == [expected]
    monkeypatch.setattr(indexes.audit, "SMALL", 4)
    assert check_index(folder, encoder=bag).problems == ()
    assert list(map(str, check_index(folder, encoder=bag, full=True).problems)) == [expected]
    for kind in ("vec", "docs"):  # a row's checksum needs no hash to fail
        path = next(folder.glob(f"*.{kind}"))
        content = path.read_bytes()
        path.write_bytes(content[:-3] + b"???")
        what = f"{path.name}: row 29 does not match its checksum"
        assert list(map(str, check_index(folder, encoder=bag).problems)) == [what]
        path.write_bytes(content)


def test_of_a_file_that_is_all_wrong_the_first_rows_are_named(folder, bag):
    path = next(folder.glob("*.vec"))
    path.write_bytes(bytes(path.stat().st_size))
    problems = check_index(folder, encoder=bag).problems
    rows = [problem.row for problem in problems]
    assert rows == [None, *range(MOST - 1), None]
    assert problems[-1].what == f"has {30 + 1 - MOST} more problems"


def tree(folder):
    return {
        p.name: (p.read_bytes(), p.stat().st_mtime_ns, p.stat().st_ino) for p in folder.iterdir()
    }


def unfinished(folder, bag):
    content = Content(32, {"name": "m", "fingerprint": bag.fingerprint})
    with IndexWriter(folder, content, overwrite=True) as writer:
        writer.add(bag.encode_query(["one"]), [b'{"id":"1"}'])
        writer.checkpoint()


def test_an_unfinished_build_beside_the_index_is_kept_and_may_grow_but_not_shrink(folder, bag):
    before = {path.name for path in folder.iterdir()}
    unfinished(folder, bag)
    vec, docs = (
        next(p for p in folder.glob(f"*.{k}") if p.name not in before) for k in ("vec", "docs")
    )
    vec.write_bytes(vec.read_bytes() + b"a torn row")
    report = check_index(folder, encoder=bag, repair=True)
    assert (report.rows, report.problems, report.repaired) == (30, (), ())
    vec.write_bytes(b"short")
    docs.unlink()
    found = sorted(map(str, check_index(folder, encoder=bag).problems))
    assert found == [
        f"{docs.name}: is missing, the unfinished build cannot go on",
        f"{vec.name}: has 5 bytes, the unfinished build had 128",
    ]


LEFT = ["00000009-0123abcd.docs", "00000009-0123abcd.vec", "MANIFEST.tmp"]


def test_leftovers_are_harmless_and_removed_only_by_a_repair_that_has_the_lock(folder, bag):
    for name in LEFT:
        (folder / name).write_bytes(b"left by a crash")
    (folder / "notes.txt").write_text("mine")
    before = tree(folder)
    report = check_index(folder, encoder=bag)
    assert (list(report.leftovers), report.problems) == (LEFT, ())
    assert tree(folder) == before
    lock = WriterLock(folder)
    with pytest.raises(IndexLocked):
        check_index(folder, encoder=bag, repair=True)
    lock.release()
    assert tree(folder).keys() == before.keys()
    report = check_index(folder, encoder=bag, repair=True)
    done = [f"removed {name}, left by a writer that did not finish" for name in LEFT]
    assert (list(report.repaired), report.leftovers) == (done, ())
    after = tree(folder)
    assert after.keys() == before.keys() - set(LEFT)
    assert all(after[name] == before[name] for name in after.keys() - {"LOCK"})
    WriterLock(folder).release()  # it is free again


def test_a_repair_of_another_kind_sees_the_problems_and_is_followed_by_a_second_check(
    folder, bag, monkeypatch
):
    path = next(folder.glob("*.rows"))
    content = path.read_bytes()

    def restore(session, problems):
        for problem in problems:
            if problem.row is None:
                (session.folder / problem.file).write_bytes(content)
                yield f"wrote {problem.file}"

    path.write_bytes(content[:-1])
    assert len(check_index(folder, encoder=bag, repair=True).problems) == 1
    monkeypatch.setattr("retrieval.checking.REPAIRS", [*REPAIRS, restore])
    report = check_index(folder, encoder=bag, repair=True)
    assert (report.problems, report.repaired) == ((), (f"wrote {path.name}",))


@pytest.mark.parametrize("suffix", ["cols.parquet", "ann"])
def test_files_that_can_be_made_again_are(tmp_path, bag, monkeypatch, suffix):
    monkeypatch.setattr("indexes.certifying.EXACT_BELOW", 20)
    folder = tmp_path / "index"
    build_index(DOCUMENTS, folder, encoder=bag, kind="HNSW4")
    [path] = folder.glob(f"*.{suffix}")
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    [problem] = check_index(folder, encoder=bag).problems
    assert problem.file == path.name
    report = check_index(folder, encoder=bag, repair=True)
    assert report.repaired == (f"made {path.name} again from the rows",)
    assert report.problems == ()
    assert path.read_bytes() == sound
    assert report.generation == 2


def test_nothing_is_made_from_rows_that_are_damaged(folder, bag):
    [columns], [docs] = (list(folder.glob(f"*.{suffix}")) for suffix in ("cols.parquet", "docs"))
    docs.write_bytes(docs.read_bytes().replace(b"word7 ", b"word8 "))
    columns.unlink()
    before = {problem.file for problem in check_index(folder, encoder=bag).problems}
    assert before == {columns.name, docs.name}
    report = check_index(folder, encoder=bag, repair=True)
    assert report.repaired == ()
    assert not columns.exists()
