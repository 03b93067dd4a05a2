"""Every block against transformers' BERT, at the same random weights."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import BertModel

from miniformer.minilm import (
    AttentionOutput,
    Embeddings,
    MiniLMModel,
    SelfAttention,
    TransformerEncoder,
    TransformerLayer,
)

pytestmark = pytest.mark.usefixtures("one_thread")

MINILM = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
VARIANTS = {
    "paraphrase-MiniLM-L3-v2": (MINILM | {"num_hidden_layers": 3}, 17_389_824),
    "all-MiniLM-L6-v2": (MINILM | {"num_hidden_layers": 6}, 22_713_216),
    "paraphrase-MiniLM-L6-v2": (MINILM | {"num_hidden_layers": 6}, 22_713_216),
    "all-MiniLM-L12-v2": (MINILM | {"num_hidden_layers": 12}, 33_360_000),
}
OTHERS = {
    "narrow": {},
    "five layers, relu": {"num_hidden_layers": 5, "hidden_act": "relu"},
    "tanh gelu, one head": {"hidden_act": "gelu_new", "num_attention_heads": 1},
    "wide heads, three types": {
        "hidden_size": 48,
        "num_attention_heads": 2,
        "type_vocab_size": 3,
        "intermediate_size": 20,
    },
    "torch's own epsilon": {"layer_norm_eps": 1e-3, "num_hidden_layers": 3},
}
SIZES = {name: sizes for name, (sizes, _) in VARIANTS.items()} | OTHERS
CLOSE = {"atol": 1e-5, "rtol": 0}


@dataclass
class Pair:
    """Our model and BERT with one set of weights, one batch, and what BERT makes of it."""

    ours: MiniLMModel
    bert: BertModel
    ids: Tensor
    mask: Tensor
    types: Tensor
    expected: Any

    @property
    def may_attend(self) -> Tensor:
        return self.mask.bool()[:, None, None]

    @property
    def added_mask(self) -> Tensor:
        """The mask as BERT's blocks take it: added to the scores."""
        return (~self.may_attend).float() * torch.finfo(torch.float32).min


@pytest.fixture(scope="module", params=SIZES, ids=lambda name: name.replace(" ", "-"))
def pair(request, random_bert):
    sizes = SIZES[request.param]
    bert = random_bert(**sizes)
    keywords = {k: v for k, v in bert.config.to_dict().items() if k in MINILM}
    ours = MiniLMModel(
        **keywords,
        num_hidden_layers=bert.config.num_hidden_layers,
        type_vocab_size=bert.config.type_vocab_size,
        hidden_act=bert.config.hidden_act,
        layer_norm_eps=bert.config.layer_norm_eps,
    ).eval()
    ours.load_state_dict(bert.state_dict(), strict=True)
    lengths = [17, 1, 9]
    ids = torch.randint(1, bert.config.vocab_size, (3, 17))
    mask = (torch.arange(17)[None] < torch.tensor(lengths)[:, None]).long()
    types = torch.randint(0, bert.config.type_vocab_size, (3, 17))
    with torch.no_grad():
        expected = bert(ids * mask, mask, types, output_hidden_states=True, output_attentions=True)
    return Pair(ours, bert, ids * mask, mask, types, expected)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


def test_parameters_are_named_and_shaped_as_berts(pair):
    ours = {name: value.shape for name, value in pair.ours.state_dict().items()}
    assert ours == {name: value.shape for name, value in pair.bert.state_dict().items()}


def test_embeddings_equal_berts(pair):
    ours: Embeddings = pair.ours.embeddings
    expected = pair.bert.embeddings(pair.ids, pair.types)
    torch.testing.assert_close(ours(pair.ids, pair.types), expected, **CLOSE)
    torch.testing.assert_close(ours(pair.ids), pair.bert.embeddings(pair.ids), **CLOSE)


