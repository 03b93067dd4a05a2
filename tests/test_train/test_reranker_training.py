"""Rerankers under training: what they learn, from which negatives, and how a run is taken up."""

import json
import os
import random
import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertModel

from miniformer.minilm.cross_encoder import CrossEncoder
from miniformer.minilm.pair_tokenizer import PairTokenizer
from miniformer.train import RerankerConfig, train_reranker
from miniformer.train import reranker as reranker_training
from miniformer.train.pairs import Example
from miniformer.train.ranking import RANKING_LOSSES, reciprocal_rank
from miniformer.train.records import read_records
from miniformer.train.reranker import with_mined
from miniformer.train.reranker_data import (
    RankingCollate,
    RerankerData,
    fill_negatives,
    read_questions,
)
from miniformer.train.reranker_module import RerankerLitModule

# Which passage answers which question.
ANSWERS = {"red": "rose", "blue": "sky", "green": "grass", "white": "snow"}


def toy(count, seed):
    """Questions of a word; every passage is as often one that answers as any other."""
    chance = random.Random(seed)
    rows = []
    for _ in range(count):
        asked = chance.choice(list(ANSWERS))
        others = [answer for word, answer in ANSWERS.items() if word != asked]
        rows.append({"query": asked, "positive": ANSWERS[asked], "negatives": others})
    return rows


@pytest.fixture(scope="module")
def keen_encoder(small_encoder, tmp_path_factory):
    """The small encoder with weights so large that words differ from the first step on."""
    folder = tmp_path_factory.mktemp("keen")
    shutil.copytree(small_encoder, folder, dirs_exist_ok=True)
    torch.manual_seed(0)
    shape = BertConfig.from_pretrained(small_encoder, initializer_range=0.2)
    BertModel(shape).save_pretrained(folder)
    return folder


@pytest.fixture
def config(small_encoder, write, tmp_path):
    """A configuration of the small encoder and the toy."""
    train, val = write("train.jsonl", toy(24, 0)), write("val.jsonl", toy(16, 1))

    def make(**changes):
        settings = {
            "train_path": [str(train)],
            "val_path": str(val),
            "base": str(small_encoder),
            "output": str(tmp_path / "out"),
            "negatives": 3,
            "batch_size": 8,
            "warmup_steps": 2,
            "lr": 3e-3,
            "dropout": 0.0,
            "gpus": 0,
            "precision": "32",
        }
        return RerankerConfig(**(settings | changes))

    return make


@pytest.mark.parametrize("loss", RANKING_LOSSES)
def test_it_learns_which_passage_answers(config, keen_encoder, write, tmp_path, loss):
    many = write("many.jsonl", toy(120, 2))
    settings = {"train_path": [str(many)], "base": str(keen_encoder), "max_epochs": 3}
    results = train_reranker(config(loss=loss, **settings))
    assert results["val_mrr"] == 1  # 0.52 by chance
    model = CrossEncoder.from_pretrained(str(tmp_path / "out"))
    for question, answer in ANSWERS.items():
        passages = list(ANSWERS.values())
        scores = model.predict([(question, passage) for passage in passages])
        assert passages[scores.argmax()] == answer
    epochs = json.loads((tmp_path / "out/training/results.json").read_text())["epochs"]
    assert results["val_loss"] == min(epoch["val_loss"] for epoch in epochs.values())


def test_losses_are_those_of_their_papers():
    scores = torch.tensor([[2.0, 1.0, -1.0], [0.5, 3.0, 0.0]])
    lce = -np.mean([row[0] - np.log(np.exp(row).sum()) for row in scores.double().numpy()])
    assert RANKING_LOSSES["lce"](scores).item() == pytest.approx(lce, abs=1e-6)
    sigmoid = 1 / (1 + np.exp(-scores.double().numpy()))
    terms = np.concatenate([-2 * np.log(sigmoid[:, :1]), -np.log(1 - sigmoid[:, 1:])], axis=1)
    assert RANKING_LOSSES["bce"](scores).item() == pytest.approx(terms.mean(), abs=1e-6)
    assert reciprocal_rank(scores).item() == pytest.approx((1 + 1 / 2) / 2)
    assert reciprocal_rank(torch.zeros(2, 4)).item() == 0.25


def batch_of(config, count=8):
    data = RerankerData(config)
    data.setup("fit")
    return data.examples[:count], RankingCollate(PairTokenizer(config.base, 64))(
        data.examples[:count]
    )


