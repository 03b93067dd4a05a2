"""Passages as rows of tokens, encoded apart, and outputs that are places in them."""

import math
from copy import deepcopy
from dataclasses import replace
from itertools import product

import pytest
import torch

from miniformer.config.model_config import TransformerConfig
from miniformer.model.packing import pack
from miniformer.model.pointer import NOWHERE, Pointer, find_spans
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer

POINTS = {"head": "pointer", "decoder_start_token_id": NOWHERE}
TINY = TransformerConfig(
    vocab_size=50, d_model=32, n_heads=4, n_layers=1, d_ff=48, max_seq_len=64, dropout=0.0
)


def stacked(*sources, seed=0):
    """Ids and mask [B, k, L] of passages of these lengths."""
    count, length = max(map(len, sources)), max(n for lengths in sources for n in lengths)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(3, 50, (len(sources), 8, 16), generator=generator)
    real = torch.tensor([[*lengths, *[0] * (count - len(lengths))] for lengths in sources])
    mask = (torch.arange(length) < real[:, :, None]).long()
    return drawn[:, :count, :length] * mask, mask


@pytest.fixture(params=[{}, POINTS], ids=["linear", "pointer"])
def fused(request, config, lively):
    return lively(Seq2SeqTransformer(replace(config, **request.param)))


@pytest.fixture
def pointer(lively):
    return lively(Seq2SeqTransformer(replace(TINY, **POINTS)))


def test_a_memory_is_each_passage_encoded_alone(seq2seq, close):
    source, mask = stacked([9, 5, 7], [4])
    memory, real = seq2seq.encode(source, mask)
    assert torch.equal(real, mask.bool().view(2, 1, 1, 27))
    assert torch.equal(seq2seq.encode(source)[0], memory)  # padding is inferred
    for index, row in (mask.sum(2) > 0).nonzero().tolist():
        length = int(mask[index, row].sum())
        alone, _ = seq2seq.encode(source[index, row, :length][None])
        close(memory[index, row * 9 : row * 9 + length], alone[0])


def test_padding_and_absent_passages_change_no_logits(fused, close):
    source, _ = stacked([6, 6])
    longer, mask = stacked([6, 6], [9, 5, 2, 1])
    points = isinstance(fused.output_projection, Pointer)
    logits = fused(source, torch.tensor([[0, 9, 2]]))[0]
    padded = fused(longer, torch.tensor([[0, 12 if points else 9, 2]] * 2), mask)[0][:1]
    if points:
        padded = padded[..., torch.cat([torch.tensor([True]), mask[0].flatten() > 0])]
    close(padded, logits)


def test_one_passage_is_an_ordinary_source(fused, close):
    source, mask = (part[:, 0] for part in stacked([9], [4], [7]))
    target = torch.tensor([[0, 3, 5]]).expand(3, -1)
    how = {"max_new_tokens": 6, "eos_token_id": ()}
    for own, apart in ((None, None), (mask, mask[:, None])):
        close(fused(source[:, None], target, apart)[0], fused(source, target, own)[0])
        written = fused.generate(source[:, None], apart, **how)
        assert torch.equal(written, fused.generate(source, own, **how))


