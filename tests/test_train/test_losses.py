"""Losses and schedules against their formulas and against sentence-transformers."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from miniformer.model.dropout import Dropout, dropout
from miniformer.train.answers import best_of, exact_match, f1, rouge_l
from miniformer.train.contrastive import (
    LOSSES,
    CoSENT,
    Embedded,
    InBatchNegatives,
    Matryoshka,
    Triplet,
    cosine_error,
    distillation,
    make_loss,
    margin_distillation,
)
from miniformer.train.lora import add_lora, load_adapter, merge_lora, merged, save_adapter
from miniformer.train.schedules import SCHEDULERS, make_optimizer, make_plan


def embedded(columns=3, batch=6, dim=16, **more):
    generator = torch.Generator().manual_seed(0)
    vectors = F.normalize(torch.randn(columns, batch, dim, generator=generator), dim=-1)
    return Embedded(vectors, torch.arange(columns * batch).view(columns, batch), **more)


def stub(vectors):
    """sentence-transformers' losses want a model; their arithmetic does not."""
    return [column.clone() for column in vectors]


@pytest.mark.parametrize("columns", [2, 3, 4])
def test_in_batch_negatives_are_those_of_sentence_transformers(columns):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    batch = embedded(columns)
    theirs = MultipleNegativesRankingLoss(model=nn.Identity(), scale=20.0)
    expected = theirs.compute_loss_from_embeddings(stub(batch.columns), None)
    torch.testing.assert_close(InBatchNegatives(0.05)(batch), expected)


def test_cosent_is_that_of_sentence_transformers():
    from sentence_transformers.sentence_transformer.losses import CoSENTLoss

    scores = torch.tensor([0.1, 0.9, 0.4, 0.4, 1.0, 0.0])
    batch = embedded(2, scores=scores)
    theirs = CoSENTLoss(model=nn.Identity(), scale=20.0)
    expected = theirs.compute_loss_from_embeddings(stub(batch.columns), scores)
    torch.testing.assert_close(CoSENT()(batch), expected)


def test_a_symmetric_loss_also_asks_the_positives():
    batch = embedded(2)
    similar = batch.columns[0] @ batch.columns[1].T / 0.05
    right = torch.arange(6)
    expected = (F.cross_entropy(similar, right) + F.cross_entropy(similar.T, right)) / 2
    torch.testing.assert_close(InBatchNegatives(symmetric=True)(batch), expected)


def test_equal_texts_are_no_negatives():
    batch = embedded(2)
    batch.texts[1, 3] = batch.texts[1, 0]  # the positives of rows 0 and 3 are one text
    scores = batch.columns[0] @ batch.columns[1].T / 0.05
    scores[0, 3] = scores[3, 0] = float("-inf")
    torch.testing.assert_close(InBatchNegatives()(batch), F.cross_entropy(scores, torch.arange(6)))


def test_candidates_near_the_positive_can_be_left_out():
    """One negative is the positive in other words."""
    batch = embedded(3)
    batch.columns[1] = F.normalize(batch.columns[0] + 0.3 * batch.columns[1], dim=-1)
    batch.columns[2, 0] = batch.columns[1, 0]
    with_it, without = (InBatchNegatives(margin=m)(batch) for m in (0.0, 0.95))
    assert float(with_it - without) == pytest.approx(math.log(2) / 6, rel=0.05)


def test_the_other_losses_are_their_formulas():
    scores = torch.linspace(-1, 1, 6)
    batch = embedded(3, scores=scores)
    query, positive, negative = batch.columns
    torch.testing.assert_close(
        cosine_error(batch), (F.cosine_similarity(query, positive) - scores).square().mean()
    )
    expected = F.triplet_margin_with_distance_loss(
        *(query, positive, negative),
        distance_function=lambda a, b: 1 - F.cosine_similarity(a, b),
        margin=0.2,
    )
    torch.testing.assert_close(Triplet()(batch), expected)
    batch.targets = batch.columns.flip(0)
    torch.testing.assert_close(
        distillation(batch),
        2 - 2 * F.cosine_similarity(batch.columns, batch.targets, dim=-1).mean(),
    )
    ours = F.cosine_similarity(query, positive) - F.cosine_similarity(query, negative)
    theirs = F.cosine_similarity(negative, positive) - F.cosine_similarity(negative, query)
    torch.testing.assert_close(margin_distillation(batch), F.mse_loss(ours, theirs))


def test_matryoshka_is_the_mean_over_renormalised_cuts():
    batch = embedded(2)
    expected = torch.stack(
        [
            InBatchNegatives()(Embedded(F.normalize(batch.columns[..., :dim], dim=-1), batch.texts))
            for dim in (16, 4)
        ]
    ).mean()
    torch.testing.assert_close(Matryoshka(InBatchNegatives(), (16, 4))(batch), expected)
    assert isinstance(make_loss(LOSSES["mnrl"], {"temperature": 0.1}, [8]), Matryoshka)
    assert make_loss(LOSSES["mnrl"], {"temperature": 0.1, "lr": 3}) == InBatchNegatives(0.1)


