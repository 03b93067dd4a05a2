"""The inference form of the sentence encoder: the readable model's vectors, however batched."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from miniformer.minilm import SentenceTransformer, fused_linear, inference
from miniformer.minilm.folder import DenseSpec
from miniformer.minilm.fused_linear import (
    BLAS,
    BY_LENGTH,
    FEW,
    IN_PLACE,
    KERNELS,
    ONE_DNN,
    POST_OPS,
    pick_format,
)
from miniformer.minilm.inference import POOLINGS, FusedSentenceTransformer
from miniformer.minilm.inference_layers import FusedLayer
from miniformer.minilm.tokenizer import pad
from miniformer.model.feedforward import ACTIVATIONS

pytestmark = pytest.mark.usefixtures("one_thread")

CLOSE = 1e-5
COSINE_DISTANCE = 2e-6
# All that a text can be: alone, one of several of its length, the longest.
LENGTHS = [1, 2, 3, 5, 8, 13, 13, 13, 29, 40, 40, 65, 101, 256]
SIZES = {
    "vocab_size": 50,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 40,
    "max_length": 30,
}
MODELS = {
    "narrow": {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3},
    "one head": {"hidden_size": 16, "num_attention_heads": 1, "intermediate_size": 20},
    "qkv the widest": {"intermediate_size": 32},
    "one layer": {"num_hidden_layers": 1, "layer_norm_eps": 1e-2},
    "gelu_new": {"hidden_act": "gelu_new"},
    "relu": {"hidden_act": "relu"},
    "silu": {"hidden_act": "silu"},
    "three types": {"type_vocab_size": 3},
    "cls": {"pooling": "cls"},
    "not normalised": {"normalize": False},
    "projected": {
        "dense": [
            DenseSpec(64, 12),
            DenseSpec(12, 20, bias=False, activation="Identity"),
            DenseSpec(20, 8, activation="GELU"),
        ]
    },
    "projected cls": {"pooling": "cls", "dense": [DenseSpec(64, 48, activation="ReLU")]},
}


def draw(lengths, vocabulary, seed=0):
    """Ids of texts of these lengths, shuffled."""
    rng = random.Random(seed)
    rows = [[rng.randrange(vocabulary) for _ in range(length)] for length in lengths]
    rng.shuffle(rows)
    return rows


def alone(model, rows):
    """The readable model's vectors, each text by itself: no padding, no mask."""
    with torch.no_grad():
        return torch.cat([model(*pad([row])) for row in rows]).numpy()


def same(found, wanted):
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= CLOSE


