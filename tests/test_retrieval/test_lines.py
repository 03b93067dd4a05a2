"""JSON lines and separated values: what is read from which bytes."""

import gzip
from pathlib import Path

import pytest

from retrieval import CorpusError, read_corpus

BOM = b"\xef\xbb\xbf"

JSONL = {
    "lines": (b'{"id":"a","text":"one"}\n{"id":"b","text":"two"}\n', ["one", "two"]),
    "a byte order mark": (BOM + b'{"id":"a","text":"one"}\n', ["one"]),
    "carriage returns": (b'{"text":"one"}\r\n{"text":"two"}\r\n', ["one", "two"]),
    "no newline at the end": (b'{"text":"one"}\n{"text":"two"}', ["one", "two"]),
    "blank lines": (b'\n{"text":"one"}\n\n  \t\n{"text":"two"}\n\n', ["one", "two"]),
    "U+2028 and U+0085": (
        '{"text":"a\u2028b\u0085c"}\n{"text":"two"}\n'.encode(),
        ["a\u2028b\u0085c", "two"],
    ),
    "a repeated key": (b'{"text":"one","text":"last"}\n', ["last"]),
    "escapes": (rb'{"text":"\ud83d\ude00 \u0000 \n \u00e9"}', ["\U0001f600 \0 \n é"]),
    "spaces around": (b'  {"text":"one"}  \n', ["one"]),
}


@pytest.mark.parametrize("extension", [".jsonl", ".ndjson", ".JSONL", ".jsonl.gz"])
@pytest.mark.parametrize("case", JSONL)
def test_json_lines_are_read_with(case, extension, tmp_path):
    content, texts = JSONL[case]
    path = tmp_path / f"corpus{extension}"
    path.write_bytes(gzip.compress(content) if extension.endswith(".gz") else content)
    assert [document.text for document in read_corpus(path)] == texts


CSV = {
    "a header and rows": (b"id,text\na,one\nb,two\n", [("a", "one"), ("b", "two")]),
    "a byte order mark": (BOM + b"id,text\na,one\n", [("a", "one")]),
    "carriage returns": (b"id,text\r\na,one\r\nb,two\r\n", [("a", "one"), ("b", "two")]),
    "no newline at the end": (b"id,text\na,one", [("a", "one")]),
    "line ends in quotes": (b'id,text\na,"one\ntwo\r\nthree"\n', [("a", "one\ntwo\r\nthree")]),
    "separators and quotes in quotes": (b'id,text\na,"x, ""y"""\n', [("a", 'x, "y"')]),
    "blank lines": (b"id,text\n\na,one\n\nb,two\n\n", [("a", "one"), ("b", "two")]),
    "columns in another order": (b"text,id\none,a\n", [("a", "one")]),
    "a long field": (b"id,text\na," + b"x" * 300_000 + b"\n", [("a", "x" * 300_000)]),
    "U+2028": ("id,text\na,x\u2028y\n".encode(), [("a", "x\u2028y")]),
}


@pytest.mark.parametrize("extension", [".csv", ".tsv", ".csv.gz", ".tsv.gz"])
@pytest.mark.parametrize("case", CSV)
def test_separated_values_are_read_with(case, extension, tmp_path):
    content, rows = CSV[case]
    if ".tsv" in extension:
        content = content.replace(b",", b"\t")
        rows = [(row_id, text.replace(",", "\t")) for row_id, text in rows]
    path = tmp_path / f"corpus{extension}"
    path.write_bytes(gzip.compress(content) if extension.endswith(".gz") else content)
    assert [(document.id, document.text) for document in read_corpus(path)] == rows


def test_an_empty_field_is_null(tmp_path):
    path = tmp_path / "corpus.csv"
    path.write_bytes(b'id,title,text,tag\na,Title,,\nb,,text,""\n')
    first, second = read_corpus(path)
    assert (first.text, first.title, first.metadata) == ("", "Title", {"tag": None})
    assert (second.text, second.title, second.metadata) == ("text", "", {"tag": None})


@pytest.mark.parametrize(
    ("name", "content", "wheres"),
    [
        ("c.jsonl", b'\n{"text":"one"}\n\n{"text":"two"}\n', ["line 2", "line 4"]),
        ("c.csv", b'text,n\n"one\nmore",1\ntwo,2\n', ["line 2", "line 4"]),
    ],
)
def test_the_place_of_a_row_is_the_line_where_it_begins(name, content, wheres, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    corpus = read_corpus(path)
    assert [corpus.where for _ in corpus] == [f"{path}, {where}" for where in wheres]


def test_a_line_over_the_cap_is_passed_over_without_being_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("retrieval.lines.MAX_TEXT", 100)
    path = tmp_path / "corpus.jsonl"
    long = b'{"text":"%s"}' % (b"x" * 350)
    path.write_bytes(b"\n".join([b'{"text":"one"}', long, b'{"text":"two"}', long]))
    corpus = read_corpus(path, on_error="skip")
    assert [document.text for document in corpus] == ["one", "two"]
    assert corpus.skipped == 2


@pytest.mark.parametrize("spare", [0, 1])
def test_a_line_of_exactly_the_cap_is_read_and_one_byte_more_is_not(tmp_path, monkeypatch, spare):
    line = b'{"text":"' + b"x" * 50 + b'"}'
    monkeypatch.setattr("retrieval.lines.MAX_TEXT", len(line) - 1 + spare)
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(line)
    corpus = read_corpus(path, on_error="skip")
    assert len(list(corpus)) == spare
    assert corpus.skipped == 1 - spare


@pytest.mark.parametrize(
    ("name", "good"),
    [("c.jsonl", b'{"id":"1","text":"one"}\n'), ("c.csv", b"id,text\n1,one\n")],
)
def test_a_packed_file_that_ends_too_early_gives_its_rows_and_then_an_error(name, good, tmp_path):
    rows = Path(tmp_path / name).with_suffix(f"{Path(name).suffix}.gz")
    rows.write_bytes(gzip.compress(good)[:-9])
    read = []
    with pytest.raises(CorpusError, match="ended before the end-of-stream marker"):
        read.extend(document.text for document in read_corpus(rows))