@pytest.mark.parametrize(
    ("loss", "more", "message"),
    [
        (CoSENT(), {}, "needs a score"),
        (cosine_error, {"scores": torch.full((6,), 5.0)}, "must be in -1 … 1.*found 5"),
        (distillation, {}, "needs a teacher"),
        (distillation, {"targets": torch.zeros(3, 6, 8)}, "have 8 components, the student's 16"),
    ],
)
def test_a_loss_says_what_it_lacks(loss, more, message):
    with pytest.raises(ValueError, match=message):
        loss(embedded(**more))


def rates(name, steps=20, warmup=4):
    module = nn.Linear(2, 2)
    optimizer = make_optimizer(module, 0.5, 0.1)
    schedule = SCHEDULERS[name](optimizer, make_plan(0.5, steps, warmup))
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_schedules_are_their_curves():
    assert rates("none") == [0.5] * 20
    assert rates("linear") == [0.125, 0.25, 0.375, *[0.5] * 17]
    cosine = rates("cosine")
    assert cosine[:4] == [0.125, 0.25, 0.375, 0.5]
    falling = [0.5 * (1 + math.cos(math.pi * n / 16)) / 2 for n in range(16)]
    assert cosine[4:] == pytest.approx(falling)
    onecycle = rates("onecycle")
    assert max(onecycle) == pytest.approx(0.5, rel=0.01)
    assert onecycle.index(max(onecycle)) in (3, 4)
    assert onecycle[-1] < 0.01


def test_a_warm_up_longer_than_the_run_is_shortened_with_a_word(caplog):
    assert make_plan(0.1, 50, 1000).warmup == 5
    assert "warmup_steps 1000 is not shorter than the run of 50 steps" in caplog.text


def test_norms_and_biases_do_not_decay():
    module = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    decayed, others = make_optimizer(module, 1e-3, 0.1).param_groups
    assert [p.shape for p in decayed["params"]] == [(4, 4)]
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    with pytest.raises(ValueError, match="every weight is frozen"):
        make_optimizer(module.requires_grad_(False), 1e-3, 0.1)


def test_lora_merges_exactly_and_its_file_is_small(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 32))
    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    x = torch.randn(5, 64)
    before = model(x)
    add_lora(model, 2, 8.0, "0|2")
    assert torch.equal(model(x), before)  # nothing changes before the first step
    learning = [name for name, p in model.named_parameters() if p.requires_grad]
    assert learning == ["0.down", "0.up", "2.down", "2.up"]
    with torch.no_grad():
        for layer in (model[0], model[2]):
            layer.up.normal_(0, 0.1)
    unmerged = model(x)
    with merged(model):
        assert isinstance(model[0], nn.Linear)
        torch.testing.assert_close(model(x), unmerged, atol=1e-6, rtol=1e-6)
    assert torch.equal(model(x), unmerged)
    save_adapter(model, tmp_path / "adapter.safetensors")
    merge_lora(model)
    fresh = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 32))
    fresh.load_state_dict(plain)
    load_adapter(fresh, tmp_path / "adapter.safetensors")
    assert torch.equal(fresh(x), unmerged)
    with pytest.raises(ValueError, match="the model has no 0 of 64 × 64"):
        load_adapter(nn.Sequential(nn.Linear(8, 8)), tmp_path / "adapter.safetensors")


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_its_share_and_keeps_the_mean(p):
    torch.manual_seed(0)
    x = torch.ones(400, 501, requires_grad=True)
    y = dropout(x, p)
    assert float((y == 0).float().mean()) == pytest.approx(p, abs=0.005)
    assert float(y.detach().mean()) == pytest.approx(1, abs=0.02)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(gradient, y)
    torch.manual_seed(0)
    assert torch.equal(dropout(x, p), y)
    rows = (y == 0).float()
    assert abs(float(torch.corrcoef(torch.stack([rows[:, 0], rows[:, 1]]))[0, 1])) < 0.2
    assert torch.equal(Dropout(p).eval()(x), x)


@pytest.mark.parametrize(
    ("answer", "gold", "exact", "overlap"),
    [
        ("The Eiffel Tower!", "eiffel tower", 1, 1),
        ("a tower in Paris", "the Eiffel Tower", 0, 2 * 1 / 5),
        ("", "", 1, 1),
        ("", "x", 0, 0),
        ("to be to", "to to go", 0, 2 * 2 / 6),
    ],
)
def test_answers_are_compared_as_squad_does(answer, gold, exact, overlap):
    assert exact_match(answer, gold) == exact
    assert f1(answer, gold) == pytest.approx(overlap)


def test_rouge_l_is_the_longest_common_subsequence():
    """The first two are of Lin's paper: police killed the gunman."""
    gold = "police killed the gunman"
    assert rouge_l("police kill the gunman", gold) == pytest.approx(0.75)
    assert rouge_l("the gunman kill police", gold) == pytest.approx(0.5)
    assert rouge_l("", gold) == rouge_l(gold, "") == 0
    assert best_of(rouge_l, "gunman", ["police", gold]) == pytest.approx(0.4)
