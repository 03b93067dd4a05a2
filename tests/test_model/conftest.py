"""Small models of every kind: position × norm placement × backend, and the originals of three."""

from dataclasses import replace

import pytest
import torch

from miniformer.config.model_config import TransformerConfig
from miniformer.model.position import POSITIONS
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer

SMALL = TransformerConfig(
    vocab_size=97, d_model=32, n_heads=4, n_layers=2, d_ff=48, max_seq_len=64, head_dim=10
)
KINDS = [
    pytest.param((kind, pre_norm, sdpa), id=f"{kind}-{'pre' if pre_norm else 'post'}-sdpa={sdpa}")
    for kind in POSITIONS
    for pre_norm in (True, False)
    for sdpa in (True, False)
]


@pytest.fixture(params=KINDS)
def config(request):
    """Every position kind × norm placement × backend."""
    kind, pre_norm, sdpa = request.param
    rotary = 0.5 if kind == "rotary" else 0.0
    return replace(SMALL, position=kind, pre_norm=pre_norm, use_sdpa=sdpa, rotary_pct=rotary)


def enlivened(model, seed=0):
    """Weights large enough that attention, and so a mistake in it, decides the output."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.2, generator=generator)
    return model.eval()


@pytest.fixture
def lively():
    return enlivened


@pytest.fixture
def seq2seq(config):
    return enlivened(Seq2SeqTransformer(config))


@pytest.fixture
def causal(config):
    return enlivened(Transformer(replace(config, causal=True)))


@pytest.fixture
def encoder_only(config):
    return enlivened(Transformer(config))


@pytest.fixture
def close():
    """Assert that two outputs differ by no more than 1e-5 of the largest."""

    def check(one, two):
        assert (one - two).abs().max() <= 1e-5 * one.abs().max()

    return check


@pytest.fixture
def draw():
    """Random ids [B, L] that hold no special token."""

    def ids(batch, length, vocab=97, seed=0):
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(3, vocab, (batch, length), generator=generator)

    return ids


@pytest.fixture
def pad_to():
    """A row in a longer one, padded with 0 on a side, and its mask."""

    def padded(row, length, side):
        filler = torch.zeros(length - len(row), dtype=row.dtype)
        mask = torch.cat([torch.ones_like(row), filler])
        ids = torch.cat([row, filler])
        shift = length - len(row) if side == "left" else 0
        return ids.roll(shift), mask.roll(shift)

    return padded
