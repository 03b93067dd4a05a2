import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import (
    AutoTokenizer,
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from miniformer import MiniLMModel, load_pretrained_weights
from miniformer.config.model_config import TransformerConfig
from miniformer.model.foreign_names import FAMILIES as FAMILY
from miniformer.model.foreign_names import translate
from miniformer.model.pretrained import minilm_config, warm_start
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer
from miniformer.weights import find_model

T5_SHAPES = [
    {"vocab_size": 50, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4},
    {"vocab_size": 99, "d_model": 48, "d_kv": 10, "d_ff": 40, "num_layers": 3, "num_heads": 6},
]
BART_SHAPES = [
    {"vocab_size": 50, "d_model": 32, "encoder_layers": 2, "decoder_layers": 3},
    {"vocab_size": 99, "d_model": 48, "encoder_layers": 1, "scale_embedding": True},
]


def t5(shape, gated):
    config = T5Config(
        **shape,
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=not gated,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config)
    if gated:  # transformers builds it tied; the published 1.1 checkpoints are not
        model.lm_head.weight = torch.nn.Parameter(torch.randn_like(model.shared.weight))
    return model


def bart(shape):
    sizes = {"encoder_attention_heads": 4, "decoder_attention_heads": 2, "decoder_layers": 2}
    sizes |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 48, "max_position_embeddings": 64}
    sizes["init_std"] = 0.15  # the default leaves so small a model nearly constant
    model = BartForConditionalGeneration(BartConfig(**{**sizes, **shape}))
    torch.nn.init.normal_(model.final_logits_bias)
    return model


FAMILIES = {
    "t5": (lambda shape: t5(shape, False), T5_SHAPES),
    "t5-1.1": (lambda shape: t5(shape, True), T5_SHAPES),
    "bart": (bart, BART_SHAPES),
}


