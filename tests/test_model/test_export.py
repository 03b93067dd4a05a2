import numpy as np
import onnxruntime
import pytest
import torch

from miniformer.config.model_config import TransformerConfig
from miniformer.model.export import export_onnx
from miniformer.model.packing import pack
from miniformer.model.position import POSITIONS
from miniformer.model.pretrained import minilm_config, warm_start
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer


def run(path, ids, mask):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    [states] = session.run(None, feed)
    return torch.from_numpy(states)


def check(path, model, vocab):
    """Other batch sizes and lengths than the traced ones, padded on either side."""
    for batch, length in ((1, 1), (3, 12), (5, 30)):
        ids = torch.randint(3, vocab, (batch, length))
        mask = torch.ones_like(ids)
        if length > 1:
            mask[0, length // 2 :] = 0
            mask[-1, : length // 3] = 0
        states = run(path, ids, mask)
        with torch.no_grad():
            if isinstance(model, Transformer):
                expected = model.hidden_states(ids, mask)
            else:
                expected, _ = model.encode(ids, mask)
        real = mask.bool()
        assert np.isfinite(states.numpy()).all()
        torch.testing.assert_close(states[real], expected[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", POSITIONS)
def test_onnx_runtime_gives_the_same_states(kind, tmp_path):
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=97, n_layers=2, position=kind, pre_norm=kind != "learned", max_seq_len=64
    )
    model = Transformer(config).eval()
    path = export_onnx(model, tmp_path / "encoder.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["encoder.onnx"]
    check(path, model, 97)


def test_a_causal_model_and_a_t5_encoder(tmp_path):
    causal = Transformer(TransformerConfig(vocab_size=97, causal=True, activation="swiglu")).eval()
    check(export_onnx(causal, tmp_path / "causal.onnx"), causal, 97)
    shape = {"d_model": 64, "num_layers": 2, "vocab_size": 97}
    t5 = Seq2SeqTransformer(TransformerConfig.t5(shape)).eval()
    check(export_onnx(t5, tmp_path / "t5.onnx"), t5, 97)


def test_the_real_minilm_as_an_encoder_half(tmp_path):
    model = warm_start(Seq2SeqTransformer(minilm_config(decoder={"n_layers": 1}))).eval()
    check(export_onnx(model, tmp_path / "minilm.onnx"), model, 30_000)


def test_what_cannot_be_exported_is_named(tmp_path, monkeypatch):
    features = Transformer(TransformerConfig(vocab_size=97, input_dim=4))
    with pytest.raises(ValueError, match="token ids"):
        export_onnx(features, tmp_path / "x.onnx")
    packed = pack(Transformer(TransformerConfig(vocab_size=97)))
    with pytest.raises(ValueError, match="packed weights cannot be exported"):
        export_onnx(packed, tmp_path / "x.onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"onnx and onnxscript: pip install .*\[export\]"):
        export_onnx(Transformer(TransformerConfig(vocab_size=97)), tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []
