import math

import pytest
import torch

from miniformer.model.attention import attend, merge_heads, split_heads
from miniformer.model.masks import padding_mask

# batch, heads, queries, keys, width of a head
SHAPES = [(1, 1, 1, 1, 4), (2, 3, 5, 5, 8), (2, 4, 3, 7, 16), (3, 12, 9, 9, 32)]


def draw(batch, heads, queries, keys, width, *, dtype=torch.float32, scale=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(batch, heads, length, width) for length in (queries, keys, keys)]
    return [(scale * torch.randn(shape, generator=generator)).to(dtype) for shape in shapes]


def random_mask(batch, keys, seed=1):
    """[B, 1, 1, S] in which every row may attend at least to the first key."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, 1, 1, keys, generator=generator) < 0.6
    mask[..., 0] = True
    return mask


def by_hand(queries, keys, values, mask):
    """Equation 1 of Vaswani et al., one number at a time, in double precision."""
    batch, heads, length, width = queries.shape
    mixed = torch.zeros(batch, heads, length, width, dtype=torch.float64)
    weights = torch.zeros(batch, heads, length, keys.size(2), dtype=torch.float64)
    allowed = torch.ones(1, dtype=torch.bool) if mask is None else mask
    allowed = allowed.expand(batch, heads, length, keys.size(2))
    for b in range(batch):
        for h in range(heads):
            for q in range(length):
                powers = [
                    math.exp(float(queries[b, h, q] @ keys[b, h, k]) / math.sqrt(width))
                    if allowed[b, h, q, k]
                    else 0.0
                    for k in range(keys.size(2))
                ]
                for k, power in enumerate(powers):
                    weights[b, h, q, k] = power / sum(powers)
                    mixed[b, h, q] += weights[b, h, q, k] * values[b, h, k].double()
    return mixed, weights


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_both_ways_of_attending_equal_a_hand_written_loop(shape, masked):
    tensors = draw(*shape)
    mask = random_mask(shape[0], shape[3]) if masked else None
    mixed, weights = by_hand(*tensors, mask)
    explicit, explicit_weights = attend(*tensors, mask, need_weights=True)
    fused, no_weights = attend(*tensors, mask)
    assert no_weights is None
    torch.testing.assert_close(explicit.double(), mixed, atol=2e-6, rtol=0)
    torch.testing.assert_close(fused.double(), mixed, atol=2e-6, rtol=0)
    torch.testing.assert_close(explicit_weights.double(), weights, atol=1e-6, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_weights_are_never_negative_and_sum_to_one(shape):
    _, weights = attend(*draw(*shape), random_mask(shape[0], shape[3]), need_weights=True)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(shape[:3]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("need_weights", [False, True])
def test_true_means_may_attend(need_weights):
    queries, keys, values = draw(1, 2, 3, 4, 8)
    mask = torch.tensor([False, False, True, False])[None, None, None]
    mixed, _ = attend(queries, keys, values, mask, need_weights=need_weights)
    torch.testing.assert_close(mixed, values[:, :, 2:3].expand_as(mixed))


def test_weights_are_zero_where_a_query_may_not_attend():
    mask = random_mask(2, 7)
    _, weights = attend(*draw(2, 4, 3, 7, 16), mask, need_weights=True)
    assert not mask.all()
    assert (weights[~mask.expand_as(weights)] == 0).all()


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_mask_may_differ_by_query(need_weights):
    queries, keys, values = draw(1, 2, 4, 4, 8)
    causal = torch.ones(4, 4, dtype=torch.bool).tril()
    mixed, _ = attend(queries, keys, values, causal, need_weights=need_weights)
    expected, _ = by_hand(queries, keys, values, causal)
    torch.testing.assert_close(mixed.double(), expected, atol=2e-6, rtol=0)


@pytest.mark.parametrize("need_weights", [False, True])
def test_what_is_masked_cannot_change_the_mix(need_weights):
    queries, keys, values = draw(2, 3, 5, 6, 8)
    mask = torch.ones(2, 1, 1, 6, dtype=torch.bool)
    mask[..., 4:] = False
    before, _ = attend(queries, keys, values, mask, need_weights=need_weights)
    keys[:, :, 4:], values[:, :, 4:] = 1e3, -1e3
    after, _ = attend(queries, keys, values, mask, need_weights=need_weights)
    torch.testing.assert_close(before, after, atol=0, rtol=0)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_that_may_attend_nowhere_is_finite_and_so_are_its_gradients(need_weights, dtype):
    tensors = [tensor.requires_grad_() for tensor in draw(2, 3, 4, 5, 8, dtype=dtype)]
    mask = torch.ones(2, 1, 1, 5, dtype=torch.bool)
    mask[1] = False
    mixed, _ = attend(*tensors, mask, need_weights=need_weights)
    mixed.float().sum().backward()
    assert mixed.isfinite().all()
    assert all(tensor.grad.isfinite().all() for tensor in tensors)


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_inputs_stay_finite_in_every_number_format(need_weights, scale, dtype):
    tensors = draw(2, 3, 6, 6, 8, dtype=dtype, scale=scale)
    mixed, weights = attend(*tensors, random_mask(2, 6), need_weights=need_weights)
    assert mixed.dtype == dtype
    assert mixed.isfinite().all()
    assert mixed.abs().max() <= tensors[2].abs().max() * 1.01
    assert weights is None or weights.isfinite().all()


@pytest.mark.parametrize("need_weights", [False, True])
def test_bfloat16_is_near_float32(need_weights):
    tensors = draw(2, 3, 6, 6, 8)
    exact, _ = attend(*tensors, need_weights=need_weights)
    rounded, _ = attend(*(t.bfloat16() for t in tensors), need_weights=need_weights)
    torch.testing.assert_close(rounded.float(), exact, atol=0.03, rtol=0)


def test_dropout_zeroes_weights_and_scales_the_rest_up():
    torch.manual_seed(0)
    tensors = draw(4, 8, 16, 16, 8)
    _, kept = attend(*tensors, need_weights=True)
    mixed, dropped = attend(*tensors, dropout=0.25, need_weights=True)
    survived = dropped != 0
    assert survived.float().mean() == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(dropped[survived], kept[survived] / 0.75)
    torch.testing.assert_close(mixed, dropped @ tensors[2])


@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_has_the_gradients_that_differences_give(need_weights):
    tensors = [t.requires_grad_() for t in draw(1, 2, 3, 4, 2, dtype=torch.float64)]
    mask = random_mask(1, 4)
    assert torch.autograd.gradcheck(
        lambda *qkv: attend(*qkv, mask, need_weights=need_weights)[0], tensors
    )


@pytest.mark.parametrize(("width", "heads"), [(12, 1), (12, 3), (384, 12), (8, 8)])
def test_merging_heads_undoes_splitting_them(width, heads):
    x = torch.randn(2, 5, width)
    split = split_heads(x, heads)
    assert split.shape == (2, heads, 5, width // heads)
    assert torch.equal(merge_heads(split), x)


def test_a_head_is_a_run_of_neighbouring_columns():
    x = torch.arange(2 * 3 * 6).reshape(2, 3, 6)
    split = split_heads(x, 2)
    assert torch.equal(split[:, 0], x[..., :3])
    assert torch.equal(split[:, 1], x[..., 3:])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.float32])
def test_a_padding_mask_is_true_at_every_real_token(dtype):
    mask = padding_mask(torch.tensor([[1, 1, 0], [1, 0, 0]]).to(dtype))
    assert mask.shape == (2, 1, 1, 3)
    assert mask.dtype == torch.bool
    assert mask[:, 0, 0].tolist() == [[True, True, False], [True, False, False]]
