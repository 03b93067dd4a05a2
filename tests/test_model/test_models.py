import math
import re
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
import torch
import torch.nn.functional as F

from miniformer.config.model_config import TransformerConfig
from miniformer.model.attention import MultiHeadAttention
from miniformer.model.feedforward import ACTIVATIONS, FEEDFORWARDS, GATES, FeedForward
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
EXACT = {"atol": 0, "rtol": 0}
SEED = Path(__file__).resolve().parents[3] / "shared" / "seeds" / "seed-2-miniformer.md"
TRAINING = ("miniformer.train", "runs/", "JSONLinesDataset", "DataModule", "LitModule")


@pytest.mark.skipif(not SEED.is_file(), reason="the seeds do not lie beside this checkout")
def test_the_second_readmes_models_and_configurations_run_as_they_stand():
    """What its blocks leave undefined is supplied: a model to run and ids to read."""
    blocks = re.findall(r"^ *```python\n(.*?)```", SEED.read_text(encoding="utf-8"), re.M | re.S)
    torch.manual_seed(0)
    names = {}
    for block in blocks:
        if not any(word in block for word in TRAINING):
            names["model"] = Seq2SeqTransformer(TransformerConfig(vocab_size=97))
            names["input_ids"] = torch.randint(3, 97, (1, 5))
            exec(compile(dedent(block), str(SEED), "exec"), names)
    assert names["cls_logits"].shape == (2, 10)
    assert names["logits"].shape == (2, 48, 32000)
    assert names["generated_ids"].shape[0] == names["outputs"].shape[0] == 1
    assert names.keys() >= {"FlashAttention", "MoEFeedForward", "TokenClassificationHead"}


def test_the_first_readme_example():
    config = TransformerConfig(
        vocab_size=10000,
        d_model=256,
        n_heads=8,
        n_layers=4,
        d_ff=1024,
        dropout=0.1,
        activation="gelu",
        output_dim=10,
        max_seq_len=512,
    )
    logits = Transformer(config)(torch.randint(0, 10000, (2, 128)))
    assert logits.shape == (2, 128, 10)
    assert logits[:, 0, :].shape == (2, 10)


def test_the_second_readme_example():
    config = TransformerConfig(
        vocab_size=32000,
        d_model=512,
        n_heads=8,
        n_layers=6,
        d_ff=2048,
        dropout=0.1,
        activation="swiglu",
        max_seq_len=1024,
    )
    model = Seq2SeqTransformer(config)
    src, tgt = torch.randint(0, 32000, (2, 64)), torch.randint(0, 32000, (2, 48))
    logits, states, cache = model(src, tgt)
    assert logits.shape == (2, 48, 32000)
    assert states.shape == (2, 64, 512)
    assert cache is None
    assert len(model(src, tgt, use_cache=True)[2]) == 6
    generated = model.generate(
        src[:1], max_new_tokens=100, temperature=0.8, top_k=50, repetition_penalty=1.2
    )
    assert 2 <= generated.size(1) <= 101
    model.generate(src, max_new_tokens=3, temperature=1.0, top_k=50, top_p=0.9, do_sample=True)


def test_without_output_dim_the_head_is_the_embedding():
    config = TransformerConfig(vocab_size=50)
    for model in (Transformer(config), Seq2SeqTransformer(config)):
        assert model.output_projection.weight is model.token_embedding.weight
    untied = Transformer(replace(config, tie_lm_head=False))
    assert untied.output_projection.weight is not untied.token_embedding.weight
    assert Seq2SeqTransformer(replace(config, output_dim=7))(
        torch.ones(1, 3, dtype=torch.long), torch.ones(1, 2, dtype=torch.long)
    )[0].shape == (1, 2, 7)


def test_embeddings_are_shared_or_separate():
    config = TransformerConfig(vocab_size=50)
    shared, separate = Seq2SeqTransformer(config), Seq2SeqTransformer(config, False)
    assert shared.target_embedding is shared.token_embedding
    assert separate.target_embedding.weight is not separate.token_embedding.weight


