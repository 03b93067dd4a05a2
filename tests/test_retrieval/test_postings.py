"""Postings hold what the texts do, and a file that lies about itself is refused."""

import mmap
import random
import struct
from collections import Counter

import numpy as np
import pytest

from indexes import IndexCorrupt
from retrieval.analysis import terms
from retrieval.postings import HEADER, Postings, postings

WORDS = ["pear", "plum", "42", "déjà", "мир", "straße", "日本", "apple", "of", "running", "z" * 64]
FIELDS = ("magic", "rows", "zero", "terms", "postings", "bytes", "language")


def texts_of(count, seed=0):
    chance = random.Random(seed)
    return [" ".join(chance.choices(WORDS, k=chance.randrange(30))) for _ in range(count)]


def written(texts, language="none"):
    return b"".join(postings(texts, language))


def sections(data):
    """Where each part of a file begins: lengths, term ends, ends, rows, counts, terms, behind."""
    _, rows, _, words, count, size, _ = HEADER.unpack_from(data)
    sizes = (HEADER.size, 4 * rows, 8 * words, 8 * words, 4 * count, 2 * count, size)
    return np.cumsum(sizes).tolist()


def everything(data, rows):
    own = Postings(data, rows)
    vocabulary = sorted({term for word in WORDS for term in terms(word, own.language)})
    found = {term: own.held(term) for term in vocabulary}
    return {
        term: dict(zip(*map(np.ndarray.tolist, held), strict=True)) if held else {}
        for term, held in found.items()
    }


@pytest.mark.parametrize("language", ["none", "english", "german"])
@pytest.mark.parametrize("count", [0, 1, 2, 300])
def test_what_is_read_is_what_was_written(count, language):
    texts = texts_of(count)
    data = written(texts, language)
    counted = [Counter(terms(text, language)) for text in texts]
    found = everything(data, count)
    assert found == {
        term: {row: own[term] for row, own in enumerate(counted) if term in own} for term in found
    }
    own = Postings(data, count)
    assert own.language == language
    assert own.lengths.tolist() == [sum(each.values()) for each in counted]
    assert own.held("nowhere") is own.held("") is own.held("\U0010ffff") is None
    assert count < 300 or all(found.values())


def test_texts_may_come_one_by_one():
    texts = texts_of(50)
    assert b"".join(postings(iter(texts), "none")) == written(texts)


def test_a_map_is_read_as_bytes_are(tmp_path):
    data = written(texts_of(50))
    path = tmp_path / "postings"
    path.write_bytes(data)
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    assert everything(mapped, 50) == everything(data, 50)


def test_the_file_is_little_endian_and_has_no_gaps():
    data = written(["pear apple pear", "", "apple"])
    ends = sections(data)
    assert ends[-1] == len(data)
    assert data[ends[5] :] == b"applepear"
    assert struct.unpack_from("<3I", data, ends[0]) == (3, 0, 1)
    assert struct.unpack_from("<2Q", data, ends[1]) == (5, 9)
    assert struct.unpack_from("<2Q", data, ends[2]) == (2, 3)
    assert struct.unpack_from("<3I", data, ends[3]) == (0, 2, 0)
    assert struct.unpack_from("<3H", data, ends[4]) == (1, 1, 2)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("wrong", [0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
def test_a_header_that_lies_is_refused(field, wrong):
    data = written(texts_of(40))
    values = list(HEADER.unpack_from(data))
    at = FIELDS.index(field)
    if isinstance(values[at], bytes):
        wrong = str(wrong).encode()
    elif at in (1, 2):
        wrong = min(wrong, 2**32 - 1)
    if wrong == values[at]:
        wrong = 7
    values[at] = wrong
    with pytest.raises(IndexCorrupt):
        Postings(HEADER.pack(*values) + data[HEADER.size :], 40)


def changed(data, section, number, form, value):
    """The file with one number of a section replaced; negative ones count from its end."""
    begins, size = sections(data), struct.calcsize(form)
    at = begins[section + (number < 0)] + number * size
    return data[:at] + struct.pack(form, value) + data[at + size :]


@pytest.mark.parametrize(
    ("section", "number", "form", "value"),
    [
        (2, 0, "<Q", 0),  # no postings
        (2, 0, "<Q", 4),  # more than there are
        (2, 0, "<Q", 2**64 - 1),
        (3, 0, "<I", 3),  # no such row
        (3, 0, "<I", 2),  # the same row twice
        (3, 1, "<I", 2**32 - 1),
    ],
)
def test_postings_outside_of_the_segment_are_refused(section, number, form, value):
    data = written(["pear apple pear", "", "apple"])
    with pytest.raises(IndexCorrupt):
        Postings(changed(data, section, number, form, value), 3).held("apple")


def test_ends_of_terms_that_descend_are_refused():
    data = written(["pear apple plum"])
    for number, value in ((1, 20), (0, 10), (1, 2**64 - 1)):
        with pytest.raises(IndexCorrupt, match="are cut at"):
            Postings(changed(data, 1, number, "<Q", value), 1).held("pear")


@pytest.mark.parametrize("seed", range(4))
def test_nothing_but_corruption_is_raised_of_any_bytes(seed):
    chance = random.Random(seed)
    data = written(texts_of(12, seed))
    for _ in range(1_000):
        raw = bytearray(data)
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(len(raw))
            raw[at : at + chance.choice([1, 4, 8])] = chance.choice(
                [b"\0", b"\xff", b"\xff" * 8, b"\0" * 8, chance.randbytes(4)]
            )
        raw = bytes(raw[: chance.choice([len(raw), len(raw), chance.randrange(len(raw))])])
        try:
            found = everything(raw, 12)
        except IndexCorrupt:
            continue
        assert all(row < 12 for held in found.values() for row in held)
