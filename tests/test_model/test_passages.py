"""Questions beside their passages as rows of tokens, and from tokens back to characters."""

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from miniformer.model.passages import MOST_OF_QUESTION, OVERLAP, plain, read_passages, stack_rows
from miniformer.weights import find_model

MINILM = "all-MiniLM-L6-v2"
SPECIAL = ("[CLS]", "[SEP]", "[PAD]", "[MASK]")
TEXTS = [
    "Café naïve, déjà vu: 3.14%",
    "e\u0301 cafe\u0301 Zoe\u0308.",
    "日本語のテスト 한국어 नमस्ते",
    "👩\u200d👩\u200d👧 family 😀x\ufe0f!",
    "one\u2028two\u2029three\x85four\tfive",
    "\ufeffİstanbul ẞ ﬁne \u200bwidth\x00",
    "[SEP] [CLS]x[PAD][MASK] ##ing",
]


@pytest.fixture(scope="module")
def original():
    return Tokenizer.from_file(str(find_model(MINILM).path / "tokenizer.json"))


@pytest.fixture(scope="module")
def tokenizer(original):
    return plain(original)


def bare(text):
    """A text without what BERT's normalizer takes away."""
    decomposed = unicodedata.normalize("NFD", text.lower())
    return "".join(c for c in decomposed if unicodedata.category(c) not in ("Mn", "Cc", "Cf"))


@pytest.mark.parametrize("text", TEXTS)
def test_every_token_is_found_back_by_its_characters(tokenizer, text):
    texts = ["", text, f"{text} " * 40]
    read = read_passages(tokenizer, "what [SEP] is?", texts, 100)
    special = {tokenizer.token_to_id(name) for name in SPECIAL}
    assert len(read.passages) > 3
    for row, (ids, begin) in enumerate(zip(read.rows, read.begins, strict=True)):
        assert [place for place, token in enumerate(ids) if token in special] == [
            *(0, begin - 1, len(ids) - 1)
        ]
        for place in range(begin, len(ids) - 1):
            passage, start, end = found = read.characters(row, place, place)
            token = tokenizer.id_to_token(ids[place]).removeprefix("##")
            assert token == "[UNK]" or token in bare(texts[passage][start:end])
            assert read.characters(*read.places(*found)) == found


@settings(max_examples=25, deadline=None)
@given(
    words=st.lists(st.sampled_from(["unbelievable", "Ada", "é", "7", "日本"]), max_size=300),
    length=st.integers(90, 200),
    where=st.floats(0, 1),
)
def test_windows_overlap_so_that_spans_are_whole(tokenizer, words, length, where):
    text = " ".join(words)
    read = read_passages(tokenizer, "who?", ["other", text], length)
    whole = tokenizer.encode(text, add_special_tokens=False)
    windows = [ids[begin:-1] for ids, begin in zip(read.rows, read.begins, strict=True)][1:]
    assert len(read) <= length
    assert windows[0] + [i for window in windows[1:] for i in window[OVERLAP:]] == whole.ids
    assert all(one[-OVERLAP:] == two[:OVERLAP] for one, two in pairwise(windows))
    count = min(60, len(whole.ids))
    if count:
        first = int(where * (len(whole.ids) - count))
        start, end = whole.offsets[first][0], whole.offsets[first + count - 1][1]
        row, left, right = read.places(1, start, end)
        assert read.rows[row][left : right + 1] == whole.ids[first : first + count]
        assert read.characters(row, left, right) == (1, start, end)


def test_long_questions_are_cut_and_rows_without_room_refused(tokenizer):
    words = "one two three four five " * 20
    read = read_passages(tokenizer, words, ["a b", ""], 2 + MOST_OF_QUESTION + 1 + OVERLAP + 1)
    ids = tokenizer.encode(words, add_special_tokens=False).ids[:MOST_OF_QUESTION]
    a, b, cls, sep = map(tokenizer.token_to_id, ("a", "b", "[CLS]", "[SEP]"))
    assert read.rows == [[cls, *ids, sep, a, b, sep], [cls, *ids, sep, sep]]
    with pytest.raises(ValueError, match="rows of 131 tokens have no room"):
        read_passages(tokenizer, words, ["a b"], 131)


def test_the_given_tokenizer_stays_as_it_was(original):
    before = original.to_str()
    own = plain(original)
    assert original.to_str() == before
    assert original.encode("[SEP]").ids == [*(101, 102, 102), *[0] * 125]  # its own padding
    assert len(own.encode("word " * 600).ids) == 602
    assert 102 not in own.encode("[SEP]", add_special_tokens=False).ids


def test_stacked_rows_stand_where_they_are_said_to(tokenizer):
    read = [
        read_passages(tokenizer, "who?", ["Ada did.", "", "word " * 120], 90),
        read_passages(tokenizer, "what is it?", ["a b c d"], 90),
    ]
    read.append(read[0].first(2))
    ids, mask, windows = stack_rows(read, multiple=16)
    assert ids.shape == mask.shape == windows.shape == (3, len(read[0].rows), 96)
    for index, each in enumerate(read):
        for row in range(ids.size(1)):
            own = each.rows[row] if row < len(each.rows) else []
            assert ids[index, row].tolist() == own + [0] * (96 - len(own))
            assert mask[index, row].tolist() == [1] * len(own) + [0] * (96 - len(own))
            window = range(each.begins[row], len(own) - 1) if own else []
            assert windows[index, row].nonzero()[:, 0].tolist() == list(window)
