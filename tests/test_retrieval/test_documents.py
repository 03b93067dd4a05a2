"""Records, their stored form, the schema of their metadata, and the helpers of encoding."""

import json
from datetime import date, datetime, timedelta, timezone
from itertools import chain

import numpy as np
import pytest

from retrieval.documents import Document, Hit, dropped_in, to_payload, with_dropped
from retrieval.encoding import check_texts, model_record, windows
from retrieval.errors import QueryError, RowProblem
from retrieval.matrix import write_matrix
from retrieval.schema import Schema, restore

EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("title", "text", "full"),
    [
        ("", "a text", "a text"),
        ("A title", "a text", "A title a text"),
        ("A title", "", "A title"),
        ("", "  kept as given ", "  kept as given "),
    ],
)
def test_the_full_text_is_title_and_text_joined_by_one_space(title, text, full):
    assert Document("1", text, title).full_text == full


def test_a_document_cannot_be_changed():
    with pytest.raises(AttributeError):
        Document("1", "text").text = "other"


def test_a_payload_is_compact_utf8_json_with_dates_as_iso_text():
    document = Document(
        "é", 'a "b"\n', "T", {"day": date(2024, 2, 29), "at": datetime(2024, 1, 2, 3, tzinfo=EAST)}
    )
    assert to_payload(document).decode() == (
        '{"id":"é","text":"a \\"b\\"\\n","title":"T",'
        '"metadata":{"day":"2024-02-29","at":"2024-01-02T03:00:00+02:00"}}'
    )


def test_a_hit_becomes_plain_data_in_the_order_of_its_fields():
    hit = Hit(1, "a", 0.5, "text", "title", {"day": date(2024, 2, 29), "tags": ["x"], "n": None})
    record = hit.to_dict()
    assert list(record) == ["rank", "id", "score", "text", "title", "metadata"]
    assert record["metadata"] == {"day": "2024-02-29", "tags": ["x"], "n": None}
    assert json.loads(json.dumps(record)) == record


@pytest.mark.parametrize("dropped", [0, 1, 12_345])
def test_the_dropped_tokens_are_found_again_in_the_payload_that_holds_them(dropped):
    payload = to_payload(Document("1", 'text with ,"dropped":7} in it'))
    stored = with_dropped(payload, dropped)
    assert json.loads(stored).get("dropped", 0) == dropped
    assert dropped_in(stored, payload) == dropped


@pytest.mark.parametrize("dropped", [0, 3])
def test_another_documents_payload_has_no_dropped_tokens_for_us(dropped):
    stored = with_dropped(to_payload(Document("1", "text")), dropped)
    assert dropped_in(stored, to_payload(Document("1", "texts"))) is None
    assert dropped_in(stored, to_payload(Document("1", "text", "title"))) is None
    assert dropped_in(stored, to_payload(Document("2", "text"))) is None


VALUES = [
    ("bool", True),
    ("int64", 7),
    ("int64", -(2**63)),
    ("double", 1.5),
    ("string", "word"),
    ("timestamp[us]", datetime(2024, 1, 2, 3, 4, 5, 6)),
    ("timestamp[us]", datetime(2024, 1, 2, tzinfo=EAST)),
    ("date32[day]", date(2024, 1, 2)),
    ("list<item: string>", ["a", "b"]),
    ("list<item: string>", []),
]


@pytest.mark.parametrize(("kind", "value"), VALUES)
def test_metadata_of_every_type_comes_back_from_json_as_it_was(kind, value):
    schema = Schema()
    document = Document("1", "text", metadata={"column": value})
    schema.observe(document.metadata)
    assert schema.fields() == [{"name": "column", "type": kind}]
    back = restore(json.loads(to_payload(document))["metadata"], schema.fields())["column"]
    assert (back, type(back)) == (value, type(value))


def test_the_schema_keeps_the_order_of_first_appearance_and_promotes_whole_numbers():
    schema = Schema()
    for metadata in ({"b": 1, "a": None}, {"a": "x", "b": None}, {"b": 0.5}, {"b": 2}):
        schema.observe(metadata)
    assert schema.fields() == [
        {"name": "b", "type": "double"},
        {"name": "a", "type": "string"},
    ]
    assert type(restore({"b": 3}, schema.fields())["b"]) is float
    assert restore({"b": None}, schema.fields()) == {"b": None}


@pytest.mark.parametrize(
    ("first", "second"),
    [(1, "1"), (True, 1), (1.5, True), (date(2024, 1, 1), datetime(2024, 1, 1)), ("a", ["a"])],
)
def test_a_column_that_changes_its_type_is_refused_and_changes_nothing(first, second):
    schema = Schema()
    schema.observe({"n": first})
    before = schema.fields()
    with pytest.raises(RowProblem, match=r"^metadata 'n' is \S+.*, but it was \S+.* before; make"):
        schema.observe({"m": "new", "n": second})
    assert schema.fields() == before


@pytest.mark.parametrize("value", [2**63, {"a": 1}, [1], b"bytes", 1j])
def test_metadata_without_a_type_is_refused_by_name(value):
    with pytest.raises(RowProblem) as caught:
        Schema().observe({"n": value})
    assert str(caught.value) == (
        f"metadata 'n' holds {type(value).__name__}; expected text, a number of at most 64 bits, "
        "true or false, a date, or a list of texts"
    )


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (3, [3]), (7, [3, 3, 1])], ids=str)
def test_windows_are_consecutive_and_only_the_last_is_shorter(count, sizes):
    found = list(windows(iter(range(count)), 3))
    assert [len(window) for window in found] == sizes
    assert list(chain(*found)) == list(range(count))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one", "expected a list of texts, got one str; put it in a list"),
        (["one", 2], "text 1 is int; expected str"),
        ([None], "text 0 is NoneType; expected str"),
        ([b"one"], "text 0 is bytes; expected str"),
        (["\ud800"], "text 0 holds a lone surrogate, which is not Unicode text"),
    ],
)
def test_a_text_that_is_no_text_is_refused(texts, message):
    with pytest.raises(QueryError) as caught:
        check_texts(texts)
    assert str(caught.value) == message


def test_the_record_of_an_encoder_of_ones_own_is_its_name_fingerprint_and_length(bag):
    assert model_record(bag) == {
        "name": "BagOfWords",
        "fingerprint": "bag-32-256",
        "max_length": 256,
    }


@pytest.mark.parametrize("sizes", [[], [0], [3], [2, 5, 1]])
def test_a_matrix_written_in_batches_is_what_numpy_reads(tmp_path, sizes):
    batches = [np.random.default_rng(size).random((size, 4)).astype(np.float32) for size in sizes]
    assert write_matrix(tmp_path / "m.npy", batches, 4) == sum(sizes)
    found = np.load(tmp_path / "m.npy")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.concatenate([np.empty((0, 4), np.float32), *batches]))


def test_a_matrix_that_fails_half_way_leaves_what_was_there(tmp_path):
    def failing():
        yield np.ones((2, 4), np.float32)
        raise OSError("no more")

    path = tmp_path / "m.npy"
    path.write_bytes(b"the old one")
    with pytest.raises(OSError, match="no more"):
        write_matrix(path, failing(), 4)
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]