def gradients(config, batch):
    module = RerankerLitModule(config)
    torch.manual_seed(3)
    loss = module.loss(module.score(batch))
    loss.backward()
    return loss, {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


def test_chunks_and_checkpoints_change_nothing(config, write, monkeypatch):
    """Against pairs that are scored one by one, the token table's gradient too."""
    monkeypatch.setattr("miniformer.train.pairs.FEW_TOKENS", 8)
    monkeypatch.setattr("miniformer.train.pairs.MANY_TOKENS", 128)
    words = [" ".join(f"word {n} of" for n in range(count)) for count in (1, 3, 5, 2, 9, 4, 7, 6)]
    rows = write("long.jsonl", [{"query": f"q{n}", "positive": t} for n, t in enumerate(words)])
    config = partial(config, train_path=[str(rows)], val_path="")
    examples, batch = batch_of(config())
    assert len({ids.size(1) for ids, _, _ in batch.chunks}) > 2
    loss, found = gradients(config(), batch)
    module = RerankerLitModule(config())
    tokenizer = PairTokenizer(str(module.folder), 64)
    scores = []
    for example in examples:
        for passage in example.texts[1:]:
            (row,) = tokenizer.rows([(example.texts[0], passage)])
            ids = torch.tensor([row.ids])
            types = torch.tensor([[0] * row.first + [1] * (len(row.ids) - row.first)])
            scores.append(module.model(ids, torch.ones_like(ids), types))
    plain = nn.functional.cross_entropy(
        torch.cat(scores).view(8, 4), torch.zeros(8, dtype=torch.int64)
    )
    plain.backward()
    torch.testing.assert_close(loss, plain, atol=1e-5, rtol=1e-5)
    names = {n for n, p in module.named_parameters() if p.grad is not None}
    assert found.keys() == names
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-3)
    dropped = {"dropout": 0.2, "gradient_checkpointing": False}
    whole, wanted = gradients(config(**dropped), batch)
    again, twice = gradients(config(**{**dropped, "gradient_checkpointing": True}), batch)
    assert whole == again != loss
    for name, gradient in wanted.items():
        torch.testing.assert_close(twice[name], gradient, atol=1e-6, rtol=0)


class Stop(Callback):
    """Ask the process to stop, as Ctrl-C does, before a batch."""

    def __init__(self, epoch, batch):
        self.place = (epoch, batch)

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.place:
            os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_run_goes_on_to_the_same_bits(config, write, tmp_path, monkeypatch):
    """With negatives of chance, and dropout."""
    rows = write("pairs.jsonl", [{"query": f"q{n}", "positive": f"p{n}"} for n in range(24)])
    lacking = {
        "negatives": 2,
        "train_path": [str(rows)],
        "val_path": "",
        "dropout": 0.1,
        "max_epochs": 2,
    }
    train_reranker(config(output=str(tmp_path / "whole"), **lacking))
    parts = config(output=str(tmp_path / "parts"), **lacking)
    fit = reranker_training.fit

    def stopped(run, module, data, export, **more):
        return fit(run, module, data, export, [Stop(1, 2)], **more)

    with monkeypatch.context() as patch:
        patch.setattr(reranker_training, "fit", stopped)
        with pytest.raises(KeyboardInterrupt, match="resume"):
            train_reranker(parts)
    with pytest.raises(FileExistsError, match="holds a model"):
        train_reranker(parts)
    parts.resume = "last"
    train_reranker(parts)
    whole, taken_up = (
        load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts")
    )
    assert whole.keys() == taken_up.keys()
    assert all(torch.equal(whole[name], taken_up[name]) for name in whole)


def test_a_reranker_is_trained_on(config, tmp_path):
    train_reranker(config())
    first = load_file(tmp_path / "out/model.safetensors")
    further = config(base=str(tmp_path / "out"), output=str(tmp_path / "more"), lr=1e-12)
    train_reranker(further)
    second = load_file(tmp_path / "more/model.safetensors")
    for name, tensor in first.items():  # its head is not drawn anew
        torch.testing.assert_close(second[name], tensor, atol=1e-6, rtol=0)


