from dataclasses import replace

import pytest
import torch
from transformers import LogitsProcessorList
from transformers.generation import logits_process as theirs

from miniformer.config.model_config import TransformerConfig
from miniformer.model.decoding import begin
from miniformer.model.generation import stream
from miniformer.model.sampling import Sampling, penalised
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer


@pytest.fixture(params=[Seq2SeqTransformer, Transformer])
def model(request, config, lively):
    return lively(request.param(replace(config, causal=True)))


def plain_greedy(model, source, steps):
    """One row, by whole forwards only."""
    if isinstance(model, Transformer):
        ids = source[None]
        for _ in range(steps):
            ids = torch.cat([ids, model(ids, torch.ones_like(ids))[:, -1:].argmax(-1)], 1)
        return ids[0, len(source) :]
    ids = torch.tensor([[model.config.start_token_id]])
    for _ in range(steps):
        ids = torch.cat([ids, model(source[None], ids)[0][:, -1:].argmax(-1)], 1)
    return ids[0, 1:]


@pytest.mark.parametrize("side", ["left", "right"])
def test_cached_equals_uncached_equals_alone(model, draw, pad_to, side):
    rows = [draw(1, length, seed=length)[0] for length in (3, 9, 6)]
    ids, masks = (
        torch.stack(part) for part in zip(*(pad_to(row, 9, side) for row in rows), strict=True)
    )
    settings = {"max_new_tokens": 8, "eos_token_id": ()}
    cached = model.generate(ids, masks, **settings)
    assert torch.equal(cached, model.generate(ids, masks, use_cache=False, **settings))
    assert torch.equal(cached, model.generate(ids, **settings))  # the mask is inferred
    for index, row in enumerate(rows):
        assert torch.equal(cached[index, -8:], plain_greedy(model, row, 8))
        assert torch.equal(model.generate(row[None], **settings)[0, -8:], cached[index, -8:])


def test_cached_logits_equal_uncached_ones(model, draw, close):
    source, following = draw(3, 6), draw(3, 7, seed=1)
    source[1, 4:] = 0
    states = [begin(model, source, None, 9, use_cache=cache) for cache in (True, False)]
    for tokens in (states[0].prompt, following[:, :1], following[:, 1:2], following[:, 2:6]):
        cached, plain = (state.step(tokens)[:, -1] for state in states)
        close(cached, plain)
    for state in states:
        state.drop(torch.tensor([2, 0]))
        state.rewind(states[0].prompt.size(1) + 2)
    cached, plain = (state.step(following[[2, 0], 6:7]) for state in states)
    close(cached, plain)


def test_an_end_token_ends_a_row_and_padding_follows(model, draw):
    source = draw(4, 6)
    free = model.generate(source, max_new_tokens=10, eos_token_id=())[:, -10:]
    ends = [int(free[0, 3]), int(free[1, 0])]
    ended = model.generate(source, max_new_tokens=10, eos_token_id=ends, pad_token_id=2)
    new = ended[:, 1 if isinstance(model, Seq2SeqTransformer) else source.size(1) :]
    free = free[:, : new.size(1)]
    for row, whole in zip(new, free, strict=True):
        hits = [place for place, token in enumerate(whole.tolist()) if token in ends]
        stop = hits[0] + 1 if hits else len(whole)
        assert torch.equal(row[:stop], whole[:stop])
        assert (row[stop:] == 2).all()


def test_each_row_has_its_own_limit_and_stop(model, draw):
    source = draw(3, 6)
    free = model.generate(source, max_new_tokens=7, eos_token_id=())[:, -7:]
    limited = model.generate(source, max_new_tokens=[2, 7, 4], eos_token_id=())[:, -7:]
    for row, whole, length in zip(limited, free, (2, 7, 4), strict=True):
        assert torch.equal(row[:length], whole[:length])
        assert (row[length:] == 0).all()
    stopped = model.generate(
        source, max_new_tokens=7, eos_token_id=(), stop=lambda new: len(new) == 3
    )
    assert torch.equal(stopped[:, -3:], free[:, :3])


