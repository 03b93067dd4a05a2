"""Corpora that cannot be indexed: the exact message, the exit code, and nothing half-written."""

import gzip
import io
import re
import struct
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

GOOD = b'{"id":"a","text":"alpha one"}\n{"id":"b","text":"beta two"}\n'
MEND = "; mend it, or pass --on-error skip"
TEXT_NAMES = "expected one of text, content, body, passage"
KNOWN = "known: .parquet, .jsonl, .ndjson, .csv, .tsv, .txt, .md, .markdown, each also .gz or .zst"


def parquet(columns=None, **options) -> bytes:
    columns = columns or {"id": ["a", "b"], "text": ["alpha one", "beta two"]}
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, **options)
    return sink.getvalue()


def flipped_page() -> bytes:
    whole = parquet(
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        write_page_checksum=True,
    )
    return whole.replace(b"alpha one", b"alphb one")


def not_utf8() -> pa.Array:
    ends = struct.pack("<3i", 0, 2, 4)
    return pa.Array.from_buffers(
        pa.string(), 2, [None, pa.py_buffer(ends), pa.py_buffer(b"ok\xff\xfe")]
    )


def broken_deflate() -> bytes:
    rows = b"".join(b'{"id":"%d","text":"alpha %d"}\n' % (n, n * n) for n in range(500))
    packed = gzip.compress(rows)
    return packed[: len(packed) // 4] + b"\xff" * 8 + packed[len(packed) // 4 + 8 :]


# name of the file, its content, what the message says after the name
FILES = {
    "an unknown extension": ("c.docx", GOOD, f": unknown format '.docx'; {KNOWN}"),
    "no extension": ("corpus", GOOD, f": unknown format '(no extension)'; {KNOWN}"),
    "gz alone": ("c.gz", gzip.compress(GOOD), f": unknown format '(no extension)'; {KNOWN}"),
    "a text named Parquet": ("c.parquet", GOOD, ": not a Parquet file: it begins with b'{\"id'"),
    "a gzip named Parquet": (
        "c.parquet",
        gzip.compress(GOOD),
        ": not a Parquet file: it is gzip",
    ),
    "a Parquet file without a byte": ("c.parquet", b"", ": not a Parquet file: it is empty"),
    "a Parquet file without its end": (
        "c.parquet",
        parquet()[:-10],
        ": the Parquet file is truncated: its end is missing",
    ),
    "a Parquet file with a flipped byte": (
        "c.parquet",
        flipped_page(),
        ": the Parquet file is damaged: could not verify page integrity, "
        "CRC checksum verification failed for page_ordinal 0",
    ),
    "Parquet without a text": (
        "c.parquet",
        parquet({"id": ["a"], "words": ["x"]}),
        f": there is no text column; {TEXT_NAMES}; found: id, words; name it with --text-column",
    ),
    "CSV without a text": (
        "c.csv",
        b"id,words\na,x\n",
        f": there is no text column; {TEXT_NAMES}; found: id, words; name it with --text-column",
    ),
    "JSON lines without a text": (
        "c.jsonl",
        b'{"id":"a","words":"x"}\n',
        f", line 1: there is no text column; {TEXT_NAMES}; found: id, words; "
        f"name it with --text-column{MEND}",
    ),
    "a Parquet text of numbers": (
        "c.parquet",
        parquet({"id": ["a"], "text": [5]}),
        ": column 'text' holds int64; expected strings; name another with --text-column",
    ),
    "a Parquet title of numbers": (
        "c.parquet",
        parquet({"text": ["x"], "title": [5]}),
        ": column 'title' holds int64; expected strings; name another with --title-column",
    ),
    "a Parquet id of fractions": (
        "c.parquet",
        parquet({"id": [0.5], "text": ["x"]}),
        ": column 'id' holds double; expected strings or whole numbers; "
        "name another with --id-column",
    ),
    "a header that repeats a name": ("c.csv", b"text,text\na,b\n", ": the header repeats text"),
    "Parquet named JSON lines": (
        "c.jsonl",
        parquet(),
        ": this is Parquet, not text lines in UTF-8; "
        "give it the extension of what it is, or convert it",
    ),
    "UTF-16 named CSV": (
        "c.csv",
        "id,text\na,b\n".encode("utf-16"),
        ": this is UTF-16 text, not text lines in UTF-8; "
        "give it the extension of what it is, or convert it",
    ),
    "no bytes": ("c.jsonl", b"", ": no documents (0 rows skipped); there is nothing to index"),
    "blank lines only": (
        "c.jsonl",
        b"\n\n",
        ": no documents (0 rows skipped); there is nothing to index",
    ),
    "rows without a text only": (
        "c.jsonl",
        b'{"id":"a","text":""}\n{"id":"b","text":null}\n',
        ": no documents (2 rows skipped); there is nothing to index",
    ),
    "no Parquet rows": (
        "c.parquet",
        parquet({"text": pa.array([], pa.string())}),
        ": no documents (0 rows skipped); there is nothing to index",
    ),
    "a header only": (
        "c.csv",
        b"id,text\n",
        ": no documents (0 rows skipped); there is nothing to index",
    ),
    "a gzip without its end": (
        "c.jsonl.gz",
        gzip.compress(GOOD)[:-10],
        ": cannot be read: Compressed file ended before the end-of-stream marker was reached",
    ),
    "a Parquet gzip without its end": (
        "c.parquet.gz",
        gzip.compress(parquet())[:-10],
        ": cannot be read: Compressed file ended before the end-of-stream marker was reached",
    ),
    "a gzip that is none": (
        "c.jsonl.gz",
        GOOD,
        """: cannot be read: Not a gzipped file (b'{"')""",
    ),
    "a gzip with a wrong checksum": (
        "c.jsonl.gz",
        gzip.compress(GOOD)[:-8] + struct.pack("<II", 0, len(GOOD)),
        f": cannot be read: CRC check failed 0x0 != {zlib.crc32(GOOD):#x}",
    ),
    "a repeated id": (
        "c.jsonl",
        GOOD + b'{"id":"a","text":"again"}\n',
        ", line 3: the id 'a' has come before; make ids unique, "
        "or pass --on-duplicate first (or last)",
    ),
}

# name of the file, the bad row behind two good ones, where it stands, what is wrong with it
ROWS = {
    "invalid UTF-8": ("jsonl", b'{"id":"c","text":"\xff"}', "invalid UTF-8 at byte 18"),
    "a lone surrogate": (
        "jsonl",
        b'{"id":"c","text":"\\ud800"}',
        "the text holds a lone surrogate or invalid UTF-8",
    ),
    "broken JSON": (
        "jsonl",
        b'{"id":"c","text":',
        "not a JSON object: Expecting value at column 18",
    ),
    "broken JSON inside": (
        "jsonl",
        b'{"id" "c"}',
        "not a JSON object: Expecting ':' delimiter at column 7",
    ),
    "an array": ("jsonl", b'["c","text"]', "not a JSON object: found list"),
    "null": ("jsonl", b"null", "not a JSON object: found NoneType"),
    "NaN": ("jsonl", b'{"text":"c","v":NaN}', "not a JSON object: NaN is not JSON"),
    "an endless number": (
        "jsonl",
        b'{"text":"c","v":1e999}',
        "metadata 'v' is inf; expected a finite number",
    ),
    "20,000 brackets": (
        "jsonl",
        b'{"text":"c","v":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "JSON nested too deeply",
    ),
    "a number as text": (
        "jsonl",
        b'{"id":"c","text":5}',
        "column 'text' holds int (5); expected text",
    ),
    "a fraction as id": (
        "jsonl",
        b'{"id":1.5,"text":"c"}',
        "column 'id' holds float (1.5); expected text or a whole number",
    ),
    "a line over the cap": (
        "jsonl",
        b'{"text":"' + b"c" * 17 * 2**20 + b'"}',
        "the line is longer than 16777216 bytes; split the document",
    ),
    "invalid UTF-8 in CSV": (
        "csv",
        b"c,\xff",
        "the text holds a lone surrogate or invalid UTF-8",
    ),
    "too few fields": ("csv", b"c", "1 fields; the header has 2"),
    "too many fields": ("csv", b"c,d,e", "3 fields; the header has 2"),
    "text behind a quote": (
        "csv",
        b'c,"x" y',
        "cannot be split into fields: ',' expected after '\"'",
    ),
    "a CSV line over the cap": (
        "csv",
        b"c," + b"c" * 17 * 2**20,
        "the line is longer than 16777216 bytes; split the document",
    ),
}
HEAD = {"jsonl": GOOD, "csv": b"id,text\na,alpha one\n"}


def write_row(row: str) -> tuple[str, str]:
    """Write the bad row between good ones; give the file's name and what is said of it."""
    extension, bad, reason = ROWS[row]
    end = b'{"id":"z","text":"last"}\n' if extension == "jsonl" else b"z,last\n"
    name = f"c.{extension}"
    Path(name).write_bytes(HEAD[extension] + bad + b"\n" + end)
    return name, f"retrieval: {name}, line 3: {reason}{MEND}\n"


@pytest.mark.parametrize("case", FILES)
def test_a_file_is_refused_in_one_line_for(case, cli, tmp_path):
    name, content, message = FILES[case]
    Path(name).write_bytes(content)
    assert cli("index", name) == (1, "", f"retrieval: {name}{message}\n")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("case", FILES)
def test_the_old_index_still_answers_after(case, cli):
    Path("good.jsonl").write_bytes(GOOD)
    assert cli("index", "good.jsonl").code == 0
    before = cli("query", "alpha")
    name, content, _ = FILES[case]
    Path(name).write_bytes(content)
    assert cli("index", name, "--overwrite").code == 1
    assert cli("query", "alpha") == before


@pytest.mark.parametrize("row", ROWS)
def test_a_row_is_refused_by_file_and_line_for(row, cli, tmp_path):
    name, message = write_row(row)
    assert cli("index", name) == (1, "", message)
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("row", ROWS)
def test_the_build_skips_and_counts_the_row_for(row, cli):
    name, _ = write_row(row)
    code, out, err = cli("index", name, "--on-error", "skip")
    good = 3 if name == "c.jsonl" else 2
    assert (code, out) == (0, "")
    assert re.fullmatch(
        rf"{good} rows in retrieval-index, \d+\.\d s, [\d,]+ rows/s, 1 skipped\n", err
    )
    assert f'"rows": {good}, "skipped": 1,' in cli("info").out


def test_the_words_for_a_number_of_100_000_digits_are_ours(cli, tmp_path):
    Path("c.jsonl").write_bytes(GOOD + b'{"text":"c","v":' + b"9" * 100_000 + b"}\n")
    code, out, err = cli("index", "c.jsonl")
    assert (code, out) == (1, "")
    assert err.startswith("retrieval: c.jsonl, line 3: not a JSON object: ")
    assert err.endswith(f"{MEND}\n")
    assert err.count("\n") == 1
    assert "sys." not in err  # a call in Python helps nobody at the command line
    assert [path.name for path in tmp_path.iterdir()] == ["c.jsonl"]


def test_a_number_of_more_than_64_bits_is_refused_by_its_line_and_column(cli):
    Path("c.jsonl").write_bytes(GOOD + b'{"text":"c","v":18446744073709551616}\n')
    code, _, err = cli("index", "c.jsonl")
    assert code == 1
    assert err.startswith("retrieval: c.jsonl, line 3: metadata 'v' holds int")
    assert err.endswith(f"{MEND}\n")


def test_what_is_wrong_with_a_number_of_more_than_64_bits_is_said(cli):
    Path("c.jsonl").write_bytes(b'{"text":"c","v":18446744073709551616}\n')
    assert "64 bits" in cli("index", "c.jsonl").err


def test_invalid_utf8_in_parquet_is_refused_by_row_or_skipped(cli):
    Path("c.parquet").write_bytes(parquet({"id": ["a", "b"], "text": not_utf8()}))
    message = f"retrieval: c.parquet, row 2: column 'text': invalid UTF-8 at byte 0{MEND}\n"
    assert cli("index", "c.parquet") == (1, "", message)
    assert not Path("retrieval-index").exists()
    assert cli("index", "c.parquet", "--on-error", "skip").err.endswith(", 1 skipped\n")


@pytest.mark.parametrize("column", [b"\xff", b"\\ud800"], ids=["csv", "jsonl"])
def test_a_column_name_that_is_no_unicode_is_refused_like_a_value(column, cli):
    name, content = (
        ("c.csv", b"id,text,%s\na,b,c\n")
        if column == b"\xff"
        else ("c.jsonl", b'{"id":"a","text":"b","%s":"c"}\n')
    )
    Path(name).write_bytes(content % column)
    code, out, err = cli("index", name)
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"retrieval: {name}(, line \d)?: .*(UTF-8|surrogate).*\n", err)


