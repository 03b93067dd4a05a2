"""Checking an index: a whole one passes; every kind of damage is found, with its file and row."""

import importlib.util
import json
import shutil
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest

from indexes import Content, IndexUnfinished, IndexWriter
from retrieval import Document, build_index
from retrieval.checking import check_index
from retrieval.documents import to_payload

METADATA = {
    **{"n": 1, "year": 2.0, "flag": True, "lang": "en", "tags": ["a", "b"], "none": None},
    **{"on": date(2020, 1, 31), "at": datetime(2020, 1, 31, 12, 30, 1)},
}


@pytest.fixture(scope="session")
def anatomy():
    """The module ``anatomy.py`` of the tests of ``indexes``."""
    path = Path(__file__).parent.parent / "test_indexes/anatomy.py"
    spec = importlib.util.spec_from_file_location("anatomy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def payloads_of(documents):
    return [to_payload(document) for document in documents]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, bag_class):
    """Two segments: rows "0" … "11", of which row 3 is deleted, and rows "12" and "13"."""
    folder, bag = tmp_path_factory.mktemp("whole") / "index", bag_class()
    documents = [Document(str(n), f"word{n} text", metadata=METADATA) for n in range(14)]
    build_index(documents[:12], folder, encoder=bag)
    with IndexWriter(folder) as writer:
        writer.delete(["3"])
        vectors, _ = bag.encode_document([document.full_text for document in documents[12:]])
        writer.upsert(vectors, payloads_of(documents[12:]))
        writer.commit()
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "index"))


@pytest.fixture
def found(folder, bag, anatomy):
    """(kind of file, row, what is said) of each problem with the first segment or the manifest."""
    first = anatomy.record_of(folder)["published"]["segments"][0]["name"]

    def call(**options):
        report = check_index(folder, encoder=bag, **options)
        assert all(problem.file.split(".")[0] in (first, "MANIFEST") for problem in report.problems)
        return [(p.file.rpartition(".")[2], p.row, p.what) for p in report.problems]

    return call


def assert_like(found, expected):
    """Exactly these problems: the kind, the row, and words of what is said."""
    assert [problem[:2] for problem in found] == [problem[:2] for problem in expected]
    for (*_, what), (*_, words) in zip(found, expected, strict=True):
        assert words in what
        assert "\n" not in what


def test_a_whole_index_passes_and_its_figures_are_right(folder, bag):
    sizes = [path.stat().st_size for path in folder.glob("0*")]
    for full in (False, True):
        report = check_index(folder, encoder=bag, full=full)
        assert (report.problems, report.leftovers, report.repaired) == ((), (), ())
        assert (report.rows, report.deleted, report.segments) == (13, 1, 2)
        assert (report.files, report.bytes) == (len(sizes), sum(sizes))
        assert (report.generation, report.full) == (2, full)
        assert report.probes == "8 of 8, least cosine 1.000000"
    assert bag.asked[-8] == "How do decorators work?"


DAMAGED = {
    "vec": [("vec", None, "does not match its checksum"), ("vec", 5, "not match its checksum")],
    "docs": [("docs", None, "does not match its checksum"), ("docs", 5, "not match its checksum")],
    "rows": [("rows", None, "does not match its checksum"), ("rows", 5, "not match its checksum")],
    "del": [("del", None, "does not match its checksum")],
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_flipped_bit_is_found_with_its_row(folder, found, flip, anatomy, kind):
    part = anatomy.Anatomy(folder)
    at = {"vec": 5 * 32 * 4 + 1, "docs": int(part.offsets[5]) + 9, "rows": 8 * 25 + 4 * 5, "del": 0}
    flip(folder / f"{part.segment['name']}.{part.suffix(kind)}", at[kind])
    assert_like(found(), DAMAGED[kind])


@pytest.mark.parametrize("kind", DAMAGED)
def test_files_that_are_cut_or_grown_gone_or_links_are_named(folder, found, anatomy, kind):
    part = anatomy.Anatomy(folder)
    path = folder / f"{part.segment['name']}.{part.suffix(kind)}"
    content = path.read_bytes()
    for changed in (content[:-1], content + b"x", b""):
        path.write_bytes(changed)
        what = f"has {len(changed)} bytes, the manifest says {len(content)}"
        assert_like(found(), [(kind, None, what)])
    path.unlink()
    assert_like(found(), [(kind, None, "is missing")])
    path.symlink_to(folder / "LOCK")
    assert_like(found(), [(kind, None, "is not a regular file")])


def test_a_damaged_manifest_is_a_problem_and_a_newer_or_no_index_an_error(folder, found, flip):
    flip(folder / "MANIFEST", 50)
    assert_like(found(), [("MANIFEST", None, "is damaged: its content does not match")])
    assert_like(found(repair=True), [("MANIFEST", None, "is damaged: its content")])
    (folder / "MANIFEST").unlink()
    with pytest.raises(IndexUnfinished):
        check_index(folder)


def text(row_id, **changes):
    record = {"id": row_id, "text": "t", "title": "", "metadata": {}} | changes
    return json.dumps(record).encode() + b"\n"


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"nope", "is not a JSON object with a text"),
        (b'{"id":"\\ud800"}', "is not a JSON object with a text"),
        (b'{"id":"5"}', "is not a stored document: KeyError('text')"),
        (text("5", metadata={"n": 1.5}), "metadata 'n' is float, expected int64"),
        (text("6"), "has the id '6', but not its key"),
    ],
)
def test_a_payload_with_true_checksums_that_is_no_document_is_found(
    folder, found, anatomy, payload, words
):
    part = anatomy.Anatomy(folder)
    part.payloads[5] = payload
    part.recount()
    part.seal()
    assert_like(found(), [("rows" if "key" in words else "docs", 5, words)])


def test_a_deleted_row_needs_its_checksum_and_its_key_but_no_schema(folder, found, anatomy):
    part = anatomy.Anatomy(folder)
    part.payloads[3] = b'{"id":"3"}\n'
    part.recount()
    part.seal()
    assert found() == []
    part.payloads[3] = b'{"id":"4"}\n'
    part.recount()
    part.seal()
    assert_like(found(), [("rows", 3, "has the id '4', but not its key")])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_finite_and_of_unit_length_as_far_as_their_type_holds(
    tmp_path, bag, anatomy, dtype
):
    model = {"name": "bag", "fingerprint": bag.fingerprint}
    documents = [Document(str(n), f"word{n}") for n in range(6)]
    with IndexWriter(tmp_path / "index", Content(32, model, dtype=dtype)) as writer:
        writer.add(bag.encode_query([d.text for d in documents]), payloads_of(documents))
        writer.commit()
    tolerance = {"float32": 1e-3, "float16": 2e-3}[dtype]
    for factor, words in (
        (1 + 0.8 * tolerance, None),
        (1 - 0.8 * tolerance, None),
        (1 + 1.2 * tolerance, "has a vector of length 1.00"),
        (1 - 1.2 * tolerance, "has a vector of length 0.99"),
        (0, "has a vector of length 0, expected 1"),
        (np.nan, "length nan"),
        (np.inf, "length"),
    ):
        part = anatomy.Anatomy(tmp_path / "index")
        kept = part.vectors[4].copy()
        with np.errstate(invalid="ignore"):
            part.vectors[4] = kept.astype(float) / np.linalg.norm(kept.astype(float)) * factor
        part.recount()
        part.seal()
        report = check_index(tmp_path / "index", encoder=bag)
        assert_like(
            [(p.file.rpartition(".")[2], p.row, p.what) for p in report.problems],
            [("vec", 4, words)] if words else [],
        )
        part.vectors[4] = kept
        part.seal()
    assert report.probes == "not checked: the index has no probe texts"


def test_the_table_of_keys_is_sorted_complete_and_true(folder, found, anatomy):
    part = anatomy.Anatomy(folder)
    keys, key_rows = part.keys.copy(), part.key_rows.copy()
    part.keys, part.key_rows = keys[::-1], key_rows[::-1]
    part.seal()
    assert_like(found(), [("rows", None, "has a table of keys that is not sorted")])
    part.keys, part.key_rows = keys, key_rows.copy()
    part.key_rows[[2, 7]] = key_rows[[7, 2]]
    part.seal()
    crossed = sorted(key_rows[[2, 7]].tolist())
    assert_like(found(), [("rows", row, "but not its key") for row in crossed])
    for wrong in (key_rows[7], 12, 2**32 - 1):
        part.key_rows = key_rows.copy()
        part.key_rows[2] = wrong
        part.seal()
        assert_like(found(), [("rows", key_rows[2], "is not in the table of keys")])


@pytest.mark.parametrize(
    ("part", "row", "value", "problem"),
    [
        ("offsets", 5, 0, ("rows", 4, "has an end that is not behind its beginning")),
        ("offsets", 5, 2**63, ("rows", 5, "has an end that is not behind its beginning")),
        ("offsets", 0, 1, ("rows", None, "has offsets that do not span the .docs file")),
        ("offsets", 12, 10**6, ("rows", None, "has offsets that do not span the .docs file")),
        ("crcs", 5, 0, ("rows", 5, "does not match its checksum")),
    ],
)
def test_what_finds_and_seals_a_row_is_right(folder, found, anatomy, part, row, value, problem):
    parts = anatomy.Anatomy(folder)
    getattr(parts, part)[row] = value
    parts.seal()
    assert_like(found(), [problem])


@pytest.mark.parametrize("number", [0, 1])
def test_an_id_is_live_only_once(folder, bag, anatomy, number):
    other, twin = anatomy.Anatomy(folder, 0), anatomy.Anatomy(folder, number)
    row = (9, 0)[number]
    for row_id, expected in (("7", 1), ("3", 0)):  # row 3 is deleted: its id is free
        twin.payloads[row] = text(row_id)
        twin.rekey(row, row_id)
        twin.recount()
        twin.seal()
        problems = check_index(folder, encoder=bag).problems
        assert len(problems) == expected
        for problem in problems:
            assert problem.file == f"{twin.segment['name']}.docs"
            where = f"{other.segment['name']}.docs"
            assert problem[1:] == (row, f"has the id '7' of row 7 of {where} too")