def build(**changes):
    """A random model in which no bias is 0 and no norm is 1, as a trained one."""
    torch.manual_seed(0)
    model = SentenceTransformer(**(SIZES | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


@pytest.fixture(scope="module")
def model(wheel):
    return SentenceTransformer.from_pretrained(str(wheel))


@pytest.fixture(scope="module")
def rows():
    return draw(LENGTHS, 30_522)


@pytest.fixture(scope="module")
def expected(model, rows):
    return alone(model, rows)


@pytest.fixture(scope="module")
def fused(model):
    return FusedSentenceTransformer(model, "float32")


@pytest.fixture(params=["BLAS", "BY_LENGTH", "ONE_DNN"])
def kernels(request, monkeypatch):
    """float32 by each way of multiplying; the last is bfloat16's where the processor has it."""
    chosen = {"BLAS": BLAS, "BY_LENGTH": BY_LENGTH, "ONE_DNN": ONE_DNN}[request.param]
    monkeypatch.setattr(fused_linear, "KERNELS", {torch.float32: chosen})
    if pick_format("float32")[1] is not chosen:
        pytest.skip("this build of torch has no oneDNN")
    return chosen


@pytest.fixture
def passes(monkeypatch):
    """The tokens of each pass, as the layers get them."""
    layer, sizes = FusedLayer.__call__, []

    def spy(own, hidden, groups, mixed, scratch):
        texts = [group.length for group in groups for _ in range(group.texts)]
        sizes.append((len(hidden), texts))
        return layer(own, hidden, groups, mixed, scratch)

    monkeypatch.setattr(FusedLayer, "__call__", spy)
    return sizes


def test_the_real_model_gives_the_same_vectors(model, rows, expected, kernels):
    vectors = FusedSentenceTransformer(model, "float32")(rows)
    same(vectors, expected)
    cosines = (vectors.astype(np.float64) * expected).sum(1)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1) * np.linalg.norm(expected, axis=1)
    assert (1 - cosines / lengths).max() <= COSINE_DISTANCE
    assert np.abs(lengths - 1).max() <= 1e-6


@pytest.mark.parametrize("budget", [1, 110])
def test_the_budget_does_not_change_a_vector(model, rows, expected, budget):
    same(FusedSentenceTransformer(model, "float32", token_budget=budget)(rows), expected)


def test_order_and_company_do_not_change_a_vector(fused, rows, expected):
    short = [index for index, row in enumerate(rows) if len(row) <= 101]
    chosen = random.Random(2).choices(short, k=20)
    same(fused([rows[index] for index in chosen]), expected[chosen])
    for index in chosen[:5]:
        same(fused([rows[index]]), expected[[index]])


def test_arrays_and_lists_are_read_alike_and_left_alone():
    fused, rows = FusedSentenceTransformer(build(), "float32"), draw([4, 9, 9], 50)
    arrays = [np.array(row, np.int32) for row in rows]
    assert np.array_equal(fused(arrays), fused(rows))
    assert [array.tolist() for array in arrays] == rows


def test_no_texts_give_no_rows(fused):
    assert fused([]).shape == (0, 384)


def test_bfloat16_is_near_float32(model, rows, expected):
    short = [index for index, row in enumerate(rows) if len(row) in (3, 13, 29, 40)]
    half = FusedSentenceTransformer(model, "bfloat16")
    vectors = half([rows[index] for index in short])
    assert half.dtype == torch.bfloat16
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    cosines = (vectors * expected[short]).sum(1)
    assert cosines.min() >= 0.998
    assert cosines.mean() >= 0.9998
    assert np.abs(vectors - expected[short]).max() > 1e-5  # it was not float32 after all


@pytest.mark.parametrize("case", MODELS)
def test_another_model_gives_the_same_vectors(case, kernels):
    model = build(**MODELS[case])
    rows = draw([1, 2, 3, 3, 7, 7, 7, 19, 30, 30], 50)
    wanted = alone(model, rows)
    for budget in (20, 2_048):
        fused = FusedSentenceTransformer(model, "float32", token_budget=budget)
        same(fused(rows), wanted)
    assert fused.dim == wanted.shape[1]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_poolings_are_those_of_the_readable_tokens(pooling):
    model = build()
    model.pooling = pooling
    rows = draw([1, 4, 4, 25], 50)
    reduce = {"mean": lambda t: t.mean(0), "cls": lambda t: t[0], "max": lambda t: t.amax(0)}
    with torch.no_grad():
        pooled = torch.stack([reduce[pooling](model.model(*pad([row]))[0][0]) for row in rows])
    same(FusedSentenceTransformer(model, "float32")(rows), F.normalize(pooled, dim=1).numpy())


def test_every_activation_has_its_form_in_place_and_in_the_product():
    assert IN_PLACE.keys() == POST_OPS.keys() == set(ACTIVATIONS.values())


def test_an_activation_of_ones_own_is_applied(kernels):
    model = build()
    for layer in model.model.encoder.layer:
        layer.intermediate.activation = torch.sin
    rows = draw([3, 9], 50)
    same(FusedSentenceTransformer(model, "float32")(rows), alone(model, rows))


def test_ids_beyond_the_maximum_length_are_cut():
    model = build()
    rows = draw([31, 40, 200, 5], 50)
    same(FusedSentenceTransformer(model, "float32")(rows), alone(model, [row[:30] for row in rows]))


def test_alone_or_in_company_the_bits_are_the_same(model, rows, expected):
    fused = FusedSentenceTransformer(model, "float32", deterministic=True)
    vectors = fused(rows)
    same(vectors, expected)
    assert np.array_equal(vectors, np.concatenate([fused([row]) for row in rows]))
    order = random.Random(0).sample(range(len(rows)), len(rows) // 2)
    assert np.array_equal(fused([rows[index] for index in order]), vectors[order])
    short = min(rows, key=len)
    assert np.array_equal(fused([short] * 5), vectors[[rows.index(short)] * 5])


def test_the_bits_are_the_same_by_onednn_too(model, rows, monkeypatch):
    monkeypatch.setattr(fused_linear, "KERNELS", {torch.float32: ONE_DNN})
    fused = FusedSentenceTransformer(model, "float32", deterministic=True)
    short = [row for row in rows if len(row) <= 40]
    assert np.array_equal(fused(short), np.concatenate([fused([row]) for row in short]))


def test_a_deterministic_pass_holds_one_text(passes, monkeypatch):
    monkeypatch.setattr(fused_linear, "KERNELS", {torch.float32: BLAS})
    fused = FusedSentenceTransformer(build(num_hidden_layers=1), "float32", deterministic=True)
    fused(draw([5, 9, 9, 2], 50))
    assert passes == [(9, [9]), (9, [9]), (5, [5]), (2, [2])]


def test_a_pass_holds_no_padding_and_no_more_than_its_budget(passes, monkeypatch):
    monkeypatch.setattr(fused_linear, "KERNELS", {torch.float32: BLAS})
    model = build(num_hidden_layers=1)
    fused = FusedSentenceTransformer(model, "float32", token_budget=12)
    fused(draw([2, 2, 13, 5, 7, 30, 5, 6, 6, 1], 50))
    assert passes == [(30, [30]), (13, [13]), (7, [7]), (12, [6, 6]), (12, [5, 5, 2]), (3, [2, 1])]


def test_onednn_meets_few_shapes_at_little_cost():
    multiple = ONE_DNN.multiple
    padded = [tokens + -tokens % multiple(tokens) for tokens in range(1, 2_049)]
    assert padded == sorted(padded)  # room for the most tokens is room for any
    assert len(set(padded)) <= 48
    waste = [size / tokens for tokens, size in enumerate(padded, 1) if tokens >= 64]
    assert max(waste) <= 1.125
    assert BLAS.multiple(1_001) == BY_LENGTH.multiple(FEW + 1) == 1


def test_weights_are_laid_out_for_few_tokens_when_these_come(passes):
    if pick_format("float32")[1] is not BY_LENGTH:
        pytest.skip("this build of torch has no oneDNN")
    model = build(num_hidden_layers=1, max_length=FEW + 1, max_position_embeddings=FEW + 1)
    fused = FusedSentenceTransformer(model, "float32")
    few, many = sorted(draw([FEW + 1, FEW - 1], 50), key=len)
    linear = fused._layers[0]._narrow
    same(fused([many]), alone(model, [many]))
    assert "_few" not in vars(linear)
    same(fused([few]), alone(model, [few]))
    assert "_few" in vars(linear)
    assert [size for size, _ in passes] == [FEW + 1, FEW]


def test_the_model_is_not_changed(kernels):
    model = build(dense=[DenseSpec(64, 12)])
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    rows = draw([4, 9, 9], 50)
    wanted = alone(model, rows)
    fused = FusedSentenceTransformer(model, "float32")
    same(fused(rows), wanted)
    same(fused(rows), wanted)  # nor is the form, by what it overwrites
    assert np.array_equal(alone(model, rows), wanted)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_a_conversion_leaves_the_model_in_its_own_format():
    model = build(dense=[DenseSpec(64, 12)])
    FusedSentenceTransformer(model, "bfloat16")(draw([4, 9, 9], 50))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_what_is_not_fused_or_converted_is_not_copied(model, fused):
    embeddings = model.model.embeddings
    assert fused._words.data_ptr() == embeddings.word_embeddings.weight.data_ptr()
    wide = model.model.encoder.layer[0].intermediate.dense.weight
    assert fused._layers[0]._widen._many._weight.data_ptr() == wide.data_ptr()


def test_many_threads_get_the_vectors_of_one():
    fused = FusedSentenceTransformer(build(), "float32", token_budget=40)
    parts = [draw(range(1, 30), 50, seed) for seed in range(8)]
    wanted = [fused(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for found, once in zip(pool.map(fused, parts), wanted, strict=True):
            same(found, once)


@pytest.mark.parametrize(
    ("flags", "hardware", "dtype"),
    [
        ({"amx_bf16": True}, True, torch.bfloat16),
        ({"avx512_bf16": True}, True, torch.bfloat16),
        ({"avx512_bw": True, "avx512_vl": True}, True, torch.float32),
        ({"amx_bf16": True}, False, torch.float32),  # ONEDNN_MAX_CPU_ISA=AVX2
        ({}, False, torch.float32),
    ],
)
def test_auto_is_bfloat16_only_where_it_is_multiplied(monkeypatch, flags, hardware, dtype):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    monkeypatch.setattr(fused_linear, "_has_layout", lambda dtype: hardware)
    assert pick_format("auto") == (dtype, KERNELS[dtype] if hardware else BLAS)
    assert pick_format("float32") == (torch.float32, BY_LENGTH if hardware else BLAS)
    assert pick_format("bfloat16") == (torch.bfloat16, ONE_DNN if hardware else BLAS)


def test_whether_onednn_has_bfloat16_is_asked_of_it():
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert fused_linear._has_layout(torch.bfloat16) <= supported
    assert not fused_linear._has_layout(torch.int32)


def test_auto_is_the_default_and_what_it_chose_is_said():
    model, rows = build(), draw([3, 9], 50)
    chosen = FusedSentenceTransformer(model)
    assert chosen.dtype == pick_format("auto")[0]
    name = str(chosen.dtype).removeprefix("torch.")
    assert np.array_equal(chosen(rows), FusedSentenceTransformer(model, name)(rows))


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"dtype": "float8"}, "unknown dtype 'float8'; known: auto, float32, bfloat16"),
        ({"token_budget": 0}, "token_budget must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_is_named(keywords, message):
    with pytest.raises(ValueError, match=message):
        FusedSentenceTransformer(build(), **keywords)


@pytest.mark.parametrize("place", [torch.bfloat16, torch.device("meta")])
def test_a_model_elsewhere_or_in_another_format_is_refused(place):
    with pytest.raises(ValueError, match=r"holds torch.* on .*expected torch\.float32 on cpu"):
        FusedSentenceTransformer(build().to(place))


def test_a_text_without_tokens_is_an_error(fused):
    with pytest.raises(ValueError, match="text 1 has no tokens"):
        fused([[101, 102], [], [101]])


@pytest.mark.parametrize("token", [-1, 50])
def test_an_id_outside_the_vocabulary_is_an_error(token):
    with pytest.raises(IndexError):
        FusedSentenceTransformer(build())([[1, token]])


def test_the_default_budget_is_the_one_named():
    assert FusedSentenceTransformer(build())._budget == inference.TOKEN_BUDGET