def test_a_gzip_with_damaged_content_is_refused_like_any_other(cli):
    Path("c.jsonl.gz").write_bytes(broken_deflate())
    code, out, err = cli("index", "c.jsonl.gz")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"retrieval: c\.jsonl\.gz: cannot be read: .*\n", err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.jsonl"], "none.jsonl: no such file"),
        (["none-*.jsonl"], "none-*.jsonl: no such file"),
        (["good.jsonl", "none.csv"], "none.csv: no such file"),
        (
            ["folder"],
            "folder is a folder without Parquet or text files; name its files: 'folder/*.jsonl'",
        ),
        (
            ["good.jsonl", "--text-column", "body"],
            f"good.jsonl, line 1: there is no column 'body'; found: id, text{MEND}",
        ),
        (
            ["good.parquet", "--id-column", "key"],
            "good.parquet: there is no column 'key'; found: id, text",
        ),
        (
            ["binary.parquet", "--metadata-column", "b"],
            "binary.parquet: column 'b' holds binary; expected a scalar",
        ),
        (
            ["int.jsonl", "text.parquet"],
            "text.parquet, row 1: metadata 'v' is string, but it was int64 before; make the column "
            f"one type, or choose columns with --metadata-column{MEND}",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_that_do_not_fit_the_files_are_refused_in_one_line(arguments, message, cli):
    Path("folder").mkdir()
    Path("good.jsonl").write_bytes(GOOD)
    Path("good.parquet").write_bytes(parquet())
    Path("binary.parquet").write_bytes(parquet({"text": ["x"], "b": [b"raw"]}))
    Path("int.jsonl").write_bytes(b'{"text":"x","v":1}\n')
    Path("text.parquet").write_bytes(parquet({"text": ["y"], "v": ["one"]}))
    assert cli("index", *arguments) == (1, "", f"retrieval: {message}\n")
    assert not Path("retrieval-index").exists()


def test_bad_standard_input_is_named_so(cli):
    message = f"retrieval: standard input, line 2: not a JSON object: found int{MEND}\n"
    assert cli("index", "-", stdin=b'{"text":"one"}\n2\n') == (1, "", message)
    assert not Path("retrieval-index").exists()


def test_a_repeated_id_is_kept_once_when_it_is_asked_for(cli):
    Path("c.jsonl").write_bytes(GOOD + b'{"id":"a","text":"alpha again"}\n')
    for which, text in (("first", "alpha one"), ("last", "alpha again")):
        assert cli("index", "c.jsonl", "--on-duplicate", which, "--overwrite").code == 0
        assert '"id": "a", "score": ' in (found := cli("query", "alpha", "-k", 1).out)
        assert f'"text": "{text}"' in found


def test_the_control_characters_of_a_corpus_do_not_reach_the_terminal_in_a_message(cli):
    Path("c.csv").write_bytes(b"\x1b[2Jid,\x9b31mwords\nb,c\n".replace(b"\x9b", "\x9b".encode()))
    code, _, err = cli("index", "c.csv")
    assert code == 1
    assert "words" in err
    assert err.removesuffix("\n").isprintable()
