"""Pooling, padding, cutting and what is refused, at small random weights."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from miniformer.minilm import (
    Embeddings,
    MiniLMModel,
    SelfAttention,
    SentenceTransformer,
    TransformerEncoder,
    cosine_similarity,
)
from miniformer.minilm.folder import DenseSpec, SentenceSpec

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTHS = [7, 1, 12, 3, 12, 5]


@pytest.fixture(scope="module")
def make(random_bert, small_sizes):
    """A SentenceTransformer at the weights of a random BERT, all else as asked for."""

    weights = random_bert().state_dict()

    def build(**keywords):
        model = SentenceTransformer(**(small_sizes | {"max_length": None} | keywords)).eval()
        model.model.load_state_dict(weights)
        return model

    return build


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(3)
    mask = (torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]).long()
    return torch.randint(1, 100, mask.shape) * mask, mask


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


POOLINGS = ["mean", "cls"]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_does_not_change_an_embedding(make, batch, pooling):
    model, (ids, mask) = make(pooling=pooling), batch
    together = model(ids, mask)
    for row, length in enumerate(LENGTHS):
        alone = model(ids[row : row + 1, :length], mask[row : row + 1, :length])
        wide = model(F.pad(ids[row : row + 1], (0, 20)), F.pad(mask[row : row + 1], (0, 20)))
        torch.testing.assert_close(alone, together[row : row + 1], atol=1e-6, rtol=0)
        torch.testing.assert_close(wide, together[row : row + 1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_order_and_batch_size_do_not_change_an_embedding(make, batch, pooling):
    model, (ids, mask) = make(pooling=pooling), batch
    together = model(ids, mask)
    order = torch.tensor([5, 0, 3, 1, 4, 2])
    torch.testing.assert_close(model(ids[order], mask[order]), together[order], atol=1e-6, rtol=0)
    for size in (1, 2, 4):
        parts = [model(i, m) for i, m in zip(ids.split(size), mask.split(size), strict=True)]
        torch.testing.assert_close(torch.cat(parts), together, atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_masked_token_cannot_change_the_output(make, batch, pooling):
    model, (ids, mask) = make(pooling=pooling), batch
    other = torch.where(mask.bool(), ids, torch.full_like(ids, 42))
    assert not torch.equal(other, ids)
    assert torch.equal(model(other, mask), model(ids, mask))


def test_mean_pooling_averages_the_real_tokens(make, batch):
    model, (ids, mask) = make(normalize=False), batch
    tokens, _, _ = model.model(ids, mask)
    expected = torch.stack([tokens[row, :n].mean(0) for row, n in enumerate(LENGTHS)])
    torch.testing.assert_close(model(ids, mask), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.mean_pooling(tokens, mask), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(model.mean_pooling((tokens,), mask), expected, atol=1e-6, rtol=0)


def test_cls_pooling_takes_the_first_token(make, batch):
    model, (ids, mask) = make(pooling="cls", normalize=False), batch
    tokens, _, _ = model.model(ids, mask)
    assert torch.equal(model(ids, mask), tokens[:, 0])


@pytest.mark.parametrize("pooling", POOLINGS)
def test_normalized_rows_have_unit_length_and_the_same_direction(make, batch, pooling):
    unit = make(pooling=pooling)(*batch)
    raw = make(pooling=pooling, normalize=False)(*batch)
    assert (raw.norm(dim=-1) - 1).abs().min() > 0.1
    torch.testing.assert_close(unit.norm(dim=-1), torch.ones(len(LENGTHS)), atol=1e-6, rtol=0)
    torch.testing.assert_close(unit, raw / raw.norm(dim=-1, keepdim=True), atol=1e-6, rtol=0)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_text_of_no_tokens_gets_finite_numbers(make, batch, pooling):
    ids, _ = batch
    vectors = make(pooling=pooling)(ids, torch.zeros_like(ids))
    assert vectors.isfinite().all()


@pytest.mark.parametrize("pooling", POOLINGS)
def test_over_long_input_is_cut_ids_and_mask_alike(make, batch, pooling):
    ids, mask = batch
    cut = make(pooling=pooling, max_length=4)
    uncut = make(pooling=pooling)
    torch.testing.assert_close(cut(ids, mask), uncut(ids[:, :4], mask[:, :4]), atol=1e-6, rtol=0)
    assert not torch.allclose(cut(ids, mask), uncut(ids, mask), atol=1e-3)


def test_the_body_cuts_types_and_positions_with_the_ids(random_bert, small_sizes, batch):
    ids, mask = batch
    types = torch.randint(0, 2, ids.shape)
    positions = torch.randint(0, 40, ids.shape)
    cut, uncut = MiniLMModel(**small_sizes, max_length=4), MiniLMModel(**small_sizes)
    for model in (cut, uncut):
        model.eval().load_state_dict(random_bert().state_dict())
    short = [part[:, :4] for part in (ids, mask, types, positions)]
    last, _, weights = cut(ids, mask, types, positions, need_weights=True)
    expected, _, expected_weights = uncut(*short, need_weights=True)
    torch.testing.assert_close(last, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(weights, expected_weights, atol=1e-6, rtol=0)


def test_the_position_table_limits_the_length(make):
    model = make(max_length=1_000)
    assert model.model.max_length == 40
    ids = torch.randint(1, 100, (2, 55))
    torch.testing.assert_close(
        model(ids, torch.ones_like(ids)), model(ids[:, :40], torch.ones_like(ids[:, :40]))
    )


def test_a_mask_of_any_number_format_means_the_same(make, batch):
    model, (ids, mask) = make(), batch
    for dtype in (torch.bool, torch.int32, torch.float32):
        assert torch.equal(model(ids, mask.to(dtype)), model(ids, mask))


ACTIVATIONS = {
    "Identity": lambda x: x,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": lambda x: x / 2 * (1 + torch.erf(x / math.sqrt(2))),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("bias", [False, True])
def test_a_dense_module_projects_the_pooled_vector(make, batch, name, bias):
    spec = DenseSpec(in_features=64, out_features=10, bias=bias, activation=name)
    model = make(dense=[spec], normalize=False)
    linear = model.dense[0].linear
    assert (linear.bias is not None) == bias
    pooled = make(normalize=False)(*batch)
    expected = ACTIVATIONS[name](F.linear(pooled, linear.weight, linear.bias))
    assert model.dim == 10
    torch.testing.assert_close(model(*batch), expected, atol=1e-6, rtol=0)


def test_two_dense_modules_follow_one_another_and_the_result_is_normalized(make, batch):
    model = make(dense=[DenseSpec(64, 20, activation="ReLU"), DenseSpec(20, 6)])
    first, second = model.dense
    expected = F.normalize(second(first(make(normalize=False)(*batch))), dim=-1)
    assert model(*batch).shape == (len(LENGTHS), 6)
    torch.testing.assert_close(model(*batch), expected, atol=1e-6, rtol=0)


def test_every_row_is_float32_even_from_bfloat16_weights(make, batch):
    for dense in ([], [DenseSpec(64, 10)]):
        exact = make(dense=dense)
        rounded = make(dense=dense)
        rounded.load_state_dict(exact.state_dict())
        vectors = rounded.bfloat16()(*batch)
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(
            vectors.norm(dim=-1), torch.ones(len(LENGTHS)), atol=1e-5, rtol=0
        )
        assert F.cosine_similarity(vectors, exact(*batch)).min() > 0.99


def test_the_default_length_is_that_of_short_sentences():
    with torch.device("meta"):
        model = SentenceTransformer()
    assert model.model.max_length == 64
    assert model.dim == 384
    assert model.pooling == "mean"
    assert model.normalize


def test_a_spec_decides_every_size():
    body = {
        "vocab_size": 90,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "intermediate_size": 40,
        "max_position_embeddings": 30,
        "type_vocab_size": 4,
        "hidden_dropout_prob": 0.25,
        "hidden_act": "relu",
        "layer_norm_eps": 1e-6,
    }
    spec = SentenceSpec(body=body, max_length=17, pooling="cls", dense=(DenseSpec(24, 5),))
    model = SentenceTransformer.from_spec(spec)
    layer = model.model.encoder.layer[2]
    assert model.model.embeddings.word_embeddings.weight.shape == (90, 24)
    assert model.model.embeddings.position_embeddings.weight.shape == (30, 24)
    assert model.model.embeddings.token_type_embeddings.weight.shape == (4, 24)
    assert len(model.model.encoder.layer) == 3
    assert layer.intermediate.dense.weight.shape == (40, 24)
    assert layer.intermediate.activation(torch.tensor(-1.0)) == 0
    assert layer.attention.self.num_attention_heads == 2
    assert {m.p for m in model.modules() if isinstance(m, nn.Dropout)} == {0.25}
    assert {m.eps for m in model.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
    assert (model.pooling, model.dim, model.model.max_length) == ("cls", 5, 17)
    assert SentenceTransformer.from_spec(spec, max_length=9).model.max_length == 9


IDS = torch.ones(2, 3, dtype=torch.int64)
BAD_BATCHES = {
    "no ids": ((None, IDS), ["input_ids", "attention_mask"]),
    "no mask": ((IDS, None), ["input_ids", "attention_mask"]),
    "one-dimensional ids": ((IDS[0], IDS[0]), ["[batch, length]", "[3]"]),
    "three-dimensional ids": ((IDS[None], IDS[None]), ["[batch, length]", "[1, 2, 3]"]),
    "a short mask": ((IDS, IDS[:, :2]), ["[2, 2]", "[2, 3]"]),
    "a mask of one row": ((IDS, IDS[0]), ["[3]", "[2, 3]"]),
}


@pytest.mark.parametrize("case", BAD_BATCHES)
def test_a_malformed_batch_is_refused_with_both_shapes(make, case):
    arguments, words = BAD_BATCHES[case]
    for model in (make(), make().model):
        with pytest.raises(ValueError, match="input_ids") as caught:
            model(*arguments)
        assert [word for word in words if word not in str(caught.value)] == []


SIZE_NAMES = [
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "max_length",
]


@pytest.mark.parametrize("name", SIZE_NAMES)
@pytest.mark.parametrize("size", [0, -1, 2.0, True, "4"])
def test_a_size_that_is_no_positive_whole_number_is_refused_by_name(small_sizes, name, size):
    for kind in (MiniLMModel, SentenceTransformer):
        with pytest.raises(ValueError, match=name) as caught:
            kind(**(small_sizes | {name: size}))
        assert repr(size) in str(caught.value)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, math.nan])
@pytest.mark.parametrize(
    "kind",
    [
        lambda rate: Embeddings(10, 8, dropout_rate=rate),
        lambda rate: SelfAttention(8, 2, dropout_rate=rate),
        lambda rate: SentenceTransformer(10, 8, 1, 2, 8, dropout_rate=rate),
    ],
)
def test_a_dropout_rate_outside_its_range_is_refused(kind, rate):
    with pytest.raises(ValueError, match="dropout_rate") as caught:
        kind(rate)
    assert repr(rate) in str(caught.value)


@pytest.mark.parametrize("rate", [0, 0.0, 0.999])
def test_a_dropout_rate_within_its_range_is_taken(rate):
    assert Embeddings(10, 8, dropout_rate=rate).dropout.p == rate


def test_heads_that_do_not_divide_the_width_are_refused_with_both_numbers():
    with pytest.raises(ValueError, match=r"\b64\b.*\b5\b"):
        SelfAttention(64, 5)
    with pytest.raises(ValueError, match=r"\b64\b.*\b5\b"):
        TransformerEncoder(1, 64, 5, 96)


def test_an_unknown_pooling_activation_or_projection_lists_the_known_ones(small_sizes):
    with pytest.raises(ValueError, match=r"'max'.*mean, cls"):
        SentenceTransformer(**small_sizes, pooling="max")
    with pytest.raises(ValueError, match=r"'swish'.*gelu, gelu_new, relu"):
        SentenceTransformer(**small_sizes, hidden_act="swish")
    with pytest.raises(ValueError, match=r"'Sigmoid'.*Identity, Tanh, ReLU, GELU"):
        SentenceTransformer(**small_sizes, dense=[DenseSpec(64, 8, activation="Sigmoid")])


def test_cosine_similarity_is_every_row_with_every_row():
    left = torch.tensor([[3.0, 0.0], [0.0, -2.0], [1.0, 1.0]])
    right = torch.tensor([[5.0, 0.0], [-1.0, 0.0]])
    half = math.sqrt(0.5)
    expected = torch.tensor([[1.0, -1.0], [0.0, 0.0], [half, -half]])
    torch.testing.assert_close(cosine_similarity(left, right), expected)


def test_cosine_similarity_never_leaves_its_range():
    rows = torch.randn(200, 384, generator=torch.Generator().manual_seed(0))
    similarity = cosine_similarity(rows, rows)
    assert similarity.max() <= 1
    assert similarity.min() >= -1
    torch.testing.assert_close(similarity.diagonal(), torch.ones(200))