def test_a_pointer_scores_places_and_reads_their_states(lively, close):
    torch.manual_seed(0)
    head, memory, states = lively(Pointer(32)), torch.randn(2, 7, 32), torch.randn(4, 2, 32)
    mask = torch.tensor([[1, 0, 1, 1, 0, 1, 1], [0, 1, 1, 0, 0, 1, 0]]).bool()
    logits = head(states, memory, mask[:, None, None])
    outputs = torch.tensor([[0, 1], [7, 3], [4, 0], [2, 2]])
    for row in range(4):  # two of them for each memory
        places = torch.cat([head.nowhere.weight, memory[row // 2]])
        there = torch.cat([torch.tensor([True]), mask[row // 2]])
        expected = head.query(states[row]) @ head.key(places).T / math.sqrt(32)
        close(head(states, memory, None)[row], expected)
        close(logits[row][:, there], expected[:, there])
        assert logits[row][:, ~there].max() < expected.min() - 1e30
        assert (logits[row].softmax(-1)[:, ~there] == 0).all()
        assert torch.equal(head.embed(outputs, memory)[row], places[outputs[row]])


def test_gradients_reach_all_that_points_and_all_that_reads(pointer):
    source, mask = stacked([9, 5], [4])
    logits = pointer(source, torch.tensor([[0, 4], [0, 0]]), mask)[0]
    torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor([4, 6, 0, 3])).backward()
    head = pointer.output_projection
    reached = [head.nowhere, head.query, head.key, pointer.token_embedding]
    reached += [m for m in pointer.encoder.layers.modules() if isinstance(m, torch.nn.Linear)]
    assert all(module.weight.grad.abs().sum() > 0 for module in reached)


def every_span(model, source, mask, quotable, longest):
    """The probability of each span of one source, and of nowhere, by whole forwards."""
    length, places = source.size(1), quotable.flatten().nonzero()[:, 0].tolist()
    pairs = [
        (first, last)
        for first, last in product(places, repeat=2)
        if first <= last < first + longest and first // length == last // length
    ]
    written = torch.tensor([[NOWHERE, 1 + first] for first, _ in pairs])
    many = (part[None].expand(len(pairs), -1, -1) for part in (source, mask))
    found = model(next(many), written, next(many))[0].softmax(-1)
    chances = found.gather(2, 1 + torch.tensor(pairs)[:, :, None]).prod(1)[:, 0].tolist()
    keys = [(*divmod(first, length), last % length) for first, last in pairs]
    return dict(zip(keys, chances, strict=True)), float(found[0, 0, NOWHERE])


@pytest.mark.parametrize(
    ("seed", "longest", "sources"),
    [
        (0, 30, ([9], [4])),
        (1, 1, ([9, 5], [4])),
        (2, 3, ([9, 5, 7], [4, 8])),
        (3, 5, ([3], [6, 3, 7])),
        (4, 4, ([7, 7, 7],)),
        (5, 2, ([16, 9, 16, 16],)),  # more places than words in the vocabulary
    ],
)
@torch.no_grad()
def test_spans_are_the_best_of_all_spans(lively, seed, longest, sources):
    model = lively(Seq2SeqTransformer(replace(TINY, **POINTS)), seed)
    source, mask = stacked(*sources, seed=seed)
    torch.manual_seed(seed)
    quotable = mask.bool() & (torch.rand(mask.shape) > 0.2)
    quotable[:, 0, 0] = True
    places = mask[0].numel()
    for width in (1 + places, places * longest):  # every first place is held; every span is
        found = find_spans(model, source, mask, quotable, longest=longest, width=width)
        for spans, *row in zip(found, source, mask, quotable, strict=True):
            expected, nowhere = every_span(model, *row, longest)
            assert min(len(expected), width - 1) <= len(spans) <= len(expected)
            best = sorted(expected.values(), reverse=True)[: len(spans)]
            assert [span.probability for span in spans] == pytest.approx(best, abs=1e-6)
            assert sum(best) + nowhere <= 1 + 1e-5
            for span in spans:
                right = expected.pop((span.row, span.first, span.last))  # once, and quotable
                assert span.probability == pytest.approx(right, abs=1e-6)


def test_spans_of_a_batch_are_those_of_each_alone(pointer):
    source, mask = stacked([9, 5, 7], [4], [6, 6])
    together = find_spans(pointer, source, mask, mask.bool())
    for index, (count, length) in enumerate([(3, 9), (1, 4), (2, 6)]):
        ids, real = (part[index : index + 1, :count, :length] for part in (source, mask))
        (alone,) = find_spans(pointer, ids, real, real.bool())
        assert len(alone) == len(together[index]) > 1
        for one, other in zip(together[index], alone, strict=True):
            assert replace(one, probability=0) == replace(other, probability=0)
            assert one.probability == pytest.approx(other.probability, abs=1e-6)


def test_where_nothing_may_be_quoted_there_is_no_span(pointer):
    source, mask = stacked([5, 5], [5, 5])
    quotable = torch.zeros(2, 2, 5, dtype=torch.bool)
    quotable[1, 1, 2] = True
    nothing, (only,) = find_spans(pointer, source, mask, quotable)
    assert nothing == []
    assert (only.row, only.first, only.last) == (1, 2, 2)


def test_a_mask_may_be_a_slice(pointer):
    source, mask = stacked([6, 4], [9])
    ids, real, start = source[..., :6], mask.bool()[..., :6], torch.zeros(2, 1).long()
    assert torch.equal(pointer(ids, start, real)[0], pointer(ids, start, real.clone())[0])


def test_a_folder_and_a_packed_model_give_the_same_logits(pointer, tmp_path):
    source, mask = stacked([9, 5], [4])
    read = (source, torch.tensor([[0, 4], [0, 0]]), mask)
    logits = pointer(*read)[0]
    pointer.save_pretrained(tmp_path)
    assert torch.equal(Seq2SeqTransformer.from_pretrained(tmp_path)(*read)[0], logits)
    packed = pack(deepcopy(pointer), "float32")
    torch.testing.assert_close(packed(*read)[0], logits, atol=1e-4, rtol=0)
