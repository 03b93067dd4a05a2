"""Text and Markdown: one document a file; which files a folder stands for; what is packed."""

import gzip
import json
import re

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from retrieval import CorpusError, Document, Searcher, build_index, read_corpus
from retrieval.text_files import file_title, first_heading

ROWS = [{"id": "a", "text": "alpha one", "title": "A"}, {"id": "b", "text": "bêta", "title": "B"}]
DOCUMENTS = [Document(row["id"], row["text"], row["title"]) for row in ROWS]


def zstd(content: bytes) -> bytes:
    return pa.compress(content, "zstd", asbytes=True)


def parquet(rows) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Files of an empty working folder: name to content."""
    monkeypatch.chdir(tmp_path)

    def write(files):
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def read(*arguments, **options):
    corpus = read_corpus(*arguments, **options)
    return [(d.id, d.title, d.text) for d in corpus], corpus


def test_a_folder_is_one_document_a_file_sorted_and_without_what_is_hidden(put):
    put(
        {
            "docs/b.txt": "plain\nlines\n",
            "docs/a.md": "intro\n\n# Apples\n\nred\n",
            "docs/deep/er/c.markdown": "no heading",
            "docs/deep/_index.md": "Section\n=======\ntext",
            "docs/.git/x.md": "# hidden",
            "docs/deep/.draft.txt": "hidden",
            "docs/picture.png": b"\x89PNG",
            "docs/UPPER.MD": "## Second level ##\n",
            "docs/empty.txt": " \n",
        }
    )
    documents, corpus = read("docs")
    assert documents == [
        ("UPPER.MD", "Second level", "## Second level ##\n"),
        ("a.md", "Apples", "intro\n\n# Apples\n\nred\n"),
        ("b.txt", "b", "plain\nlines\n"),
        ("deep/_index.md", "Section", "Section\n=======\ntext"),
        ("deep/er/c.markdown", "c", "no heading"),
    ]
    assert (corpus.rows, corpus.skipped) == (6, 1)
    assert corpus.where == "docs/empty.txt, line 1"


def test_a_file_that_is_named_itself_goes_by_the_name_it_is_given(put):
    put({"docs/a.md": "# A", "docs/b.txt": "b"})
    assert read("docs/a.md")[0] == [("docs/a.md", "A", "# A")]
    assert [row[0] for row in read("./docs/*")[0]] == ["docs/a.md", "docs/b.txt"]
    both, _ = read(["docs", "docs/b.txt"])
    assert [row[0] for row in both] == ["a.md", "b.txt", "docs/b.txt"]


def test_the_content_stays_as_it_is_but_for_the_mark_of_its_order(put):
    put({"docs/a.txt": b"\xef\xbb\xbf  one\r\n\ttwo \r\n", "docs/b.md": b"\xef\xbb\xbf# One\r\nx"})
    assert read("docs")[0] == [("a.txt", "a", "  one\r\n\ttwo \r\n"), ("b.md", "One", "# One\r\nx")]


def test_folders_with_keys_in_their_names_give_columns(put):
    put({"d/year=2020/a.md": "x", "d/year=2021/b.md": "y", "d/c.md": "z"})
    found = {document.id: document.metadata for document in read_corpus("d")}
    assert found == {
        "c.md": {"year": None},
        "year=2020/a.md": {"year": 2020},
        "year=2021/b.md": {"year": 2021},
    }
    assert [d.metadata for d in read_corpus("d", metadata_columns=[])] == [{}, {}, {}]
    with pytest.raises(CorpusError, match=r"^d/c.md: there is no column 'body'; found: id, title,"):
        list(read_corpus("d", text_column="body"))


HEADINGS = {
    "# One": "One",
    "####### seven": None,
    "#no space": None,
    "#\n## Behind an empty one": "Behind an empty one",
    "   ### Three ###   ": "Three",
    "    # code": None,
    "# C# and #": "C# and",
    "# C#": "C#",
    "text\n\n## Later `code` *and* all": "Later `code` *and* all",
    "```\n# a comment\n```\n# Real": "Real",
    "```sh\n# a comment\n```sh\n# still one\n````\n# Real": "Real",
    "~~~\n```\n# a comment\n~~~\n# Real": "Real",
    "`````\n```\n# a comment\n`````\n# Real": "Real",
    "```code``` in a line\n# Real": "Real",
    "```\n# never closed": None,
    "---\ntitle: x\n# a comment\n---\n# Real": "Real",
    "---\nnever: closed\n# Real": "Real",
    "Title\n===": "Title",
    "  Title \n-----\n# Later": "Title",
    "text\n\n---\n# Real": "Real",
    "- item\n---\n# Real": "Real",
    "> quote\n===\n# Real": "Real",
    "| a |\n---\n# Real": "Real",
    "a\r\n\r\n# Windows\r\nb": "Windows",
    "form\x0c# feed": None,
    "": None,
}


@pytest.mark.parametrize("markdown", HEADINGS, ids=repr)
def test_the_first_heading(markdown):
    assert first_heading(markdown) == HEADINGS[markdown]


def test_only_markdown_has_headings(put):
    put({"a.txt": "# shell comment", "b.md": "# Heading"})
    assert [row[1] for row in read(["a.txt", "b.md"])[0]] == ["a", "Heading"]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("a/b.txt", "b"),
        ("b.v2.md.gz", "b.v2"),
        ("b.MARKDOWN.ZST", "b"),
        ("b c.txt", "b c"),
    ],
)
def test_the_title_of_a_file_is_its_name(name, title):
    assert file_title(name) == title


PROBLEMS = {
    "invalid UTF-8": (b"fine\ncaf\xe9", ", line 2: invalid UTF-8 at byte 8 of the file"),
    "UTF-16": ("wide".encode("utf-16"), ", line 1: this is UTF-16 text, not text in UTF-8"),
    "a zip": (b"PK\x03\x04rest", ", line 1: this is a zip archive, not text in UTF-8"),
    "a gzip": (gzip.compress(b"x"), ", line 1: this is gzip, not text in UTF-8"),
    "a zst": (zstd(b"x"), ", line 1: this is Zstandard, not text in UTF-8"),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_what_is_no_text_is_named_and_may_be_passed_over(kind, put):
    content, message = PROBLEMS[kind]
    put({"docs/a.txt": "good", "docs/b.md": content, "docs/c.txt": "good too"})
    whole = re.escape(f"docs/b.md{message}; mend it, or pass --on-error skip")
    with pytest.raises(CorpusError, match=f"^{whole}$"):
        list(read_corpus("docs"))
    documents, corpus = read("docs", on_error="skip", rejects="rejects.jsonl")
    assert [row[0] for row in documents] == ["a.txt", "c.txt"]
    assert corpus.skipped == 1
    (rejected,) = map(json.loads, open_lines("rejects.jsonl"))
    assert rejected["file"] == "docs/b.md"
    assert rejected["reason"] == message.split(": ", 1)[1]


def open_lines(path):
    with open(path, encoding="utf-8") as lines:
        return lines.readlines()


def test_a_text_beyond_the_cap_is_refused(put, monkeypatch):
    monkeypatch.setattr("retrieval.text_files.MAX_TEXT", 10)
    put({"a.txt": "x" * 10, "b.txt": "x" * 11, "c.txt.zst": zstd(b"x" * 11)})
    assert len(read("a.txt")[0]) == 1
    for name in ("b.txt", "c.txt.zst"):
        with pytest.raises(CorpusError, match=f"^{name}, line 1: the text is longer than 10 bytes"):
            list(read_corpus(name))


def test_a_folder_with_parquet_is_its_parquet(put):
    put({"data/a.parquet": parquet(ROWS), "data/README.md": "# Notes", "data/x.jsonl": "{}"})
    assert list(read_corpus("data")) == DOCUMENTS


@pytest.mark.parametrize("rows", ["data/x.jsonl", "data/deep/x.csv.gz", "data/x.parquet.zst"])
def test_a_folder_of_rows_and_texts_is_for_its_owner_to_tell_apart(rows, put):
    put({rows: b"", "data/README.md": "# Notes"})
    message = (
        f"data holds rows ({rows.removeprefix('data/')}) and texts (README.md); "
        "name the files that are meant, as 'data/*.md'"
    )
    with pytest.raises(CorpusError, match=f"^{re.escape(message)}$"):
        read_corpus("data")


@pytest.mark.parametrize("name", ["data/x.jsonl", "data/.x.md", "data/x.png", "data/a.md/x"])
def test_a_folder_without_texts_asks_for_the_names(name, put):
    put({name: b"{}"})
    message = "^data is a folder without Parquet or text files; name its files: 'data/\\*.jsonl'$"
    with pytest.raises(CorpusError, match=message):
        read_corpus("data")


def separated(delimiter: str) -> str:
    table = [list(ROWS[0]), *(row.values() for row in ROWS)]
    return "".join(delimiter.join(values) + "\n" for values in table)


LINES = "".join(json.dumps(row) + "\n" for row in ROWS)
FORMATS = {
    **{".jsonl": LINES.encode(), ".ndjson": LINES.encode()},
    **{".csv": separated(",").encode(), ".tsv": separated("\t").encode()},
    ".parquet": parquet(ROWS),
}
PACKED = {
    "one frame": zstd,
    "two frames": lambda content: zstd(content[:20]) + zstd(content[20:]),
}


@pytest.mark.parametrize("how", PACKED)
@pytest.mark.parametrize("extension", FORMATS)
def test_zstandard_is_read_beside_gzip(extension, how, put):
    put({f"c{extension}.zst": PACKED[how](FORMATS[extension])})
    corpus = read_corpus(f"c{extension}.zst")
    assert list(corpus) == DOCUMENTS
    assert corpus.fraction() == 1.0


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
@pytest.mark.parametrize("extension", [".txt", ".md", ".markdown"])
def test_packed_texts_are_texts(extension, ending, pack, put):
    name = f"a{extension}{ending}"
    put({f"docs/{name}": pack("# Ünï\n".encode())})
    title = "a" if extension == ".txt" else "Ünï"
    assert read("docs")[0] == [(name, title, "# Ünï\n")]


WHOLE = zstd("".join(f'{{"text":"row {n * n}"}}\n' for n in range(2_000)).encode())


@pytest.mark.parametrize(
    "content",
    [WHOLE[:-9], WHOLE[: len(WHOLE) // 2], WHOLE + b"more", b"{}\n" * 9],
    ids=["without its end", "half", "with something behind", "not packed at all"],
)
def test_a_damaged_zst_is_refused_by_name(content, put):
    put({"c.jsonl.zst": content})
    with pytest.raises(CorpusError, match=r"^c\.jsonl\.zst: cannot be read: "):
        list(read_corpus("c.jsonl.zst"))


def test_a_folder_is_indexed_and_found(put, bag):
    put({"docs/a.md": "# Apples\nred fruit", "docs/deep/b.txt": "blue sky"})
    assert build_index("docs", "index", encoder=bag).rows == 2
    with Searcher("index", encoder=bag) as searcher:
        (hit,) = searcher.search("blue sky b", k=1)
        assert (hit.id, hit.title, hit.text) == ("deep/b.txt", "b", "blue sky")
