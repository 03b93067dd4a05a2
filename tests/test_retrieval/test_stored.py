"""Stored payloads: documents whose metadata fits the schema of their index, and all others."""

import json
from datetime import date, datetime

import pytest

from retrieval import Document
from retrieval.documents import to_payload, with_dropped
from retrieval.schema import Schema
from retrieval.stored import check_payload

METADATA = {
    **{"n": 1, "year": 2.0, "flag": True, "lang": "en", "tags": ["a", "b"], "none": None},
    **{"on": date(2020, 1, 31), "at": datetime(2020, 1, 31, 12, 30, 1)},
}


@pytest.fixture(scope="module")
def types():
    """The columns of these metadata, as a build makes them: all types that there are."""
    schema = Schema()
    schema.observe(METADATA)
    return {column["name"]: column["type"] for column in schema.fields()}


def text(**changes):
    record = {"id": "5", "text": "t", "title": "", "metadata": {}} | changes
    return json.dumps(record).encode()


PAYLOADS = [
    (b"{}", "is not a stored document: KeyError('id')"),
    (b"[1]", "is not a stored document: TypeError"),
    (b"nope", "is not a stored document: JSONDecodeError"),
    (b"[" * 100_000, "is not a stored document: RecursionError"),
    (b'{"id":"5"}', "is not a stored document: KeyError('text')"),
    (b'{"id":"5","text":"\xff","title":"","metadata":{}}', "UnicodeDecodeError"),
    (text().decode().encode("utf-16"), "UnicodeDecodeError"),
    (text(id="\ud800"), "its id, text and title must be texts"),
    (text(text=None), "its id, text and title must be texts"),
    (text(title=7), "its id, text and title must be texts"),
    (text(text="\ud800"), "its id, text and title must be texts"),
    (text(metadata=None), "is not a stored document: TypeError"),
    (text(metadata="abc"), "is not a stored document: ValueError"),
    (text(metadata={"n": float("nan")}), "NaN is not JSON"),
    (text(metadata={"n": "1"}), "metadata 'n' is str, expected int64"),
    (text(metadata={"n": True}), "metadata 'n' is bool, expected int64"),
    (text(metadata={"n": 2**63}), "metadata 'n' is int, expected int64"),
    (text(metadata={"n": 1.5}), "metadata 'n' is float, expected int64"),
    (text(metadata={"year": "2"}), "metadata 'year' is str, expected double"),
    (text(metadata={"flag": 1}), "metadata 'flag' is int, expected bool"),
    (text(metadata={"lang": ["en"]}), "metadata 'lang' is list, expected string"),
    (text(metadata={"tags": ["a", 1]}), "metadata 'tags' is list, expected list"),
    (text(metadata={"tags": "a"}), "metadata 'tags' is str, expected list"),
    (text(metadata={"on": "yesterday"}), "metadata 'on' is str, expected date32[day]"),
    (text(metadata={"on": 20200131}), "metadata 'on' is int, expected date32[day]"),
    (text(metadata={"at": "12:30"}), "metadata 'at' is str, expected timestamp[us]"),
    (text(metadata={"other": 1}), "metadata 'other' is int, expected no such column"),
]
FIT = [{"n": None, "other": None}, {"year": 2}, {"at": "2020-01-31"}, {"tags": []}, {}]


@pytest.mark.parametrize(("payload", "words"), PAYLOADS, ids=[words for _, words in PAYLOADS])
def test_a_payload_that_is_no_document_of_the_index_is_refused(payload, words, types):
    what = check_payload(payload, types)
    assert what is not None
    assert words in what


@pytest.mark.parametrize("metadata", FIT, ids=str)
def test_metadata_that_fits_passes(metadata, types):
    assert check_payload(text(metadata=metadata), types) is None


def test_what_a_build_stores_passes(types):
    payload = to_payload(Document("5", "t", "T", METADATA))
    assert check_payload(payload, types) is None
    assert check_payload(with_dropped(payload, 7), types) is None
