import math

import pytest
import torch

from miniformer.config.model_config import TransformerConfig
from miniformer.model.position import POSITIONS, make_position


def rotary(pct, head_dim=16):
    config = TransformerConfig(d_model=4 * head_dim, rotary_pct=pct, max_seq_len=64)
    return make_position(config, causal=True)


@pytest.mark.parametrize("head_dim", [16, 10, 6])
@pytest.mark.parametrize("pct", [0.0, 0.25, 0.5, 1.0])
def test_rotary_scores_depend_on_the_distance_only(pct, head_dim):
    position = rotary(pct, head_dim)
    query, key = torch.randn(2, 1, 1, 1, head_dim).expand(-1, -1, -1, 40, -1)
    scores = position.rotate(query, 0) @ position.rotate(key, 0).transpose(-1, -2)
    for distance in range(-39, 40):
        along = scores[0, 0].diagonal(distance)
        assert (along - along[0]).abs().max() <= 1e-5 * max(1, float(along.abs().max()))
    if int(head_dim * pct) > 1:
        assert scores[0, 0, 0].std() > 0.01


@pytest.mark.parametrize("pct", [0.25, 0.5, 1.0])
def test_rotation_keeps_norms_and_leaves_the_rest(pct):
    position = rotary(pct)
    x = torch.randn(2, 4, 9, 16)
    turned = position.rotate(x, 5)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned[..., position.width :], x[..., position.width :])
    later = position.rotate(x[:, :, 3:], 8)
    torch.testing.assert_close(turned[:, :, 3:], later)


def test_rotary_pct_0_turns_nothing():
    assert (
        make_position(TransformerConfig(), causal=True).rotate(x := torch.randn(1, 4, 3, 16), 0)
        is x
    )


def test_sinusoids_are_those_of_the_paper():
    config = TransformerConfig(d_model=12, position="sinusoidal", max_seq_len=50)
    table = make_position(config, causal=False).table
    for place in (0, 1, 17, 49):
        for pair in range(6):
            angle = place / 10_000 ** (2 * pair / 12)
            assert table[place, 2 * pair].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[place, 2 * pair + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (16, 40), (8, 20)])
def test_relative_buckets_are_t5s(causal, buckets, farthest):
    from transformers.models.t5.modeling_t5 import T5Attention

    config = TransformerConfig(
        position="relative", relative_buckets=buckets, relative_max_distance=farthest
    )
    distances = torch.arange(-300, 301)
    ours = make_position(config, causal=causal).buckets(distances)
    theirs = T5Attention._relative_position_bucket(distances, not causal, buckets, farthest)
    assert torch.equal(ours, theirs)


def test_the_bias_of_a_later_query_is_a_row_of_the_whole():
    position = make_position(TransformerConfig(position="relative"), causal=True)
    whole = position.bias(9, 9)
    assert torch.equal(position.bias(2, 9), whole[:, :, 7:])


@pytest.mark.parametrize("kind", POSITIONS)
def test_every_kind_builds_for_odd_widths(kind):
    config = TransformerConfig(d_model=35, n_heads=5, position=kind, max_seq_len=8)
    position = make_position(config, causal=False)
    x = torch.randn(2, 8, 35)
    assert position.embed(x, torch.arange(8)[None]).shape == x.shape
    heads = torch.randn(2, 5, 8, 7)
    assert position.rotate(heads, 0).shape == heads.shape