@pytest.mark.parametrize("model_class", [Transformer, Seq2SeqTransformer])
def test_features_instead_of_ids(model_class):
    model = model_class(TransformerConfig(vocab_size=50, input_dim=6, output_dim=3)).eval()
    features = torch.randn(2, 5, 6)
    inputs = (features,) if model_class is Transformer else (features, torch.ones(2, 4).long())
    first = model(*inputs)
    predicted = first if model_class is Transformer else first[0]
    assert predicted.shape == (2, 5 if model_class is Transformer else 4, 3)
    with pytest.raises(ValueError, match=r"must be \[batch, length, 6\], got \[2, 5, 7\]"):
        model(torch.randn(2, 5, 7), *inputs[1:])


def test_a_bidirectional_model_sees_the_whole_sequence(encoder_only, draw):
    ids = draw(1, 9)
    changed = ids.clone()
    changed[0, 8] = 5 if ids[0, 8] != 5 else 6
    assert (encoder_only(ids)[0, 0] - encoder_only(changed)[0, 0]).abs().max() > 1e-4


def test_a_causal_model_never_sees_ahead(causal, draw):
    ids = draw(3, 12)
    for place in (1, 5, 11):
        changed = ids.clone()
        changed[:, place:] = draw(3, 12, seed=1)[:, place:]
        torch.testing.assert_close(causal(ids)[:, :place], causal(changed)[:, :place], **EXACT)


def test_a_label_cannot_change_a_prediction_at_or_before_it(seq2seq, draw):
    src, tgt = draw(3, 7), draw(3, 9)
    for place in (1, 4, 8):
        changed = tgt.clone()
        changed[:, place:] = draw(3, 9, seed=2)[:, place:]
        before, after = seq2seq(src, tgt)[0], seq2seq(src, changed)[0]
        torch.testing.assert_close(before[:, :place], after[:, :place], **EXACT)
        assert not torch.equal(before[:, place:], after[:, place:])


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_stands_in_the_padding_changes_nothing(seq2seq, encoder_only, draw, pad_to, side):
    row, mask = pad_to(draw(1, 6)[0], 10, side)
    other = torch.where(mask.bool(), row, draw(1, 10, seed=3)[0])
    tgt = draw(1, 5, seed=4)
    real = mask.bool()
    one, two = (encoder_only(ids[None], mask[None])[0, real] for ids in (row, other))
    torch.testing.assert_close(one, two, **EXACT)
    one, two = (seq2seq(ids[None], tgt, mask[None])[0] for ids in (row, other))
    torch.testing.assert_close(one, two, **EXACT)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_equals_single_rows(seq2seq, causal, draw, pad_to, close, side):
    rows = [draw(1, length, seed=length)[0] for length in (3, 11, 7)]
    ids, masks = (
        torch.stack(part) for part in zip(*(pad_to(r, 11, side) for r in rows), strict=True)
    )
    tgt = draw(3, 5, seed=9)
    together = seq2seq(ids, tgt, masks)[0]
    inferred = seq2seq(ids, tgt)[0]  # padding is told by pad_token_id
    continued = causal(ids, masks)
    for index, row in enumerate(rows):
        alone = seq2seq(row[None], tgt[index : index + 1])[0][0]
        close(together[index], alone)
        close(inferred[index], alone)
        real = masks[index].bool()
        close(continued[index, real], causal(row[None])[0])


def test_target_padding_is_never_inferred(seq2seq, draw):
    src, tgt = draw(2, 6), draw(2, 5)
    tgt[:, 0] = 0
    given = torch.ones_like(tgt)
    torch.testing.assert_close(seq2seq(src, tgt)[0], seq2seq(src, tgt, tgt_mask=given)[0], **EXACT)
    given[:, 0] = 0
    assert not torch.equal(seq2seq(src, tgt)[0], seq2seq(src, tgt, tgt_mask=given)[0])


def test_both_backends_agree(config, draw):
    fused = Seq2SeqTransformer(replace(config, use_sdpa=True)).eval()
    plain = Seq2SeqTransformer(replace(config, use_sdpa=False)).eval()
    plain.load_state_dict(fused.state_dict())
    src, tgt = draw(2, 7), draw(2, 5)
    src[0, 4:] = 0
    torch.testing.assert_close(fused(src, tgt)[0], plain(src, tgt)[0], **CLOSE)


