"""Parquet files of strangers: read or refused, and the process lives on."""

import io
import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexes.columns import read_columns, types_of, write_columns
from indexes.errors import IndexCorrupt
from indexes.footer import Account, read_footer

SCHEMA = [
    {"name": "year", "type": "int64"},
    {"name": "score", "type": "double"},
    {"name": "lang", "type": "string"},
    {"name": "open", "type": "bool"},
    {"name": "tags", "type": "list<item: string>"},
]
ROWS = 40


@pytest.fixture(scope="module")
def file():
    payloads = [
        json.dumps(
            {
                "id": f"r{at}",
                "title": "t" * (at % 3),
                "metadata": {
                    **{"year": at, "score": at / 3, "lang": "en" if at % 2 else "de"},
                    **{"open": at % 5 == 0, "tags": [f"t{at % 7}"] * (at % 4)},
                },
            }
        ).encode()
        for at in range(ROWS)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexes.columns.BLOCK_ROWS", 25)
        return write_columns(payloads, SCHEMA)


def footer_start(file):
    return len(file) - 8 - int.from_bytes(file[-8:-4], "little")


def accepted(file):
    """Whether it is read; what is read fits the schema then, and nothing else may happen."""
    try:
        table = read_columns(bytes(file), ROWS, SCHEMA)
    except IndexCorrupt as error:
        problem = str(error)
    else:
        assert (len(table), table.column_names) == (ROWS, list(types_of(SCHEMA)))
        table.validate(full=True)
        return True
    assert problem.isprintable()
    return False


def test_what_is_written_is_read(file):
    assert read_columns(file, ROWS, SCHEMA)["year"].to_pylist() == list(range(ROWS))
    account = pq.read_metadata(io.BytesIO(file))
    chunks = [account.row_group(g).column(c) for g in range(2) for c in range(7)]
    assert read_footer(file) == Account(ROWS, sum(chunk.num_values for chunk in chunks))


def test_every_cut_is_noticed(file):
    assert not any(accepted(file[:end]) for end in range(0, len(file), 3))
    assert not accepted(file[1:])
    assert not accepted(file + b"x")


def test_every_changed_byte_of_the_values_is_noticed_or_changes_nothing(file):
    expected = read_columns(file, ROWS, SCHEMA)
    rng, noticed, tried = random.Random(1), 0, 400
    for _ in range(tried):
        changed = bytearray(file)
        changed[rng.randrange(footer_start(file))] ^= 1 << rng.randrange(8)
        if accepted(changed):
            assert read_columns(bytes(changed), ROWS, SCHEMA).equals(expected)
        else:
            noticed += 1
    assert noticed > 0.8 * tried


def test_no_footer_ends_the_process(file):
    rng, start = random.Random(2), footer_start(file)
    for _ in range(1500):
        changed = bytearray(file)
        for _ in range(rng.choice([1, 1, 2, 3])):
            changed[rng.randrange(start, len(file) - 8)] = rng.choice([0, 255, rng.randrange(256)])
        accepted(changed)


# Structs of the compact protocol: a dict is a struct, a list holds values of one kind.


def varint(value):
    return bytes([value & 127 | 128]) + varint(value >> 7) if value > 127 else bytes([value])


def whole(value):
    return varint(2 * value if value >= 0 else -2 * value - 1)


KINDS = {bool: 1, int: 6, bytes: 8, list: 9, dict: 12}


def encoded(value):
    if isinstance(value, dict):
        fields = (
            bytes([KINDS[type(v)] if v is not False else 2]) + whole(k) + encoded(v)
            for k, v in value.items()
        )
        return b"".join(fields) + b"\0"
    if isinstance(value, list):
        kind = KINDS[type(value[0])] if value else 12
        return bytes([0xF0 | kind]) + varint(len(value)) + b"".join(map(encoded, value))
    if isinstance(value, bool):
        return b""
    return varint(len(value)) + value if isinstance(value, bytes) else whole(value)


def made(footer=None, *, raw=None, page=None, dictionary=None, **account):
    """A file of one column with one data page, of five values in four bytes."""
    pages = b""
    if dictionary is not None:
        pages += encoded({3: 4, 7: {1: 1, 2: 0} | dictionary}) + b"\0\0\0\0"
    start, data = len(pages) + 4, encoded({3: 4, 5: {1: 5, 2: 0}} | (page or {})) + b"\0\0\0\0"
    pages += data
    about = {4: 0, 5: 5, 7: len(pages), 9: start} | ({11: 4} if dictionary is not None else {})
    about |= {int(name[1:]): value for name, value in account.items()}
    chunk = {3: {number: value for number, value in about.items() if value is not None}}
    whole_file = {3: 5, 4: [{1: [chunk], 3: 5}], 9: {1: [b"x"]}, 10: True, 11: False}
    text = encoded(whole_file | (footer or {})) if raw is None else raw
    return b"PAR1" + pages + text + len(text).to_bytes(4, "little") + b"PAR1"


def test_a_made_file_is_read():
    assert read_footer(made()) == Account(5, 5)
    assert read_footer(made(dictionary={})) == Account(5, 5)


NESTED = {1: [b"x"]}
for _ in range(20):
    NESTED = {1: NESTED}


@pytest.mark.parametrize(
    ("file", "problem"),
    [
        (b"", "it has no footer"),
        (b"PAR1PAR1", "it has no footer"),
        (made()[:-4] + b"PARE", "it has no footer"),
        (made()[:-8] + b"\xff\xff\xff\x7fPAR1", "it has no footer"),
        (made({3: 6}), "its rows do not add up"),
        (made({3: 0, 4: [{1: [], 3: -5}, {1: [], 3: 5}]}), "its rows do not add up"),
        (made({4: [{3: 5}]}), "1"),
        (made({4: 5}), "not iterable"),
        (made({4: [b"group"]}), "not a Parquet file of ours"),
        (made(_4=6), "a column is compressed or in another file"),
        (made({4: [{1: [{1: b"/etc/passwd", 3: {4: 0}}], 3: 5}]}), "or in another file"),
        (made(_7=10**9), "its columns overlap"),
        (made(_7=-1), "a column lies outside of it"),
        (made(_9=10**9), "a column lies outside of it"),
        (made(_9=-4), "a column lies outside of it"),
        (made(_5=4), "the pages of a column do not add up"),
        (made(_5=None), "5"),
        (made(page={5: {1: 2**31 - 1, 2: 0}}), "the pages of a column do not add up"),
        (made(page={5: {1: -1, 2: 0}}), "a page is not as it is written here"),
        (made(page={5: {1: 5, 2: 7}}), "a page is not as it is written here"),
        (made(page={3: -1}), "a page is not as it is written here"),
        (made(page={3: 3}), "not a Parquet file of ours"),
        (made(page={3: 5}), "the pages of a column do not add up"),
        (made(page={8: {1: 2**31 - 1, 4: 0}}), "too many values to unpack"),
        (made(dictionary={1: 2}), "a dictionary does not fit its page"),
        (made(dictionary={2: 7}), "a page is not as it is written here"),
        (made(raw=encoded({3: 5})[:-1] + encoded({3: 5})), "field 3 comes twice"),
        (made(raw=encoded({3: 5})[:-1]), "index out of range"),
        (made(raw=b"\x16" + b"\xff" * 20), "a number has more than 64 bits"),
        (made(raw=b"\x18" + varint(10**12)), "a text goes on behind the end"),
        (made(raw=b"\x19\xfc" + varint(10**12)), "index out of range"),
        (made(raw=b"\x1b\x00"), "there is a value of kind 11 at depth 1"),
        (made({1: NESTED}), "there is a value of kind 12 at depth 17"),
        (made(raw=b"\x1c" * 100_000), "there is a value of kind 12 at depth 17"),
    ],
    ids=range(34),
)
def test_an_account_that_does_not_hold_is_refused(file, problem):
    with pytest.raises(IndexCorrupt, match=f"not a Parquet file of ours: .*{problem}|{problem}"):
        read_footer(file)


def test_a_column_shorter_than_the_rows_is_refused():
    sink = io.BytesIO()
    pq.write_table(pa.table({"year": range(ROWS)}), sink, compression="none", store_schema=False)
    honest, field = sink.getvalue(), b"\x16" + whole(ROWS)
    start = footer_start(honest)
    rows, _, group_rows = [at for at in range(start, len(honest)) if honest[at : at + 2] == field]
    lying = bytearray(honest)
    lying[rows + 1] = lying[group_rows + 1] = whole(ROWS + 1)[0]
    assert read_footer(bytes(lying)) == Account(ROWS + 1, ROWS)
    with pytest.raises(IndexCorrupt, match="have 40 rows, the segment has 41"):
        read_columns(bytes(lying), ROWS + 1, SCHEMA, ["year"])


def test_a_list_longer_than_its_file_says_takes_no_memory(arrow_pool):
    many, sink = 20_000_000, io.BytesIO()
    items = pa.ListArray.from_arrays(pa.array([0, many], pa.int32()), pa.repeat("a", many))
    pq.write_table(
        pa.table({"tags": items}), sink, compression="none", data_page_size=2**30, version="2.6"
    )
    honest, old = sink.getvalue(), whole(many)
    assert len(honest) < 2000
    padded = bytes([20 | 128]) + b"\x80" * (len(old) - 2) + b"\0"  # ten, in as many bytes
    start = footer_start(honest)
    lying = honest[:start] + honest[start:].replace(old, padded)
    pa.set_memory_pool(counting := pa.proxy_memory_pool(arrow_pool))
    for file, problem in ((honest, "too many for 1 rows"), (lying, "do not add up")):
        with pytest.raises(IndexCorrupt, match=problem):
            read_columns(file, 1, SCHEMA)
    assert counting.max_memory() < 10**6