def saved(original, folder):
    """As published: config.json and one safetensors file with every tensor that is its own."""
    original.save_pretrained(folder)
    tensors = {
        name: tensor.clone()
        for name, tensor in original.state_dict().items()
        if "embed_tokens" not in name
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(
    scope="module",
    params=[
        (name, shape) for name, (_, shapes) in FAMILIES.items() for shape in range(len(shapes))
    ],
    ids=lambda param: f"{param[0]}-{param[1]}",
)
def pair(request, tmp_path_factory):
    """The original and ours, from the same folder."""
    name, shape = request.param
    torch.manual_seed(shape)
    make, shapes = FAMILIES[name]
    original = make(shapes[shape]).eval()
    folder = saved(original, tmp_path_factory.mktemp(name))
    return original, Seq2SeqTransformer.from_pretrained(folder)


def batch(original, seed=0):
    generator = torch.Generator().manual_seed(seed)
    vocab, pad = original.config.vocab_size, original.config.pad_token_id
    src = torch.randint(3, vocab, (5, 17), generator=generator)
    mask = torch.ones_like(src)
    for row, length in ((1, 9), (3, 2), (4, 16)):
        mask[row, length:] = 0
    src[mask == 0] = pad
    tgt = torch.randint(3, vocab, (5, 11), generator=generator)
    tgt[:, 0] = original.config.decoder_start_token_id
    return src, mask, tgt


def test_logits_equal_the_originals(pair):
    original, ours = pair
    for seed in range(3):
        src, mask, tgt = batch(original, seed)
        expected = original(input_ids=src, attention_mask=mask, decoder_input_ids=tgt).logits
        logits, _, _ = ours(src, tgt, mask)
        assert (logits - expected).abs().max() <= 1e-5 * expected.abs().max()
        inferred, _, _ = ours(src, tgt)
        assert torch.equal(inferred, logits)


def test_gradients_equal_the_originals(pair):
    original, ours = pair
    src, mask, tgt = batch(original)
    expected = original(input_ids=src, attention_mask=mask, decoder_input_ids=tgt).logits
    logits, _, _ = ours(src, tgt, mask)
    for model, output in ((original, expected), (ours, logits)):
        model.zero_grad()
        F.cross_entropy(output.flatten(0, 1), tgt.roll(-1, 1).flatten()).backward()
    family = FAMILY[original.config.model_type]
    gradients = {name: p.grad for name, p in original.named_parameters() if p.grad is not None}
    expected = translate(gradients, family, tied=ours.config.tie_lm_head)
    own = {name: p.grad for name, p in ours.named_parameters() if p.grad is not None}
    own.pop("output_projection.bias", None)  # a buffer there, a parameter here
    assert own.keys() == expected.keys()
    for name, gradient in own.items():
        # A key's bias moves all scores of a row alike: its gradient is nothing but rounding.
        scale = max(float(expected[name].abs().max()), 1e-3)
        assert (gradient - expected[name]).abs().max() <= 1e-4 * scale, name


def trimmed(rows, eos):
    """Each row up to its end: transformers and we fill the rest differently."""
    lists = []
    for row in rows.tolist():
        body = row[1:]
        lists.append(body[: body.index(eos) + 1] if eos in body else body)
    return lists


@pytest.mark.parametrize("beams", [1, 4])
def test_200_prompts_give_the_originals_tokens(pair, beams):
    original, ours = pair
    eos = original.config.eos_token_id
    generator = torch.Generator().manual_seed(beams)
    for size in (16, 9, 15, 10):  # four batches of 50
        src = torch.randint(3, original.config.vocab_size, (50, size), generator=generator)
        mask = torch.ones_like(src)
        for row, length in enumerate(torch.randint(2, size + 1, (50,), generator=generator)):
            mask[row, length:] = 0
        src[mask == 0] = original.config.pad_token_id
        expected = original.generate(
            src, attention_mask=mask, max_new_tokens=16, num_beams=beams, do_sample=False
        )
        written = ours.generate(src, mask, max_new_tokens=16, num_beams=beams)
        assert trimmed(written, eos) == trimmed(expected, eos)


@pytest.mark.parametrize("early", [True, False, "never"])
@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_beams_end_as_the_originals_do(pair, early, penalty):
    original, ours = pair
    eos = original.config.eos_token_id
    src, mask, _ = batch(original)
    settings = {
        "max_new_tokens": 12,
        "num_beams": 3,
        "early_stopping": early,
        "length_penalty": penalty,
        "num_return_sequences": 3,
    }
    expected = original.generate(src, attention_mask=mask, do_sample=False, **settings)
    assert trimmed(ours.generate(src, mask, **settings), eos) == trimmed(expected, eos)


def test_a_penalty_writes_the_originals_tokens(pair):
    original, ours = pair
    src, mask, _ = batch(original)
    settings = {"max_new_tokens": 12, "repetition_penalty": 1.4}
    expected = original.generate(src, attention_mask=mask, do_sample=False, **settings)
    written = ours.generate(src, mask, **settings)
    eos = original.config.eos_token_id
    assert trimmed(written, eos) == trimmed(expected, eos)


@pytest.mark.parametrize(
    ("make", "hf", "parameters"),
    [
        (TransformerConfig.t5, {}, 60_506_624),
        (
            TransformerConfig.t5,
            {
                "d_ff": 1024,
                "num_layers": 8,
                "num_heads": 6,
                "feed_forward_proj": "gated-gelu",
                "tie_word_embeddings": False,
            },
            76_961_152,
        ),
        (
            TransformerConfig.bart,
            {
                "d_model": 768,
                "encoder_layers": 6,
                "decoder_layers": 6,
                "encoder_attention_heads": 12,
                "decoder_attention_heads": 12,
                "encoder_ffn_dim": 3072,
                "decoder_ffn_dim": 3072,
            },
            139_420_416 + 50_265,  # transformers keeps the bias of the logits as a buffer
        ),
    ],
    ids=["t5-small", "flan-t5-small", "bart-base"],
)
def test_the_published_sizes(make, hf, parameters):
    tied = hf.get("tie_word_embeddings") is not False
    with torch.device("meta"):
        model = Seq2SeqTransformer(make(hf, tie_lm_head=tied))
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@pytest.mark.parametrize("model_class", [Transformer, Seq2SeqTransformer])
def test_loaded_equals_saved(config, model_class, tmp_path, draw):
    model = model_class(config).eval()
    model.save_pretrained(tmp_path)
    loaded = model_class.from_pretrained(str(tmp_path))
    assert loaded.config == model.config
    assert not loaded.training
    ids = draw(2, 6)
    inputs = (ids,) if model_class is Transformer else (ids, ids)
    one, two = model(*inputs), loaded(*inputs)
    assert torch.equal(
        one if torch.is_tensor(one) else one[0], two if torch.is_tensor(two) else two[0]
    )
    assert loaded.output_projection.weight is loaded.token_embedding.weight


def test_separate_embeddings_survive(tmp_path, draw):
    model = Seq2SeqTransformer(TransformerConfig(vocab_size=97), share_embeddings=False).eval()
    model.save_pretrained(tmp_path)
    loaded = Seq2SeqTransformer.from_pretrained(tmp_path)
    assert not loaded.share_embeddings
    assert torch.equal(model(draw(1, 4), draw(1, 4))[0], loaded(draw(1, 4), draw(1, 4))[0])


def test_a_tokenizer_beside_the_weights_opens(tmp_path):
    from tokenizers import Tokenizer

    file = find_model("all-MiniLM-L6-v2", hub=False).path / "tokenizer.json"
    model = Transformer(TransformerConfig(vocab_size=30522, d_model=8, n_heads=2, n_layers=1))
    model.save_pretrained(tmp_path, tokenizer=Tokenizer.from_file(str(file)))
    opened = AutoTokenizer.from_pretrained(tmp_path)
    assert opened("Hello WORLD")["input_ids"][:4] == [101, 7592, 2088, 102]
    opened.save_pretrained(tmp_path / "again")
    model.save_pretrained(tmp_path / "again", tokenizer=opened)
    assert AutoTokenizer.from_pretrained(tmp_path / "again")("tea")["input_ids"][1] == 5572


def test_every_tensor_that_does_not_fit_is_listed_at_once(tmp_path):
    model = Transformer(TransformerConfig(vocab_size=97))
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["stranger"] = torch.zeros(3)
    del tensors["encoder.final_norm.weight"]
    tensors["encoder.layers.0.self_attention.wq.bias"] = torch.zeros(5)
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        Transformer.from_pretrained(tmp_path)
    for part in (
        "missing encoder.final_norm.weight [64]",
        "unexpected stranger [3]",
        "wq.bias is [5] in the file, [64] in the model",
    ):
        assert part in str(caught.value)


def test_a_t5_with_a_missing_tensor_is_refused(tmp_path):
    saved(t5(T5_SHAPES[0], False), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["encoder.block.1.layer.0.SelfAttention.q.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"missing encoder.layers.1.self_attention.wq.weight"):
        Seq2SeqTransformer.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "llama"}, "unknown model_type 'llama'; known: t5, bart"),
        ({"model_type": "bert"}, "load it as encoder half"),
        ({"architecture": "Seq2SeqTransformer"}, "holds a Seq2SeqTransformer, not a Transformer"),
        ({"d_modle": 3}, "did you mean 'd_model'"),
        ([], "must hold a JSON object"),
    ],
)
def test_a_foreign_configuration_is_named(tmp_path, content, message):
    Transformer(TransformerConfig(vocab_size=97)).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        Transformer.from_pretrained(tmp_path)


def test_a_folder_without_parts_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        Transformer.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors"):
        Transformer.from_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_text("nonsense")
    with pytest.raises(ValueError, match="damaged"):
        Transformer.from_pretrained(tmp_path)


def test_the_real_minilm_is_the_encoder_half(draw):
    config = minilm_config(decoder={"n_layers": 2, "rotary_pct": 0.5})
    model = warm_start(Seq2SeqTransformer(config)).eval()
    original = load_pretrained_weights(MiniLMModel())
    ids = draw(3, 20, vocab=30_000)
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    states, _ = model.encode(ids, mask)
    expected, _, _ = original(ids, mask)
    real = mask.bool()
    torch.testing.assert_close(states[real], expected[real], atol=1e-5, rtol=1e-5)
    assert model.generate(ids, mask, max_new_tokens=4).size(0) == 3


def test_a_warm_start_of_another_shape_is_refused():
    config = minilm_config()
    shorter = replace(config, encoder={**config.encoder, "n_layers": 5})
    with pytest.raises(ValueError, match="does not fit"):
        warm_start(Seq2SeqTransformer(replace(shorter, encoder={**config.encoder, "n_layers": 7})))