def test_attention_weights_come_whatever_the_backend(seq2seq, encoder_only, draw):
    src, tgt = draw(2, 7), draw(2, 5)
    src[0, 4:] = 0
    weights = seq2seq.get_attention_weights(src, tgt)
    shapes = {"encoder": (2, 4, 7, 7), "decoder": (2, 4, 5, 5), "cross": (2, 4, 5, 7)}
    for kind, shape in shapes.items():
        assert [tuple(layer.shape) for layer in weights[kind]] == [shape] * 2
        for layer in weights[kind]:
            torch.testing.assert_close(layer.sum(-1), torch.ones(shape[:3]))
    assert all((layer[0, :, :, 4:] == 0).all() for layer in weights["cross"])
    assert all((layer.triu(1) == 0).all() for layer in weights["decoder"])
    assert encoder_only.get_attention_weights(src)[0].shape == (2, 4, 7, 7)
    assert all(not m.need_weights for m in seq2seq.modules() if hasattr(m, "need_weights")) or (
        not seq2seq.config.use_sdpa
    )


def test_grouped_query_attention_equals_repeated_heads():
    few = MultiHeadAttention(32, 8, n_kv_heads=2).eval()
    many = MultiHeadAttention(32, 8).eval()
    state = few.state_dict()
    for name in ("wk", "wv"):
        for part in ("weight", "bias"):
            heads = state[f"{name}.{part}"].unflatten(0, (2, 4))
            state[f"{name}.{part}"] = heads.repeat_interleave(4, 0).flatten(0, 1)
    many.load_state_dict(state)
    x = torch.randn(2, 5, 32)
    torch.testing.assert_close(few(x, x, x)[0], many(x, x, x)[0], **CLOSE)


@pytest.mark.parametrize("as_tuple", [True, False])
def test_attention_over_a_past_equals_attention_over_all(as_tuple):
    attention = MultiHeadAttention(16, 4).eval()
    x = torch.randn(2, 6, 16)
    whole, _, _ = attention(x, x, x, torch.ones(6, 6).tril().bool())
    _, weights, past = attention(x[:, :4], x[:, :4], x[:, :4], use_cache=True)
    assert weights is None
    past = tuple(past) if as_tuple else past
    last, _, new = attention(x[:, 4:5], x[:, 4:5], x[:, 4:5], past_kv=past, use_cache=True)
    torch.testing.assert_close(last, whole[:, 4:5], **CLOSE)
    assert new.keys.shape == (2, 4, 5, 4)
    assert attention(x, x, x)[2] is None


def test_attention_errors_give_both_numbers():
    with pytest.raises(ValueError, match="d_model 30 is not divisible by n_heads 4"):
        MultiHeadAttention(30, 4)
    with pytest.raises(ValueError, match="n_heads 4 is not divisible by n_kv_heads 3"):
        MultiHeadAttention(32, 4, n_kv_heads=3)
    with pytest.raises(ValueError, match="got 0 and 8"):
        FeedForward(0, 8)


@pytest.mark.parametrize("name", [*ACTIVATIONS, *GATES])
def test_a_feed_forward_is_its_formula(name):
    network = FeedForward(8, 12, dropout=0.0, activation=name)
    x = torch.randn(3, 8)
    wide = x @ network.linear1.weight.T + network.linear1.bias
    if name in GATES:
        wide = ACTIVATIONS[GATES[name]](wide[:, :12]) * wide[:, 12:]
    else:
        wide = ACTIVATIONS[name](wide)
    expected = wide @ network.linear2.weight.T + network.linear2.bias
    torch.testing.assert_close(network(x), expected, **CLOSE)


@pytest.mark.parametrize("table", ["attention", "feedforward", "position", "activation", "norm"])
def test_an_unknown_row_lists_the_known(table):
    with pytest.raises(ValueError, match=f"unknown {table} 'nonsense'; known: "):
        Transformer(TransformerConfig(**{table: "nonsense"}))
    with pytest.raises(ValueError, match="unknown head 'nonsense'; known: linear"):
        Transformer(TransformerConfig(head="nonsense"))


def test_a_row_of_ones_own_is_used(monkeypatch):
    class Doubled(FeedForward):
        def __init__(self, *sizes, times=1, **rest):
            super().__init__(*sizes, **rest)
            self.times = times

        def forward(self, x):
            return self.times * super().forward(x)

    monkeypatch.setitem(FEEDFORWARDS, "doubled", Doubled)
    config = TransformerConfig(feedforward="doubled", feedforward_options={"times": 2})
    assert Transformer(config).encoder.layers[0].feedforward.times == 2