def test_a_stream_brings_the_same_tokens(model, draw):
    source = draw(3, 6)
    whole = model.generate(source, max_new_tokens=[3, 6, 5], eos_token_id=())
    streamed = list(stream(model, source, max_new_tokens=[3, 6, 5], eos_token_id=()))
    assert torch.equal(torch.stack(streamed, 1), whole[:, -6:])


def test_a_stream_starts_before_the_end(draw, causal):
    steps = stream(causal, draw(1, 4), max_new_tokens=50, eos_token_id=())
    next(steps)
    assert not torch.is_inference_mode_enabled()
    steps.close()


@pytest.mark.parametrize("settings", [{"max_new_tokens": 0}, {"top_p": 2.0}, {"eos_token_id": 97}])
def test_a_stream_refuses_at_the_call(draw, causal, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        stream(causal, draw(1, 4), **settings)


def test_lookup_writes_what_greedy_writes(model, draw):
    source = draw(3, 12).repeat(1, 2)
    for settings in ({"max_new_tokens": 20}, {"max_new_tokens": [1, 5, 20], "eos_token_id": 7}):
        greedy = model.generate(source, **settings)
        looked_up = model.generate(source, prompt_lookup=True, **settings)
        assert torch.equal(greedy, looked_up)


def test_lookup_takes_fewer_steps_on_copied_text(monkeypatch):
    """A causal model that repeats itself: greedy runs into a cycle, which lookup sees at once."""
    config = TransformerConfig(vocab_size=40, causal=True, eos_token_id=0)
    torch.manual_seed(0)
    model = Transformer(config).eval()
    source = torch.randint(3, 40, (1, 8))
    steps = []
    decode = model.decode
    monkeypatch.setattr(model, "decode", lambda *a: steps.append(1) or decode(*a))
    greedy = model.generate(source, max_new_tokens=60, eos_token_id=())
    plain = len(steps)
    steps.clear()
    assert torch.equal(
        greedy, model.generate(source, max_new_tokens=60, eos_token_id=(), prompt_lookup=True)
    )
    assert plain == 60
    assert len(steps) <= 30


def test_beams_share_a_source_and_equal_uncached_ones(model, draw):
    source = draw(2, 7)
    source[1, 5:] = 0
    settings = {"max_new_tokens": 8, "num_beams": 3, "num_return_sequences": 3}
    cached = model.generate(source, **settings)
    assert cached.size(0) == 6
    assert torch.equal(cached, model.generate(source, use_cache=False, **settings))
    alone = model.generate(source[:1], **settings)
    assert torch.equal(alone, cached[:3, : alone.size(1)])


def test_wide_enough_beams_find_the_best_of_all(seq2seq, lively):
    config = replace(seq2seq.config, vocab_size=6)
    model = lively(Seq2SeqTransformer(config))
    source = torch.tensor([[3, 4, 5, 3], [5, 5, 4, 4]])
    every = torch.cartesian_prod(torch.tensor([1]), *[torch.arange(6)] * 3)  # [216, 4]
    beams = model.generate(source, num_beams=36, max_new_tokens=3, eos_token_id=())
    for row, best in zip(source, beams, strict=True):
        logits = model(row.expand(216, -1), every[:, :-1])[0].log_softmax(-1)
        scores = logits.gather(-1, every[:, 1:, None]).sum((1, 2))
        assert torch.equal(every[scores.argmax()], best)


FILTERS = [
    {"temperature": 0.7},
    {"top_k": 5},
    {"top_k": 1000},
    {"top_p": 0.8},
    {"top_p": 0.01},
    {"temperature": 1.7, "top_k": 20, "top_p": 0.6},
]


@pytest.mark.parametrize("settings", FILTERS, ids=str)
def test_filters_give_transformers_distribution(settings):
    scores = 3 * torch.randn(16, 60, generator=torch.Generator().manual_seed(0))
    table = {
        "temperature": theirs.TemperatureLogitsWarper,
        "top_k": theirs.TopKLogitsWarper,
        "top_p": theirs.TopPLogitsWarper,
    }
    chain = LogitsProcessorList([table[name](value) for name, value in settings.items()])
    expected = chain(torch.zeros(16, 1).long(), scores.clone()).softmax(-1)
    for apply in Sampling(do_sample=True, **settings).filters():
        scores = apply(scores)
    torch.testing.assert_close(scores.softmax(-1), expected, atol=1e-6, rtol=0)


def test_the_repetition_penalty_is_transformers():
    scores = torch.randn(4, 30)
    ids = torch.randint(0, 30, (4, 8))
    seen = torch.zeros(4, 30, dtype=torch.bool).scatter(1, ids, True)
    expected = theirs.RepetitionPenaltyLogitsProcessor(1.3)(ids, scores.clone())
    torch.testing.assert_close(penalised(scores, seen, 1.3), expected, atol=1e-6, rtol=0)


def test_samples_follow_the_distribution():
    scores = torch.tensor([[0.0, 1.0, 2.0, -1.0]]).expand(20_000, -1)
    drawn = Sampling(do_sample=True, top_k=3).choose(scores, torch.Generator().manual_seed(0))
    shares = torch.bincount(drawn, minlength=4) / 20_000
    expected = torch.tensor([0.0, 1.0, 2.0]).softmax(0)
    assert (shares[:3] - expected).abs().max() < 0.015
    assert shares[3] == 0


def test_a_seeded_generator_repeats_itself(model, draw):
    def once(seed):
        generator = torch.Generator().manual_seed(seed)
        return model.generate(draw(2, 5), max_new_tokens=12, temperature=2.0, generator=generator)

    assert torch.equal(once(1), once(1))
    assert not torch.equal(once(1), once(2))


def test_temperature_0_is_greedy(model, draw):
    greedy = model.generate(draw(2, 5), max_new_tokens=6)
    cold = model.generate(draw(2, 5), max_new_tokens=6, do_sample=True, temperature=0, top_k=3)
    assert torch.equal(greedy, cold)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature must be 0 or more"),
        ({"top_k": -1}, "top_k must be"),
        ({"top_p": 0.0}, "top_p must be"),
        ({"top_p": 1.5}, "top_p must be"),
        ({"repetition_penalty": 0.0}, "repetition_penalty must be"),
        ({"max_new_tokens": 0}, "max_new_tokens must be"),
        ({"num_beams": 0}, "num_beams must be|num_return_sequences"),
        ({"num_beams": 2, "num_return_sequences": 3}, "3 is more than num_beams 2"),
        ({"num_beams": 2, "do_sample": True}, "neither sample"),
        ({"num_beams": 2, "early_stopping": "soon"}, "early_stopping must be"),
        ({"num_beams": 2, "stop": len}, "no stop"),
        ({"prompt_lookup": True, "top_k": 3}, "prompt_lookup is greedy"),
        ({"max_new_tokens": 500}, "longer than max_seq_len 64"),
    ],
)
def test_settings_out_of_range_are_named(settings, message, draw):
    model = Transformer(TransformerConfig(vocab_size=97, causal=True, max_seq_len=64))
    with pytest.raises(ValueError, match=message):
        model.generate(draw(1, 4), **settings)


def test_only_a_causal_model_of_tokens_generates(draw):
    model = Transformer(TransformerConfig(vocab_size=97))
    with pytest.raises(ValueError, match="set causal=True"):
        model.generate(draw(1, 4))
    features = Transformer(replace(model.config, causal=True, input_dim=4))
    with pytest.raises(ValueError, match="over token ids"):
        features.generate(torch.randn(1, 3, 4))
