"""Which files a corpus is, which of their columns are what, and how rows get their ids."""

import gzip
import io
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval import CorpusError, Document, build_index, read_corpus
from retrieval.corpus import from_documents

ROWS = [
    {"id": "a", "title": "Alpha", "text": "the first letter", "kind": "letter"},
    {"id": "b", "title": None, "text": "ünïcödé, with \"quotes\" and 'commas'", "kind": None},
    {"id": "c", "title": "Gamma", "text": None, "kind": "letter"},
]
DOCUMENTS = [
    Document(row["id"], row["text"] or "", row["title"] or "", {"kind": row["kind"]})
    for row in ROWS
]


def separated(delimiter: str) -> bytes:
    lines = [delimiter.join(ROWS[0])]
    for row in ROWS:
        values = ["" if value is None else value.replace('"', '""') for value in row.values()]
        lines.append(delimiter.join(f'"{value}"' for value in values))
    return "\n".join(lines).encode()


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink)
    return sink.getvalue()


def jsonl(rows=ROWS) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


FORMATS = {
    ".parquet": parquet(),
    ".jsonl": jsonl(),
    ".ndjson": jsonl(),
    ".csv": separated(","),
    ".tsv": separated("\t"),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("extension", FORMATS)
def test_every_format_gives_the_same_documents(extension, packed, tmp_path):
    path = tmp_path / f"corpus{extension}{'.gz' * packed}"
    path.write_bytes(gzip.compress(FORMATS[extension]) if packed else FORMATS[extension])
    assert list(read_corpus(path)) == DOCUMENTS
    assert list(read_corpus([str(path)])) == DOCUMENTS


def test_standard_input_is_json_lines(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(jsonl())))
    corpus = read_corpus("-")
    assert list(corpus) == DOCUMENTS
    assert corpus.where == "standard input, line 3"
    assert corpus.fraction() is None


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """Files whose one text is their name."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.jsonl", "a.jsonl", "deep/c.jsonl", "deep/er/d.jsonl", "odd[1].jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps({"text": name}))
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["*.jsonl"], ["a.jsonl", "b.jsonl", "odd[1].jsonl"]),
        (["[ba].jsonl"], ["a.jsonl", "b.jsonl"]),
        (["**/*.jsonl"], ["a.jsonl", "b.jsonl", "deep/c.jsonl", "deep/er/d.jsonl", "odd[1].jsonl"]),
        (["deep/**/*.jsonl"], ["deep/c.jsonl", "deep/er/d.jsonl"]),
        (["b.jsonl", "a.jsonl"], ["b.jsonl", "a.jsonl"]),
        (["deep/*.jsonl", "?.jsonl"], ["deep/c.jsonl", "a.jsonl", "b.jsonl"]),
        (["odd[1].jsonl"], ["odd[1].jsonl"]),
    ],
    ids=str,
)
def test_patterns_name_their_files_sorted_and_paths_in_the_order_given(patterns, names, tree):
    assert [document.text for document in read_corpus(patterns)] == names


def test_a_pattern_passes_folders_over(tree):
    (tree / "deep/folder.jsonl").mkdir()
    names = ["deep/c.jsonl", "deep/er/d.jsonl"]
    assert [document.text for document in read_corpus("deep/**")] == names


@pytest.mark.parametrize(
    ("fields", "options", "expected"),
    [
        ({"_id": "1", "content": "t"}, {}, ("1", "t", "")),
        ({"doc_id": "1", "body": "t"}, {}, ("1", "t", "")),
        ({"passage": "t", "id": 7}, {}, ("7", "t", "")),
        ({"id": "1", "_id": "2", "text": "t", "content": "c"}, {}, ("1", "t", "")),
        ({"id": "1", "text": "t", "title": "T"}, {}, ("1", "t", "T")),
        ({"id": "1", "text": "t", "body": "b"}, {"text_column": "body"}, ("1", "b", "")),
        ({"id": "1", "text": "t", "url": "u"}, {"id_column": "url"}, ("u", "t", "")),
        ({"id": "1", "text": "t", "head": "H"}, {"title_column": "head"}, ("1", "t", "H")),
    ],
)
@pytest.mark.parametrize("extension", [".jsonl", ".parquet"])
def test_columns_are_found_by_name_or_as_given(extension, fields, options, expected, tmp_path):
    path = tmp_path / f"corpus{extension}"
    if extension == ".parquet":
        pq.write_table(pa.Table.from_pylist([fields]), path)
    else:
        path.write_text(json.dumps(fields))
    (document,) = read_corpus(path, **options)
    assert (document.id, document.text, document.title) == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (None, {"n": 1, "x": 0.5, "yes": True, "s": "word", "none": None}),
        ([], {}),
        (["s", "tags"], {"s": "word", "tags": ["a", "b"]}),
        (["none"], {"none": None}),
        (["text"], {"text": "t"}),
    ],
)
def test_metadata_is_every_other_scalar_or_what_was_asked_for(columns, expected, tmp_path):
    fields = {"n": 1, "x": 0.5, "yes": True, "s": "word", "none": None}
    nested = {"tags": ["a", "b"], "deep": {"a": 1}, "rows": [1, 2]}
    path = tmp_path / "corpus.jsonl"
    path.write_text(json.dumps({"id": "1", "text": "t", **fields, **nested}))
    (document,) = read_corpus(path, metadata_columns=columns)
    assert document.metadata == expected


@pytest.mark.parametrize(
    "options", [{"text_column": "contents"}, {"metadata_columns": ["contents"]}], ids=str
)
@pytest.mark.parametrize("extension", [".jsonl", ".csv", ".parquet"])
def test_a_column_that_was_asked_for_and_is_nowhere_is_an_error(extension, options, tmp_path):
    path = tmp_path / f"corpus{extension}"
    path.write_bytes(FORMATS[extension])
    with pytest.raises(CorpusError, match="there is no column 'contents'"):
        list(read_corpus(path, **options))


def test_a_metadata_column_that_was_asked_for_may_be_missing_in_some_rows(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(jsonl([{"text": "one"}, {"text": "two", "url": "u"}, {"text": "three"}]))
    documents = list(read_corpus(path, metadata_columns=["url"]))
    assert [document.metadata for document in documents] == [
        {"url": None},
        {"url": "u"},
        {"url": None},
    ]


@pytest.mark.parametrize("extension", [".jsonl", ".csv", ".parquet"])
def test_titles_alone_are_no_corpus_when_the_text_has_an_unknown_name(extension, tmp_path):
    path = tmp_path / f"corpus{extension}"
    rows = [{"title": "T", "paragraph": "the text that was meant"}]
    if extension == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_bytes(jsonl(rows) if extension == ".jsonl" else b"title,paragraph\nT,meant\n")
    with pytest.raises(CorpusError, match="there is no text column"):
        list(read_corpus(path))


def test_a_row_with_neither_text_nor_title_is_skipped_and_counted(tmp_path):
    path = tmp_path / "corpus.jsonl"
    texts = ["one", "", "  \n", None, "two"]
    rows = [{"id": str(n), "text": text, "title": None} for n, text in enumerate(texts)]
    path.write_bytes(jsonl([*rows, {"id": "t", "title": "only a title"}, {"id": "u", "text": ""}]))
    corpus = read_corpus(path)
    assert [document.id for document in corpus] == ["0", "4", "t"]
    assert corpus.skipped == 4


def ids_of(path: Path, *texts: str) -> list[str]:
    path.write_bytes(jsonl([{"text": text} for text in texts]))
    return [document.id for document in read_corpus(path)]


def test_ids_made_from_the_content_are_the_same_in_every_run_and_row_order(tmp_path):
    path = tmp_path / "corpus.jsonl"
    assert ids_of(path, "one", "two") == ["1d139730717e9166", "79b8ef624c007f04"]
    assert ids_of(path, "two", "new", "one")[::2] == ["79b8ef624c007f04", "1d139730717e9166"]


def test_repeated_rows_get_ids_of_their_own(tmp_path):
    path = tmp_path / "corpus.jsonl"
    ids = ids_of(path, *["same"] * 5, "other", "same")
    assert len(set(ids)) == 7
    assert ids_of(path, "other", *["same"] * 6) == [ids[5], *ids[:5], ids[6]]


def test_a_title_is_part_of_the_content_that_makes_an_id(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(jsonl([{"text": "a b"}, {"title": "a", "text": "b"}, {"title": "a b"}]))
    assert len({document.id for document in read_corpus(path)}) == 3


def test_whole_numbers_and_floats_in_two_files_make_a_column_of_floats(tmp_path, bag):
    from retrieval import Searcher

    for number, value in enumerate([1, 2.5]):
        (tmp_path / f"{number}.jsonl").write_bytes(
            jsonl([{"id": str(number), "text": "x", "v": value}])
        )
    build_index(str(tmp_path / "*.jsonl"), tmp_path / "index", encoder=bag)
    with Searcher(tmp_path / "index", encoder=bag) as searcher:
        assert searcher.content.schema == [{"name": "v", "type": "double"}]
        values = [document.metadata["v"] for document in searcher.get(["0", "1"])]
    assert values == [1.0, 2.5]
    assert [type(value) for value in values] == [float, float]


def test_a_whole_number_in_one_file_and_a_text_in_another_is_an_error_with_file_and_row(
    tmp_path, bag
):
    first, second = tmp_path / "1.jsonl", tmp_path / "2.parquet"
    first.write_bytes(jsonl([{"id": "a", "text": "x", "v": 1}]))
    pq.write_table(pa.table({"id": ["b", "c"], "text": ["y", "z"], "v": [None, "two"]}), second)
    with pytest.raises(CorpusError) as caught:
        build_index([first, second], tmp_path / "index", encoder=bag)
    assert str(caught.value) == (
        f"{second}, row 2: metadata 'v' is string, but it was int64 before; make the column one "
        "type, or choose columns with --metadata-column; mend it, or pass --on-error skip"
    )
    assert not (tmp_path / "index").exists()


BAD_DOCUMENTS = [
    ("text", "expected a Document, got str"),
    (Document("1", 5), "the text is int; expected text"),
    (Document(1, "text"), "the id is int; expected text"),
    (Document("", "text"), "the id is empty"),
    (Document("1", "\udc00"), "the text holds a lone surrogate or invalid UTF-8"),
    (Document("1", "x", "\udc00"), "the title holds a lone surrogate or invalid UTF-8"),
    (
        Document("1", "x", metadata={"n": "\udc00"}),
        "the metadata 'n' holds a lone surrogate or invalid UTF-8",
    ),
    (
        Document("1", "x", metadata={"n": float("nan")}),
        "metadata 'n' is nan; expected a finite number",
    ),
]


@pytest.mark.parametrize(("bad", "reason"), BAD_DOCUMENTS)
def test_a_document_that_cannot_be_stored_is_refused_by_its_number(bad, reason):
    good = Document("g", "good")
    with pytest.raises(CorpusError) as caught:
        list(from_documents([good, bad]))
    assert str(caught.value) == f"document 2: {reason}; mend it, or pass --on-error skip"
    corpus = from_documents([good, bad, good], on_error="skip")
    assert list(corpus) == [good, good]
    assert corpus.skipped == 1


def test_a_metadata_name_that_is_no_unicode_is_refused_like_a_value(tmp_path):
    with pytest.raises(CorpusError, match="lone surrogate"):
        list(from_documents([Document("1", "x", metadata={"\udc00": 1})]))


def test_a_text_over_the_cap_is_refused(monkeypatch):
    monkeypatch.setattr("retrieval.rows.MAX_TEXT", 10)
    assert list(from_documents([Document("1", "x" * 10, "y" * 10)]))
    with pytest.raises(CorpusError, match="the text is longer than 10 characters; split it"):
        list(from_documents([Document("1", "x" * 11)]))


def test_what_to_do_on_an_error_is_one_of_two_words(tmp_path):
    with pytest.raises(ValueError, match=r"^on_error must be 'raise' or 'skip', got 'ignore'$"):
        from_documents([], on_error="ignore")


def test_the_share_of_the_files_that_has_been_read_grows_to_one(tmp_path):
    paths = [tmp_path / name for name in ("a.jsonl", "b.jsonl.gz", "c.parquet")]
    rows = [{"id": str(number), "text": f"text {number} " * 40} for number in range(3_000)]
    paths[0].write_bytes(jsonl(rows))
    paths[1].write_bytes(gzip.compress(jsonl(rows)))
    pq.write_table(pa.Table.from_pylist(rows), paths[2])
    corpus = read_corpus(paths)
    assert corpus.fraction() == 0
    shares = [corpus.fraction() for _ in corpus]
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.5
    sizes = [path.stat().st_size for path in paths]
    assert shares[3_000] >= sizes[0] / sum(sizes)
    assert 0.8 < shares[-1] <= 1
    assert corpus.fraction() == 1