def test_gradient_checkpointing_changes_no_gradient(seq2seq, draw):
    src, tgt = draw(2, 6), draw(2, 5)
    twin = Seq2SeqTransformer(replace(seq2seq.config, gradient_checkpointing=True)).eval()
    twin.load_state_dict(seq2seq.state_dict())
    for model in (seq2seq, twin):
        F.cross_entropy(model(src, tgt)[0].flatten(0, 1), tgt.flatten()).backward()
    for (name, one), (_, two) in zip(
        seq2seq.named_parameters(), twin.named_parameters(), strict=True
    ):
        torch.testing.assert_close(one.grad, two.grad, **EXACT, msg=name)


@pytest.mark.parametrize("pre_norm", [True, False])
@pytest.mark.parametrize("layers", [2, 24])
@pytest.mark.parametrize("model_class", [Transformer, Seq2SeqTransformer])
def test_a_fresh_model_knows_nothing(pre_norm, layers, model_class):
    torch.manual_seed(0)
    config = TransformerConfig(
        vocab_size=5000, d_model=128, n_layers=layers, pre_norm=pre_norm, causal=True
    )
    model = model_class(config).eval()
    ids = torch.randint(3, 5000, (8, 64))
    logits = model(ids) if model_class is Transformer else model(ids, ids)[0]
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()
    assert loss == pytest.approx(math.log(5000), rel=0.02)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masked_rows_and_large_inputs_stay_finite(seq2seq, encoder_only, draw, dtype):
    seq2seq, encoder_only = seq2seq.to(dtype), encoder_only.to(dtype)
    src, tgt = draw(2, 6), draw(2, 5)
    src[0] = 0  # nothing but padding
    assert seq2seq(src, tgt)[0].isfinite().all()
    assert encoder_only(src).isfinite().all()
    with torch.no_grad():
        seq2seq.token_embedding.weight.mul_(1e4)
    src, tgt = draw(2, 6), draw(2, 5)
    assert seq2seq(src, tgt)[0].isfinite().all()


def test_dropout_is_off_in_eval_and_on_in_training(seq2seq, draw):
    src, tgt = draw(2, 6), draw(2, 5)
    assert torch.equal(seq2seq(src, tgt)[0], seq2seq(src, tgt)[0])
    seq2seq.train()
    assert not torch.equal(seq2seq(src, tgt)[0], seq2seq(src, tgt)[0])


BAD = [
    (lambda m, x: m(x + 97), "hold .*, but vocab_size is 97"),
    (lambda m, x: m(x - 50), "hold -.*, but vocab_size is 97"),
    (lambda m, x: m(x[:, :0]), r"must be \[batch, length\], neither 0; got \[2, 0\]"),
    (lambda m, x: m(x[0]), r"got \[6\]"),
    (lambda m, x: m(x.float()), "must be whole numbers"),
    (lambda m, x: m(x.repeat(1, 11)), "66 positions is longer than max_seq_len 64"),
    (lambda m, x: m(x, torch.ones(2, 5)), r"mask has shape \[2, 5\], its input \[2, 6\]"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_one_clear_error(call, message, draw):
    model = Transformer(TransformerConfig(vocab_size=97, max_seq_len=64))
    with pytest.raises(ValueError, match=message):
        call(model, draw(2, 6))


def test_bad_targets_are_clear_errors(draw):
    model = Seq2SeqTransformer(TransformerConfig(vocab_size=97, max_seq_len=64))
    src = draw(2, 6)
    with pytest.raises(ValueError, match="target ids hold 97"):
        model(src, torch.full((2, 3), 97))
    with pytest.raises(ValueError, match="the source has 2 rows, the target 3"):
        model(src, draw(3, 4))
    with pytest.raises(ValueError, match="target mask has shape"):
        model(src, draw(2, 4), tgt_mask=torch.ones(2, 5))
    with pytest.raises(ValueError, match="target of 65 positions"):
        model(src, draw(2, 65))


def test_importing_leaves_torch_untouched():
    import subprocess
    import sys

    code = (
        "import torch; t = torch.Tensor; "
        "before = (torch.allclose, t.backward, t.__contains__); "
        "import miniformer, miniformer.model.generation, miniformer.model.pretrained, sys; "
        "assert before == (torch.allclose, t.backward, t.__contains__); "
        "print(*({'transformers', 'lightning', 'matplotlib', 'faiss'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
