"""Documents to an index folder: windows, checkpoints, resuming, duplicates, metadata, memory."""

import base64
import errno
import json
import os
import subprocess
import sys
from datetime import date, datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from indexes import (
    IndexCorrupt,
    IndexExists,
    IndexLocked,
    IndexUnfinished,
    IndexWriteFailed,
    IndexWriter,
    VectorError,
    View,
    read_manifest,
)
from retrieval import CorpusError, Document, QueryError, Searcher, TextEncoder, build_index
from retrieval.passages import LETTER
from retrieval.probes import PROBES
from retrieval.report import BuildReport, Progress


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Four documents a window, a checkpoint every second window, ten rows a segment."""
    monkeypatch.setattr("retrieval.building.WINDOW", 4)
    monkeypatch.setattr("retrieval.building.CHECKPOINT_ROWS", 8)
    monkeypatch.setattr("indexes.build.SEGMENT_ROWS", 10)
    monkeypatch.setattr("os.fsync", lambda handle: None)  # no test pulls the plug


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


def document(at, text=None, **fields):
    return Document(f"d{at}", text or f"words of passage {at}", **fields)


def documents(n):
    return [document(at) for at in range(n)]


def asked(encoder):
    """The documents that an encoder was asked for, without the probes and what measures it."""
    return [text for text in encoder.asked if text not in PROBES and not text.startswith(LETTER)]


class Stops:
    """An encoder that raises when it reaches a text."""

    def __init__(self, encoder, at, error):
        self._encoder = encoder
        self._at = at
        self._error = error

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_document(self, texts):
        if any(self._at in text.split() for text in texts):
            raise self._error
        return self._encoder.encode_document(texts)


class OutOfOrder(Exception):
    pass


def interrupt(source, folder, bag_class, at, error=KeyboardInterrupt, **options):
    """Begin a build that stops when it reaches a text; how many rows it has kept."""
    encoder = Stops(bag_class(max_length=5), at, error)
    with pytest.raises(error):
        build_index(source, folder, encoder=encoder, **options)
    return read_manifest(folder).pending.rows if (folder / "MANIFEST").exists() else 0


def ids(folder, encoder):
    """The ids in the index, in order."""
    view = View(folder, verify="full")
    return [json.loads(view.payload(at))["id"] for at in view.positions()]


def rows(folder):
    """Every live row: payload and vector."""
    view = View(folder, verify="full")
    vectors = view.to_faiss().reconstruct_n(0, len(view))
    return [
        (view.payload(at), v.tobytes()) for at, v in zip(view.positions(), vectors, strict=True)
    ]


def write_jsonl(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.mark.parametrize("n", [1, 3, 4, 5, 8, 23])
def test_every_document_is_found_by_its_own_words(folder, bag, n):
    given = documents(n)
    report = build_index(given, folder, encoder=bag)
    assert isinstance(bag, TextEncoder)
    with Searcher(folder, encoder=bag, verify="full") as searcher:
        assert len(searcher) == report.rows == n
        assert searcher.get([d.id for d in given]) == given
        for one in given:
            (hit,) = searcher.search(one.full_text, 1)
            assert (hit.rank, hit.id, hit.text) == (1, one.id, one.text)
            assert hit.score == pytest.approx(1, abs=1e-6)
    assert asked(bag) == [d.full_text for d in given]


def test_what_is_encoded_is_title_and_text(folder, bag):
    build_index(
        [Document("a", "the text", "A title"), Document("b", "", "Only")], folder, encoder=bag
    )
    assert asked(bag) == ["A title the text", "Only"]
    assert Searcher(folder, encoder=bag).get(["a"])[0].title == "A title"


def test_every_source_of_the_same_documents_gives_the_same_rows(tmp_path, bag_class):
    given = documents(9)
    records = [{"id": d.id, "text": d.text} for d in given]
    one = write_jsonl(tmp_path / "a.jsonl", records[:5])
    two = write_jsonl(tmp_path / "b.jsonl", records[5:])
    sources = {
        "list": given,
        "tuple": tuple(given),
        "generator": (d for d in given),
        "paths": [one, two],
        "strings": [str(one), str(two)],
        "mixed": (one, str(two)),
        "glob": str(tmp_path / "*.jsonl"),
        "path": write_jsonl(tmp_path / "all.ndjson", records),
    }
    reports = {
        name: build_index(source, tmp_path / name, encoder=bag_class())
        for name, source in sources.items()
    }
    assert {report.rows for report in reports.values()} == {9}
    first = rows(tmp_path / "list")
    assert all(rows(tmp_path / name) == first for name in sources)
    assert read_manifest(tmp_path / "paths").published.source["files"] == [
        {"name": str(path), "bytes": path.stat().st_size} for path in (one, two)
    ]


def test_the_report_and_the_manifest_say_what_was_done(folder, bag_class):
    long = document(1, "one two three four five six seven eight")
    longer = document(3, "a b c d e f g h i j")
    empty = Document("e", " ")
    report = build_index(
        [document(0), long, empty, document(2), longer],
        folder,
        encoder=bag_class(max_length=5),
        passages="none",
    )
    assert report == BuildReport(4, 1, 2, 8, report.seconds, 0)
    assert 0 < report.seconds < 10
    content = read_manifest(folder).published
    assert content.source == {
        "files": [],
        "passages": "none",
        "skipped": 1,
        "truncated": 2,
        "truncated_tokens": 8,
    }
    assert content.model == {"name": "BagOfWords", "fingerprint": "bag-32-5", "max_length": 5}
    assert (content.rows, content.dim, content.dtype, content.kind) == (4, 32, "float32", "auto")


def test_the_manifest_keeps_probe_texts_with_their_vectors(folder, bag):
    build_index(documents(2), folder, encoder=bag)
    probes = read_manifest(folder).published.probes
    assert tuple(probe["text"] for probe in probes) == PROBES
    vectors = [np.frombuffer(base64.b64decode(probe["vector"]), "<f4") for probe in probes]
    np.testing.assert_array_equal(vectors, bag.encode_query(PROBES))


def test_progress_is_told_after_every_window(folder, bag):
    told = []
    build_index(documents(10), folder, encoder=bag, progress=told.append)
    assert [p.rows for p in told] == [p.encoded for p in told] == [4, 8, 10]
    assert all(isinstance(p, Progress) and p.fraction is None for p in told)
    seconds = [p.seconds for p in told]
    assert seconds == sorted(seconds)


def test_progress_knows_how_much_of_the_files_is_read(tmp_path, folder, bag):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"text {at}"} for at in range(23)])
    told = []
    build_index(path, folder, encoder=bag, progress=told.append)
    fractions = [p.fraction for p in told]
    assert fractions == sorted(fractions)
    assert all(0 < fraction <= 1 for fraction in fractions)


def test_progress_after_resuming_tells_all_rows_and_the_newly_encoded(folder, bag, bag_class):
    assert interrupt(documents(14), folder, bag_class, "9") == 8
    told = []
    bag_class_of_five = bag_class(max_length=5)
    build_index(documents(14), folder, encoder=bag_class_of_five, progress=told.append)
    assert [(p.rows, p.encoded) for p in told] == [(12, 4), (14, 6)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("at", range(0, 23, 3))
def test_an_interrupted_build_keeps_whole_windows_and_goes_on_there(
    tmp_path, folder, bag_class, at, error
):
    given = documents(23)
    kept = interrupt(iter(given), folder, bag_class, str(at), error)
    assert kept == at // 4 * 4
    assert folder.exists() == (kept > 0)

    encoder = bag_class(max_length=5)
    report = build_index(iter(given), folder, encoder=encoder)

    assert (report.rows, report.resumed) == (23, kept)
    assert asked(encoder) == [d.text for d in given[kept:]]
    build_index(given, tmp_path / "whole", encoder=bag_class(max_length=5))
    assert rows(folder) == rows(tmp_path / "whole")


@pytest.mark.parametrize("at", range(0, 23, 3))
def test_a_failing_encoder_leaves_the_last_checkpoint_or_nothing(folder, bag_class, at):
    kept = interrupt(documents(23), folder, bag_class, str(at), OutOfOrder)
    assert kept == at // 8 * 8
    assert folder.exists() == (kept > 0)
    encoder = bag_class(max_length=5)
    assert build_index(documents(23), folder, encoder=encoder).resumed == kept
    assert asked(encoder) == [d.text for d in documents(23)[kept:]]
    assert ids(folder, encoder) == [d.id for d in documents(23)]


@pytest.mark.parametrize(
    ("vectors", "reason"),
    [
        (np.full((4, 32), np.nan), "'d8'"),
        (np.zeros((4, 32)), "'d8'"),
        (np.eye(4, 31), "shape"),
        (np.eye(3, 32), "shape"),
    ],
    ids=["nan", "zero", "narrow", "few"],
)
def test_an_encoder_that_gives_no_unit_rows_is_refused(folder, bag_class, vectors, reason):
    class Broken(bag_class):
        def encode_document(self, texts):
            if "8" in texts[0].split():
                return vectors.astype(np.float32), np.zeros(4, np.int32)
            return super().encode_document(texts)

    with pytest.raises(VectorError, match=reason):
        build_index(documents(12), folder, encoder=Broken())
    assert build_index(documents(12), folder, encoder=bag_class()).resumed == 8


def test_a_checkpoint_comes_after_some_seconds_too(folder, bag_class, monkeypatch):
    monkeypatch.setattr("retrieval.building.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr("retrieval.building.CHECKPOINT_ROWS", 10**9)
    assert interrupt(documents(23), folder, bag_class, "18", OutOfOrder) == 16


@pytest.mark.parametrize("windows", [1, 2, 4])
def test_truncated_tokens_are_counted_over_all_runs(tmp_path, folder, bag_class, windows):
    given = [document(at, f"{at} " + "word " * (at % 9)) for at in range(20)]
    options = {"encoder": bag_class(max_length=5), "passages": "none"}
    report = build_index(given, tmp_path / "whole", **options)
    assert (report.truncated, report.truncated_tokens) == (8, 20)
    for stop in range(1, windows + 1):
        interrupt(given, folder, bag_class, str(stop * 4), passages="none")
    resumed = build_index(given, folder, **options)
    assert (resumed.rows, resumed.truncated, resumed.truncated_tokens) == (20, 8, 20)
    assert resumed.resumed == windows * 4
    sources = [read_manifest(place).published.source for place in (folder, tmp_path / "whole")]
    assert sources[0] == sources[1]
    assert rows(folder) == rows(tmp_path / "whole")


CHANGED = {
    "text": lambda given: [*given[:2], document(2, "other words"), *given[3:]],
    "id": lambda given: [*given[:2], Document("other", given[2].text), *given[3:]],
    "title": lambda given: [*given[:2], Document("d2", given[2].text, "Title"), *given[3:]],
    "metadata": lambda given: [*given[:2], document(2, metadata={"n": 1}), *given[3:]],
    "removed": lambda given: [*given[:2], *given[3:]],
    "added": lambda given: [*given[:2], document(99), *given[2:]],
    "swapped": lambda given: [*given[:2], given[3], given[2], *given[4:]],
    "ends": lambda given: given[:2],
}


@pytest.mark.parametrize("change", CHANGED)
def test_another_source_does_not_go_on_with_a_build(folder, bag, bag_class, change):
    given = documents(20)
    assert interrupt(given, folder, bag_class, "13") == 12
    encoder = bag_class(max_length=5)
    place = "the source ends" if change == "ends" else "document 3"
    with pytest.raises(IndexUnfinished, match=rf"\b{place}\b.*--overwrite"):
        build_index(CHANGED[change](given), folder, encoder=encoder)
    assert asked(encoder) == []
    assert build_index(given, folder, encoder=encoder).resumed == 12  # it is still whole


def test_the_place_of_a_change_is_a_line_of_a_file(tmp_path, folder, bag_class):
    records = [{"id": at, "text": f"row {at}"} for at in range(20)]
    path = write_jsonl(tmp_path / "corpus.jsonl", records)
    assert interrupt(path, folder, bag_class, "13") == 12
    records[6]["text"] = "changed"
    write_jsonl(path, records)
    with pytest.raises(IndexUnfinished, match=r"corpus\.jsonl, line 7\b.*--overwrite"):
        build_index(path, folder, encoder=bag_class(max_length=5))


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("change", CHANGED)
def test_with_overwrite_the_common_beginning_is_kept(tmp_path, folder, bag_class, change, old):
    given = documents(20)
    if old:
        build_index([document(50)], folder, encoder=bag_class(max_length=5))
    assert interrupt(given, folder, bag_class, "13", overwrite=old) == 12
    changed = CHANGED[change](given)
    encoder = bag_class(max_length=5)

    report = build_index(changed, folder, encoder=encoder, overwrite=True)

    assert (report.rows, report.resumed) == (len(changed), 2)
    assert asked(encoder) == [d.full_text for d in changed[2:]]
    build_index(changed, tmp_path / "whole", encoder=bag_class(max_length=5))
    assert rows(folder) == rows(tmp_path / "whole")


def test_a_source_that_has_grown_since_goes_on(folder, bag_class):
    assert interrupt(documents(14), folder, bag_class, "13") == 12
    encoder = bag_class(max_length=5)
    assert build_index(documents(30), folder, encoder=encoder).resumed == 12
    assert ids(folder, encoder) == [f"d{at}" for at in range(30)]


def test_another_model_does_not_go_on_with_a_build(folder, bag_class):
    assert interrupt(documents(14), folder, bag_class, "13") == 12
    other = bag_class(name="other")
    with pytest.raises(IndexUnfinished, match="another model"):
        build_index(documents(14), folder, encoder=other)
    assert build_index(documents(14), folder, encoder=other, overwrite=True).resumed == 0
    assert asked(other) == [d.text for d in documents(14)]


@pytest.mark.parametrize("suffix", ["vec", "docs"])
@pytest.mark.parametrize("which", [0, -1], ids=["closed", "growing"])
def test_overwrite_gets_past_a_damaged_unfinished_build(folder, bag_class, suffix, which):
    build_index([document(50)], folder, encoder=bag_class(max_length=5))
    assert interrupt(documents(20), folder, bag_class, "17", overwrite=True) == 16
    segments = read_manifest(folder).pending.segments
    assert len(segments) == 2
    path = folder / f"{segments[which].name}.{suffix}"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    encoder = bag_class(max_length=5)
    assert build_index(documents(20), folder, encoder=encoder, overwrite=True).rows == 20
    assert ids(folder, encoder) == [f"d{at}" for at in range(20)]


def test_an_index_stays_in_place_without_overwrite_and_answers_until_the_new_is_there(
    folder, bag_class
):
    encoder = bag_class(max_length=5)
    build_index(documents(3), folder, encoder=encoder)
    before = rows(folder)
    encoder.asked.clear()
    with pytest.raises(IndexExists, match="already holds an index"):
        build_index(documents(9), folder, encoder=encoder)
    assert encoder.asked == []
    assert rows(folder) == before
    assert interrupt(documents(30), folder, bag_class, "29", overwrite=True) == 28
    assert rows(folder) == before
    with pytest.raises(IndexExists):  # the unfinished build is one of an overwrite
        build_index(documents(30), folder, encoder=encoder)
    assert build_index(documents(30), folder, encoder=encoder, overwrite=True).resumed == 28
    assert ids(folder, encoder) == [f"d{at}" for at in range(30)]


def test_a_folder_that_another_process_writes_to_is_left_alone(folder, bag):
    content_of = build_index(documents(1), folder, encoder=bag)
    assert content_of.rows == 1
    content = read_manifest(folder).published
    with IndexWriter(folder, content, overwrite=True), pytest.raises(IndexLocked):
        build_index(documents(9), folder, encoder=bag, overwrite=True)


def twice(at):
    """The second document with an id."""
    return document(at, f"second text of {at}")


# Where an id comes again: in its window, in a later window, in a later segment, more than twice.
DUPLICATES = {
    "window": [*documents(3), twice(1), *documents(20)[3:]],
    "later window": [*documents(7), twice(1), *documents(20)[7:]],
    "at a border": [*documents(4), twice(3), *documents(20)[4:]],
    "later segment": [*documents(15), twice(1), *documents(20)[15:]],
    "last": [*documents(20), twice(19)],
    "same text": [*documents(9), document(1), *documents(20)[9:]],
    "often": [*documents(6), twice(1), twice(2), twice(1), *documents(20)[6:], twice(1)],
}


@pytest.mark.parametrize("stop", [None, 5, 17])
@pytest.mark.parametrize("where", DUPLICATES)
def test_of_documents_with_one_id_the_first_can_stay(folder, bag_class, where, stop):
    given, encoder = DUPLICATES[where], bag_class(max_length=5)
    if stop:
        interrupt(given, folder, bag_class, str(stop), on_duplicate="first")
    report = build_index(given, folder, encoder=encoder, on_duplicate="first")
    assert (report.rows, report.skipped) == (20, len(given) - 20)
    assert Searcher(folder, encoder=encoder).get([f"d{at}" for at in range(20)]) == documents(20)
    assert View(folder).positions().tolist() == list(range(20))  # they were not even encoded
    assert all(text.startswith("words") for text in asked(encoder))


@pytest.mark.parametrize("stop", [None, 5, 17])
@pytest.mark.parametrize("where", DUPLICATES)
def test_of_documents_with_one_id_the_last_can_stay(folder, bag_class, where, stop):
    given, encoder = DUPLICATES[where], bag_class(max_length=5)
    if stop:
        interrupt(given, folder, bag_class, str(stop), on_duplicate="last")
    report = build_index(given, folder, encoder=encoder, on_duplicate="last")
    last = {d.id: d for d in given}
    searcher = Searcher(folder, encoder=encoder, verify="full")
    assert (report.rows, len(searcher)) == (20, 20)
    assert searcher.get(list(last)) == list(last.values())
    hits = searcher.search("words of passage", 100)
    assert sorted(hit.id for hit in hits) == sorted(last)
    assert {hit.id: hit.text for hit in hits} == {d.id: d.text for d in last.values()}


@pytest.mark.parametrize("stop", [None, 5, 17])
@pytest.mark.parametrize("where", DUPLICATES)
def test_documents_with_one_id_are_refused_unless_told_otherwise(folder, bag_class, where, stop):
    given, encoder = DUPLICATES[where], bag_class(max_length=5)
    seen = set()
    row = next(n for n, d in enumerate(given, 1) if d.id in seen or seen.add(d.id))
    # The row is read while the window before its own is encoded.
    if stop and given.index(document(stop)) // 4 * 4 + 8 < row:
        interrupt(given, folder, bag_class, str(stop))
    message = f"document {row}: the id '{given[row - 1].id}' has come before; .*--on-duplicate"
    with pytest.raises(CorpusError, match=message):
        build_index(given, folder, encoder=encoder)
    with pytest.raises(CorpusError, match=message):
        build_index(given, folder, encoder=encoder, on_duplicate="error")


@pytest.mark.parametrize(("began", "goes_on"), [("last", "first"), ("last", "error")])
def test_a_build_with_another_rule_for_duplicates_does_not_go_on(folder, bag_class, began, goes_on):
    given = DUPLICATES["window"]
    assert interrupt(given, folder, bag_class, "9", on_duplicate=began) == 8
    with pytest.raises((IndexUnfinished, CorpusError), match=r"unfinished build|document 4"):
        build_index(given, folder, encoder=bag_class(max_length=5), on_duplicate=goes_on)


def test_an_unknown_rule_is_refused_before_anything_is_made(folder, bag):
    with pytest.raises(ValueError, match=r"on_duplicate must be one of .* got 'newest'"):
        build_index(documents(1), folder, encoder=bag, on_duplicate="newest")
    with pytest.raises(ValueError, match=r"on_error must be .* got 'ignore'"):
        build_index(documents(1), folder, encoder=bag, on_error="ignore")
    assert not folder.exists()


BAD = {
    "type": ({"text": "not a Document"}, "expected a Document, got dict"),
    "id": (Document("", "text"), "the id is empty"),
    "surrogate": (Document("a", "\ud800"), "lone surrogate"),
    "metadata": (document(9, metadata={"n": object()}), "metadata 'n' holds object"),
    "nan": (document(9, metadata={"n": float("nan")}), "'n' is nan"),
    "huge": (document(9, metadata={"n": 2**63}), "metadata 'n' holds int"),
    "drift": (document(9, metadata={"known": 7}), "'known' is int64, but it was string before"),
    "name": (document(9, metadata={"\ud800": 7}), "lone surrogate"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bad_document_is_refused_by_its_place_or_skipped(tmp_path, folder, bag, bad):
    one, reason = BAD[bad]
    given = [document(0, metadata={"known": "x"}), *documents(6)[1:], one, *documents(12)[6:]]
    with pytest.raises(CorpusError, match=f"document 7: .*{reason}.*--on-error skip"):
        build_index(given, folder, encoder=bag)
    assert not folder.exists()
    report = build_index(given, folder, encoder=bag, on_error="skip")
    assert (report.rows, report.skipped) == (12, 1)
    assert ids(folder, bag) == [f"d{at}" for at in range(12)]


def test_skipped_rows_are_counted_over_all_runs(folder, bag_class):
    given = [*documents(6), Document("", "no id"), Document("e", ""), *documents(20)[6:]]
    assert interrupt(given, folder, bag_class, "13", on_error="skip") == 12
    report = build_index(given, folder, encoder=bag_class(max_length=5), on_error="skip")
    assert (report.rows, report.skipped, report.resumed) == (20, 2, 12)


@pytest.mark.parametrize(
    ("source", "options"),
    [([], {}), (iter(()), {}), ([Document("a", ""), Document("b", " \n")], {}),
     ([Document("", "x")], {"on_error": "skip"})],
    ids=["list", "iterator", "without texts", "all bad"],
)  # fmt: skip
def test_a_source_without_documents_leaves_nothing(tmp_path, bag, source, options):
    with pytest.raises(CorpusError, match=r"the source: no documents .*nothing to index"):
        build_index(source, tmp_path / "index", encoder=bag, **options)
    assert list(tmp_path.iterdir()) == []
    assert bag.asked == []


def test_an_empty_file_is_named_and_an_old_index_stays(tmp_path, folder, bag):
    build_index(documents(3), folder, encoder=bag)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(CorpusError, match=r"empty\.jsonl: no documents"):
        build_index(tmp_path / "empty.jsonl", folder, encoder=bag, overwrite=True)
    assert ids(folder, bag) == ["d0", "d1", "d2"]


@pytest.mark.parametrize("option", [{}, {"overwrite": True}])
def test_a_foreign_folder_is_refused_before_the_source_is_read(tmp_path, folder, bag, option):
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")

    def never():
        raise AssertionError("the source was read")
        yield

    with pytest.raises(IndexExists, match="not an index folder"):
        build_index(never(), folder, encoder=bag, **option)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("values", "kind", "restored"),
    [
        ([1, 2], "int64", [1, 2]),
        ([1, 2.5, 3], "double", [1.0, 2.5, 3.0]),
        ([1.5, 2], "double", [1.5, 2.0]),
        ([None, 1, None, 2.5], "double", [None, 1.0, None, 2.5]),
        ([-(2**63), 2**63 - 1], "int64", [-(2**63), 2**63 - 1]),
        ([0.1, 1e300, -0.0], "double", [0.1, 1e300, -0.0]),
        ([True, False, None], "bool", [True, False, None]),
        (["a", "", "日本\u2028\n\0"], "string", ["a", "", "日本\u2028\n\0"]),
        (["2024-01-01"], "string", ["2024-01-01"]),
        ([date(2024, 2, 29), None], "date32[day]", [date(2024, 2, 29), None]),
        (
            [datetime(2024, 2, 29, 1, 2, 3, 4), datetime(1, 1, 1, tzinfo=timezone.utc)],
            "timestamp[us]",
            [datetime(2024, 2, 29, 1, 2, 3, 4), datetime(1, 1, 1, tzinfo=timezone.utc)],
        ),
        ([["a", "b"], [], None], "list<item: string>", [["a", "b"], [], None]),
        ([None, None], None, [None, None]),
    ],
)
def test_metadata_comes_back_as_it_was_given(folder, bag, values, kind, restored):
    given = [document(at, metadata={"other": "x", "m": v}) for at, v in enumerate(values)]
    build_index(given, folder, encoder=bag)
    schema = [{"name": "other", "type": "string"}] + [{"name": "m", "type": kind}] * bool(kind)
    assert read_manifest(folder).published.schema == schema
    searcher = Searcher(folder, encoder=bag)
    found = [d.metadata["m"] for d in searcher.get([d.id for d in given])]
    assert found == restored
    assert [type(value) for value in found] == [type(value) for value in restored]
    hit = next(h for h in searcher.search(given[0].text, 9) if h.id == "d0")
    assert hit.metadata == {"other": "x", "m": restored[0]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, 2, "3"], "document 3: metadata 'm' is string, but it was int64 before"),
        (["1", 2], "document 2: metadata 'm' is int64, but it was string before"),
        ([1.5, 2, None, "x"], "document 4: metadata 'm' is string, but it was double before"),
        ([1, 2.5, True], "document 3: metadata 'm' is bool, but it was double before"),
        ([True, 1], "document 2: metadata 'm' is int64, but it was bool before"),
        ([date(2024, 1, 1), datetime(2024, 1, 1)], "document 2: .*timestamp.* but it was date32"),
        ([["a"], "a"], "document 2: metadata 'm' is string, but it was list<item: string>"),
        ([["a"], [1]], "document 2: metadata 'm' holds list; expected text"),
        ([{"a": 1}], "document 1: metadata 'm' holds dict; expected text"),
        ([b"a"], "document 1: metadata 'm' holds bytes; expected text"),
    ],
)
def test_a_column_of_two_types_is_refused_by_its_place(folder, bag, values, message):
    given = [document(at, metadata={"m": value}) for at, value in enumerate(values)]
    with pytest.raises(CorpusError, match=message):
        build_index(given, folder, encoder=bag)


def test_the_schema_is_the_same_after_an_interruption(tmp_path, folder, bag_class):
    given = [document(at, metadata={"m": at if at < 9 else at / 2}) for at in range(20)]
    interrupt(given, folder, bag_class, "13")
    for place in (folder, tmp_path / "whole"):
        build_index(given, place, encoder=bag_class(max_length=5))
    contents = [read_manifest(place).published for place in (folder, tmp_path / "whole")]
    assert contents[0].schema == contents[1].schema == [{"name": "m", "type": "double"}]
    assert contents[0].probes == contents[1].probes


def test_an_interruption_while_the_end_is_written_loses_no_rows(folder, bag_class):
    class Stopped(bag_class):
        def encode_document(self, texts):
            if texts[0] in PROBES:
                raise KeyboardInterrupt
            return super().encode_document(texts)

    with pytest.raises(KeyboardInterrupt):
        build_index(documents(15), folder, encoder=Stopped())
    encoder = bag_class()
    assert build_index(documents(15), folder, encoder=encoder).resumed == 15
    assert asked(encoder) == []


def test_damage_in_a_build_is_reported_and_names_the_way_out(folder, bag_class):
    assert interrupt(documents(20), folder, bag_class, "17") == 16
    name = read_manifest(folder).pending.segments[-1].name
    (folder / f"{name}.vec").write_bytes(b"")
    with pytest.raises(IndexCorrupt, match=f"{name}.vec is damaged.*--overwrite"):
        build_index(documents(20), folder, encoder=bag_class(max_length=5))


def test_a_full_disk_ends_a_build_with_a_message_and_it_goes_on_later(
    folder, bag_class, monkeypatch
):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Fills(bag_class):
        def encode_document(self, texts):
            if "13" in texts[1].split():
                patch.setattr("os.fsync", full)
            return super().encode_document(texts)

    with (
        monkeypatch.context() as patch,
        pytest.raises(IndexWriteFailed, match="No space left on device; free some space and run"),
    ):
        build_index(documents(20), folder, encoder=Fills())
    assert build_index(documents(20), folder, encoder=bag_class()).resumed == 8


def test_a_question_of_another_width_is_refused(folder, bag, bag_class):
    build_index(documents(3), folder, encoder=bag)
    with pytest.raises(VectorError, match=r"\[n, 32\], got \[1, 8\]"):
        Searcher(folder).search_vectors(bag_class(8).encode_query(["x"]))
    with pytest.raises(QueryError, match="empty"):
        Searcher(folder, encoder=bag).search("  ")


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from retrieval import Document, build_index

class Random:
    dim, max_length, fingerprint = 32, 9, "random"
    rng = np.random.default_rng(0)
    def encode_document(self, texts):
        vectors = self.rng.standard_normal((len(texts), 32), np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors, np.zeros(len(texts), np.int32)
    def offsets(self, text):
        return [(0, len(text))]

text = "x" * 700
rows = (Document(str(at), f"{at} {text}", metadata={"n": at}) for at in range(int(sys.argv[2])))
ROWS = build_index(rows, sys.argv[1], encoder=Random(), kind="flat", lexical=False).rows
assert ROWS == int(sys.argv[2])
# Not getrusage: its peak may be the one of the process that began this one.
status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
sys.stdout.write(status.split()[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own measure")
def test_memory_does_not_grow_with_the_corpus(tmp_path):
    children = [
        subprocess.Popen(
            [sys.executable, "-c", MEMORY, str(tmp_path / str(n)), str(n)], stdout=subprocess.PIPE
        )
        for n in (20_000, 60_000)
    ]
    small, large = (int(child.communicate()[0]) for child in children)
    assert small > 10_000
    assert large - small < 15_000  # KiB; the further texts alone are 28,000
