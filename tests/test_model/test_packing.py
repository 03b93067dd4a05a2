import pytest
import torch

from miniformer.config.model_config import TransformerConfig
from miniformer.model.packing import PRECISIONS, pack
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer

# The largest drift of a logit, as a part of the largest logit.
DRIFT = {"float32": 1e-5, "bfloat16": 0.03, "int8": 0.05}
SHAPES = {
    "t5": TransformerConfig.t5({"num_layers": 2, "vocab_size": 500}),
    "bart": TransformerConfig.bart({"vocab_size": 500, "d_model": 64, "encoder_layers": 2}),
    "gated": TransformerConfig(vocab_size=500, activation="swiglu", rotary_pct=0.5),
}


def twins(config):
    torch.manual_seed(0)
    model = Seq2SeqTransformer(config).eval()
    twin = Seq2SeqTransformer(config)
    twin.load_state_dict(model.state_dict())
    return model, twin


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_packed_logits_drift_no_further_than_stated(precision, shape, draw):
    model, twin = twins(SHAPES[shape])
    packed = pack(twin, precision)
    src, tgt = draw(4, 20, vocab=500), draw(4, 12, vocab=500)
    src[1, 9:] = SHAPES[shape].pad_token_id
    logits, ours = model(src, tgt)[0], packed(src, tgt)[0]
    assert (logits - ours.float()).abs().max() <= DRIFT[precision] * logits.abs().max()
    assert packed.generate(src, max_new_tokens=4).size(0) == 4


def test_float32_packing_writes_the_same_tokens(draw):
    model, twin = twins(SHAPES["t5"])
    source = draw(20, 15, vocab=500)
    for settings in ({}, {"num_beams": 4}, {"prompt_lookup": True}):
        expected = model.generate(source, max_new_tokens=16, **settings)
        assert torch.equal(
            pack_once(twin).generate(source, max_new_tokens=16, **settings), expected
        )


def pack_once(model):
    packed = any(getattr(module, "packed", False) for module in model.modules())
    return model if packed else pack(model)


def test_int8_takes_a_quarter_of_the_room():
    linear = torch.nn.Sequential(torch.nn.Linear(64, 256))
    packed = pack(linear, "int8")
    weight, _ = torch.ops.quantized.linear_unpack(packed[0].weight)
    assert weight.int_repr().nbytes == 64 * 256


def test_int8_weights_are_rounded_to_the_nearest_step():
    torch.manual_seed(0)
    linear = torch.nn.Linear(32, 16)
    expected = linear.weight.detach().clone()
    packed = pack(torch.nn.Sequential(linear), "int8")
    weight, _ = torch.ops.quantized.linear_unpack(packed[0].weight)
    steps = expected.abs().amax(1, keepdim=True) / 127
    assert ((weight.dequantize() - expected).abs() <= steps / 2 + 1e-7).all()


def test_a_packed_model_is_neither_saved_nor_packed_again(tmp_path):
    model = pack(Transformer(TransformerConfig(vocab_size=50)), "int8")
    with pytest.raises(ValueError, match="packed weights cannot be saved"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    with pytest.raises(ValueError, match="packed already"):
        pack(model)
    with pytest.raises(
        ValueError, match="unknown precision 'int4'; known: float32, bfloat16, int8"
    ):
        pack(Transformer(TransformerConfig(vocab_size=50)), "int4")


def test_weights_elsewhere_are_refused():
    with torch.device("meta"):
        model = Transformer(TransformerConfig(vocab_size=50))
    with pytest.raises(ValueError, match=r"on \['meta'\]"):
        pack(model)