def test_embeddings_take_positions_as_bert_does(pair):
    positions = torch.arange(17).flip(0)[None]
    expected = pair.bert.embeddings(pair.ids, pair.types, positions)
    torch.testing.assert_close(
        pair.ours.embeddings(pair.ids, pair.types, positions), expected, **CLOSE
    )


def test_self_attention_equals_berts(pair):
    hidden = pair.expected.hidden_states[0]
    ours: SelfAttention = pair.ours.encoder.layer[0].attention.self
    mixed, weights = pair.bert.encoder.layer[0].attention.self(hidden, pair.added_mask)
    our_mixed, our_weights = ours(hidden, pair.may_attend, need_weights=True)
    torch.testing.assert_close(our_mixed, mixed, **CLOSE)
    torch.testing.assert_close(our_weights, weights, **CLOSE)
    fused, nothing = ours(hidden, pair.may_attend)
    assert nothing is None
    torch.testing.assert_close(fused, mixed, **CLOSE)


def test_attention_output_equals_berts(pair):
    hidden, residual = pair.expected.hidden_states[1], pair.expected.hidden_states[0]
    ours: AttentionOutput = pair.ours.encoder.layer[0].attention.output
    expected = pair.bert.encoder.layer[0].attention.output(hidden, residual)
    torch.testing.assert_close(ours(hidden, residual), expected, **CLOSE)


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_layer_equals_berts(pair, need_weights):
    hidden = pair.expected.hidden_states[0]
    ours: TransformerLayer = pair.ours.encoder.layer[0]
    expected = pair.bert.encoder.layer[0](hidden, pair.added_mask)
    output, _ = ours(hidden, pair.may_attend, need_weights=need_weights)
    torch.testing.assert_close(output, expected, **CLOSE)


@pytest.mark.parametrize("need_weights", [False, True])
def test_every_layers_output_equals_berts(pair, need_weights):
    ours: TransformerEncoder = pair.ours.encoder
    first, *rest = pair.expected.hidden_states
    outputs, _ = ours(first, pair.may_attend, need_weights=need_weights)
    assert len(outputs) == len(rest) == pair.bert.config.num_hidden_layers
    for output, expected in zip(outputs, rest, strict=True):
        torch.testing.assert_close(output, expected, **CLOSE)


@pytest.mark.parametrize("need_weights", [False, True])
def test_the_whole_model_equals_bert(pair, need_weights):
    last, pooled, weights = pair.ours(pair.ids, pair.mask, pair.types, need_weights=need_weights)
    torch.testing.assert_close(last, pair.expected.last_hidden_state, **CLOSE)
    torch.testing.assert_close(pooled, pair.expected.pooler_output, **CLOSE)
    assert len(weights) == pair.bert.config.num_hidden_layers
    if not need_weights:
        assert weights == [None] * len(weights)
        return
    for ours, expected in zip(weights, pair.expected.attentions, strict=True):
        torch.testing.assert_close(ours, expected, **CLOSE)


def test_the_model_takes_positions_and_defaults_as_bert_does(pair):
    positions = torch.arange(17).flip(0)[None]
    expected = pair.bert(pair.ids, pair.mask, position_ids=positions).last_hidden_state
    last, _, _ = pair.ours(pair.ids, pair.mask, position_ids=positions)
    torch.testing.assert_close(last, expected, **CLOSE)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_has_its_published_number_of_parameters(name):
    sizes, count = VARIANTS[name]
    with torch.device("meta"):
        model = MiniLMModel(**sizes)
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_the_defaults_are_those_of_all_minilm_l6_v2():
    with torch.device("meta"):
        default, named = MiniLMModel(), MiniLMModel(**VARIANTS["all-MiniLM-L6-v2"][0])
    shapes = {name: value.shape for name, value in default.state_dict().items()}
    assert shapes == {name: value.shape for name, value in named.state_dict().items()}
    assert default.max_length == named.max_length == 512
    assert default.encoder.layer[0].attention.self.num_attention_heads == 12
    assert {m.eps for m in default.modules() if isinstance(m, torch.nn.LayerNorm)} == {1e-12}
