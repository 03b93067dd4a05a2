"""Generation among the tokens that may follow, and the scores of what beams wrote."""

import math
from dataclasses import replace

import pytest
import torch

from miniformer.config.model_config import TransformerConfig
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer

TINY = TransformerConfig(
    vocab_size=50, d_model=32, n_heads=4, n_layers=1, d_ff=48, max_seq_len=64, dropout=0.0
)


@pytest.fixture(params=[Seq2SeqTransformer, Transformer])
def writer(request, lively):
    return lively(request.param(replace(TINY, causal=request.param is Transformer)))


def a_third(sources, new):
    """A third of the tokens, by the source and all that was written for it."""
    tokens = torch.arange(50) + sources[:, None] + new.size(1) + new.sum(1, keepdim=True)
    return tokens % 3 == 0


@torch.no_grad()
def logits_of(model, source, new):
    """What a model predicts after each of ``new`` [t] and before the first, [t + 1, V]."""
    if isinstance(model, Seq2SeqTransformer):
        start = new.new_tensor([model.config.start_token_id])
        return model(source[None], torch.cat([start, new])[None])[0][0]
    return model(torch.cat([source, new])[None])[0, len(source) - 1 :]


@pytest.mark.parametrize(
    "how",
    [
        {"max_new_tokens": [2, 7, 4]},
        {"max_new_tokens": [5, 3, 7], "do_sample": True, "temperature": 3.0},
        {"max_new_tokens": 7, "num_beams": 4, "num_return_sequences": 3},
    ],
)
def test_only_what_is_allowed_is_written(writer, draw, how):
    source, each = draw(3, 6, vocab=50), how.get("num_return_sequences", 1)
    torch.manual_seed(0)
    ids = writer.generate(source, eos_token_id=(), allowed=a_third, **how)[:, -7:]
    limits = torch.as_tensor(how["max_new_tokens"]).expand(3).repeat_interleave(each)
    for row, (new, limit) in enumerate(zip(ids, limits.tolist(), strict=True)):
        for step in range(limit):
            may = a_third(torch.tensor([row // each]), new[None, :step])[0]
            assert may[new[step]]
            if how == {"max_new_tokens": [2, 7, 4]}:
                scores = logits_of(writer, source[row], new[:step])[-1]
                assert new[step] == scores.masked_fill(~may, -math.inf).argmax()


@pytest.mark.parametrize("allowed", [None, a_third, lambda s, new: torch.ones(len(s), 50).bool()])
def test_scores_are_sums_of_log_probabilities(writer, draw, allowed):
    source, ends = draw(2, 6, vocab=50), list(range(0, 50, 5))
    how = {"max_new_tokens": 6, "num_beams": 4, "num_return_sequences": 4, "length_penalty": 0.0}
    how |= {"eos_token_id": ends, "return_scores": True}
    ids, scores = writer.generate(source, allowed=allowed, **how)
    if allowed is not a_third:
        assert all(map(torch.equal, (ids, scores), writer.generate(source, **how)))
    begin = 1 if isinstance(writer, Seq2SeqTransformer) else 6
    for row, (new, score) in enumerate(zip(ids[:, begin:], scores.tolist(), strict=True)):
        ended = [n + 1 for n, token in enumerate(new.tolist()) if token in ends]
        new = new[: ended[0] if ended else 6]
        chances = logits_of(writer, source[row // 4], new)[:-1].log_softmax(-1)
        assert score == pytest.approx(float(chances.gather(1, new[:, None]).sum()), abs=1e-5)


def test_ways_of_writing_at_odds_are_named(writer, draw):
    with pytest.raises(ValueError, match=r"prompt_lookup is greedy: .*allowed"):
        writer.generate(draw(1, 4, vocab=50), prompt_lookup=True, allowed=a_third)
    with pytest.raises(ValueError, match="only beams return scores"):
        writer.generate(draw(1, 4, vocab=50), return_scores=True)