def test_low_rank_updates_and_the_head_learn_and_are_merged(config, tmp_path, small_encoder):
    train_reranker(config(lora_rank=4))
    base = load_file(small_encoder / "model.safetensors")
    out = load_file(tmp_path / "out/model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], out[f"bert.{name}"])}
    assert changed == {
        f"encoder.layer.{n}.attention.self.{part}.weight"
        for n in (0, 1)
        for part in ("query", "value")
    }
    assert CrossEncoder.from_pretrained(str(tmp_path / "out")).predict([("a", "b")]).shape == (1,)
    assert out["classifier.bias"] != 0


def records(write, *rows):
    return read_records(write("rows.jsonl", rows))


def test_records_are_questions_with_passages(write):
    rows = records(
        write,
        {"query": "q", "positive": "p", "negatives": ["a", "b", "c"]},
        {"question": "w", "context": "c", "answers": ["x"]},
        {"anchor": "s", "positives": ["p1", "p2"], "negative": "n"},
        {"query": "l", "positive": ["p3"]},
    )
    assert [example.texts for example in read_questions(rows, 2)] == [
        ("q", "p", "a", "b"),
        ("w", "c"),
        ("s", "p1", "n"),
        ("s", "p2", "n"),
        ("l", "p3"),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"positive": "p"}, "line 1: no field 'query' or 'anchor' or 'question'; it has positive"),
        ({"query": "q"}, "line 1: no field 'positive' or 'passage' or 'context' or 'positives'"),
        ({"query": " ", "positive": "p"}, "line 1: 'query' must be a text"),
        ({"query": "q", "positive": 3}, "line 1: 'positive' must be a text or a list of texts"),
        ({"query": "q", "positive": []}, "line 1: 'positive' must be a text or a list of texts"),
        ({"query": "q", "positive": ["a", ""]}, "line 1: 'positive' holds something that is no te"),
        ({"query": "q", "positive": "p", "negatives": [1]}, "line 1: 'negatives' must be a list"),
    ],
)
def test_records_that_lack_something_are_refused_by_line(row, message, write):
    with pytest.raises(ValueError, match=message):
        read_questions(records(write, row), 2)


def test_lacking_negatives_are_drawn_from_other_questions():
    examples = [Example((f"q{n // 2}", f"p{n}", *["own"] * (n == 3))) for n in range(12)]
    filled = fill_negatives(examples, 4, seed=5)
    assert filled == fill_negatives(examples, 4, seed=5) != fill_negatives(examples, 4, seed=6)
    for number, (example, full) in enumerate(zip(examples, filled, strict=True)):
        assert full.texts[: len(example.texts)] == example.texts
        assert len(set(full.texts[2:])) == 4
        own = {f"p{number // 2 * 2}", f"p{number // 2 * 2 + 1}"}
        assert own.isdisjoint(full.texts[2:])
    assert len(fill_negatives(examples, 10, seed=0)[0].texts) == 12  # all that there are
    with pytest.raises(ValueError, match="11 negatives are asked for, but there are only 12 pass"):
        fill_negatives(examples, 11, seed=0)


def test_negatives_are_mined_once_by_the_encoder_that_is_named(config, write):
    rows = write("few.jsonl", [{"query": f"q{n}", "positive": f"p{n}"} for n in range(8)])
    calls, seen = [], []

    def mine(folder, examples, count):
        calls.append((folder, len(examples), count))
        return [Example((*e.texts[:2], "x", "y", "z")) for e in examples]

    def loss(scores):
        seen.append(scores.shape)
        return RANKING_LOSSES["lce"](scores)

    settings = {"train_path": [str(rows)], "val_path": "", "miner": "an/encoder"}
    train_reranker(config(**settings, max_epochs=2), mine=mine, loss=loss)
    assert calls == [(Path("an/encoder"), 8, 3)]
    assert set(seen) == {(8, 4)}


def test_mined_negatives_stand_behind_those_of_the_file():
    own = [Example(("q", "p", "a")), Example(("r", "s"))]
    mined = [Example(("q", "p", "b", "a", "c")), Example(("r", "s", "d", "e", "f"))]
    assert [example.texts for example in with_mined(own, mined, 2)] == [
        ("q", "p", "a", "b"),
        ("r", "s", "d", "e"),
    ]


def test_the_verb_trains_a_folder_that_opens(config, small_encoder, tmp_path):
    from click.testing import CliRunner

    from retrieval.cli.train import train

    rows = [{"question": f"what is {n}", "context": f"it is {n}"} for n in range(12)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    out = tmp_path / "reranker"
    arguments = ["reranker", tmp_path / "rows.parquet", "-o", out, "--base", small_encoder]
    options = ["--miner", small_encoder, "--negatives", "2", "--gpus", "0", "--precision", "32"]
    called = CliRunner().invoke(train, [str(a) for a in [*arguments, *options, "--json"]])
    assert called.exit_code == 0, called.output
    assert json.loads(called.stdout)["model"] == str(out)
    assert np.isfinite(CrossEncoder.from_pretrained(str(out)).predict([("a", "b")])).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "mse"}, "unknown loss 'mse'; known: lce, bce"),
        ({"negatives": 0}, "negatives must be a number of at least 1: 0"),
        ({"max_length": 4}, "max_length must be a number of at least 5: 4"),
        ({"dropout": 1.0}, r"dropout must be in \[0, 1\): 1.0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message, config):
    with pytest.raises(ValueError, match=f"^{message}$"):
        config(**changes)
