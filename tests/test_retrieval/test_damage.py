"""Corpus files with one bit flipped, wherever it is: rows or a clear error."""

import gzip
import io
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

# In a process of its own: an abort in C++ is a failure of the test, not of the tests.
FLIP = """
import sys
from pathlib import Path
from retrieval import RetrievalError, read_corpus

path = Path(sys.argv[1])
whole = path.read_bytes()
for bit in range(0, 8 * len(whole), 3):
    damaged = bytearray(whole)
    damaged[bit // 8] ^= 1 << bit % 8
    path.write_bytes(damaged)
    try:
        list(read_corpus(path, on_error="skip"))
    except RetrievalError as error:
        if str(path) not in str(error) or "\\n" in str(error):
            print(f"bit {bit}: unclear: {error}")
    except Exception as error:
        print(f"bit {bit}: {error!r}")
"""
JSONL = b'{"id":"a","text":"one two three"}\n{"id":"b","text":"one two four"}\n'
CSV = b'id,text,n\na,"one ""two""",1\nb,"three\nfour",2\n'


def parquet() -> bytes:
    table = pa.table({"id": ["a", "b"], "text": ["one", None], "title": ["T", "U"], "n": [1, 2]})
    sink = io.BytesIO()
    options = {"compression": "none", "use_dictionary": False, "store_schema": False}
    pq.write_table(table, sink, write_page_checksum=True, **options)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.parquet", parquet()),
        ("c.jsonl", JSONL),
        ("c.csv", CSV),
        ("c.jsonl.gz", gzip.compress(JSONL, mtime=0)),
        ("c.csv.gz", gzip.compress(CSV, mtime=0)),
    ],
    ids=["parquet", "jsonl", "csv", "jsonl.gz", "csv.gz"],
)
def test_a_flipped_bit_gives_rows_or_a_clear_error(name, content, tmp_path):
    (tmp_path / name).write_bytes(content)
    ran = subprocess.run(
        [sys.executable, "-c", FLIP, tmp_path / name], capture_output=True, text=True
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("", "", 0)
