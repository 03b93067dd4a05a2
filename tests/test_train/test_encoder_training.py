"""Encoders under training: what comes out, how a run is taken up, what stops it."""

import json
import os
import signal

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from safetensors.torch import load_file
from torch import nn

from miniformer.minilm.tokenizer import MiniLMTokenizer
from miniformer.train import encoder as encoder_training
from miniformer.train.checkpoints import WholeFiles
from miniformer.train.contrastive import LOSSES, InBatchNegatives, LossKind
from miniformer.train.encoder import train_encoder
from miniformer.train.encoder_data import EncoderData
from miniformer.train.encoder_module import EncoderLitModule, chosen_layers
from miniformer.train.pairs import Example, PairCollate, cut_chunks, without_duplicates

QUERY_VALUE = ("query", "value")


def batch_of(config):
    data = EncoderData(config)
    return PairCollate(MiniLMTokenizer(config.base, 64))(data.examples[: config.batch_size])


def gradients(config, batch, *, training):
    """Of every parameter, under one state of chance."""
    module = EncoderLitModule(config)
    module.train(training)
    torch.manual_seed(3)
    loss = module.loss(module.embed(batch))
    loss.backward()
    return loss, {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("flag", [{"cached": True}, {"gradient_checkpointing": True}])
def test_cached_gradients_are_those_of_the_whole_batch_under_dropout(
    encoder_config, monkeypatch, flag
):
    monkeypatch.setattr("miniformer.train.pairs.FEW_TOKENS", 16)
    config = encoder_config(loss="mnrl", batch_size=16)
    batch = batch_of(config)
    assert len(batch.chunks) > 2
    whole, expected = gradients(config, batch, training=True)
    cached, found = gradients(encoder_config(loss="mnrl", **flag), batch, training=True)
    still, _ = gradients(config, batch, training=False)
    assert whole == cached != still
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=0)


def test_chunks_change_nothing_but_the_padding(encoder_config, monkeypatch):
    """Against one padded batch a column, without dropout; the token table's gradient too."""
    config = encoder_config(loss="mnrl", batch_size=16)
    monkeypatch.setattr("miniformer.train.pairs.FEW_TOKENS", 16)
    loss, found = gradients(config, batch_of(config), training=False)
    module = EncoderLitModule(config).eval()
    tokenizer = MiniLMTokenizer(config.base, 64)
    examples = EncoderData(config).examples[:16]
    columns = [
        tokenizer.encode(list(texts)) for texts in zip(*(e.texts for e in examples), strict=True)
    ]
    left, right = (module.model(c["input_ids"], c["attention_mask"]) for c in columns)
    plain = nn.functional.cross_entropy(left @ right.T / 0.05, torch.arange(16))
    plain.backward()
    torch.testing.assert_close(loss, plain, atol=1e-5, rtol=1e-5)
    for name, parameter in module.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-3)


def test_a_chunk_is_of_one_width_unless_it_is_small():
    lengths = [5] * 40 + [12] * 3 + [60] * 100
    chunks = cut_chunks(lengths, range(len(lengths)))
    assert [lengths[i] for chunk in chunks for i in chunk] == lengths
    assert [len(chunk) for chunk in chunks] == [40, 64, 39]  # 3 × 16 tokens go with the wide ones


def test_no_text_stands_twice_in_a_batch():
    examples = [Example((f"q{n}", f"p{n // 5}")) for n in range(40)]
    order = without_duplicates(range(40), examples, 4)
    assert sorted(order) == list(range(40))
    whole = [order[begin : begin + 4] for begin in range(0, 28, 4)]
    for batch in whole:
        texts = [text for index in batch for text in examples[index].texts]
        assert len(set(texts)) == len(texts)


def weights(folder):
    return load_file(folder / "model.safetensors")


def same(left, right):
    return all(torch.equal(left[name], right[name]) for name in left.keys() | right.keys())


def test_the_folder_is_opened_by_sentence_transformers_and_by_retrieval(
    encoder_config, tmp_path, lines
):
    from sentence_transformers import SentenceTransformer

    from retrieval import Encoder

    results = train_encoder(encoder_config(max_epochs=3, val_path=encoder_config().train_path[0]))
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} >= {"config.json", "modules.json", "1_Pooling"}
    kept = {str(p.relative_to(out / "training")) for p in (out / "training").rglob("*.*")}
    assert kept >= {"checkpoints/best.ckpt", "checkpoints/last.ckpt", "curves.png", "results.json"}
    epochs = json.loads((out / "training/results.json").read_text())["epochs"]
    losses = [epochs[str(n)]["val_loss"] for n in range(3)]
    assert losses[2] < losses[0] < 2.08  # of chance, among 8
    assert results["val_loss"] == pytest.approx(min(losses))
    texts = [record["text"] for record in lines("val.jsonl")[:10]]
    theirs = SentenceTransformer(str(out), device="cpu").encode(texts)
    ours = Encoder(str(out), dtype="float32", device="cpu").encode(texts)
    assert np.abs(theirs - ours).max() <= 1e-5


class Stop(Callback):
    """Ask the process to stop, as Ctrl-C does, before a batch."""

    def __init__(self, epoch, batch, number=signal.SIGINT):
        self.place, self.number = (epoch, batch), number

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if (trainer.current_epoch, batch_idx) == self.place:
            os.kill(os.getpid(), self.number)


def interrupted(config, monkeypatch, *place):
    """Run until the callback stops it."""
    fit = encoder_training.fit

    def stopped(run, module, data, export, callbacks=(), **more):
        return fit(run, module, data, export, [*callbacks, Stop(*place)], **more)

    with monkeypatch.context() as patch:
        patch.setattr(encoder_training, "fit", stopped)
        with pytest.raises(KeyboardInterrupt, match="resume"):
            train_encoder(config)


@pytest.mark.parametrize("place", [(2, 0), (1, 3)], ids=["between epochs", "within one"])
def test_an_interrupted_run_goes_on_to_the_same_bits(encoder_config, tmp_path, monkeypatch, place):
    train_encoder(encoder_config(max_epochs=4, output=str(tmp_path / "whole")))
    parts = encoder_config(max_epochs=4, output=str(tmp_path / "parts"))
    interrupted(parts, monkeypatch, *place)
    parts.resume = "last"
    train_encoder(parts)
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


def test_two_and_two_epochs_are_four(encoder_config, tmp_path):
    more = {"scheduler": "linear", "accumulate_grad_batches": 2}
    train_encoder(encoder_config(max_epochs=4, output=str(tmp_path / "four"), **more))
    halves = {"output": str(tmp_path / "halves"), **more}
    train_encoder(encoder_config(max_epochs=2, **halves))
    half = weights(tmp_path / "halves")
    train_encoder(encoder_config(max_epochs=4, resume="last", **halves))
    assert same(weights(tmp_path / "four"), weights(tmp_path / "halves"))
    assert not same(half, weights(tmp_path / "halves"))


def test_a_loss_that_is_no_number_stops_and_keeps_the_checkpoint(encoder_config, tmp_path):
    calls = []

    def loss(batch):
        calls.append(1)
        return InBatchNegatives()(batch) * (float("nan") if len(calls) == 9 else 1.0)

    with pytest.raises(FloatingPointError, match=r"step 9 \(epoch 1, batch 2\)"):
        train_encoder(encoder_config(max_epochs=3), loss=loss)
    kept = WholeFiles().load_checkpoint(tmp_path / "out/training/checkpoints/last.ckpt")
    assert all(t.isfinite().all() for t in kept["state_dict"].values())
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "out").values())


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"step": 1}, path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("miniformer.train.checkpoints.os.fsync", full)
    with pytest.raises(OSError, match=r"No space left.*the checkpoint before it stays"):
        WholeFiles().save_checkpoint({"step": 2}, path)
    assert WholeFiles().load_checkpoint(path) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


class Evil:
    def __reduce__(self):
        return os.system, ("touch /tmp/owned",)


def test_a_strangers_checkpoint_runs_no_code(tmp_path, encoder_config):
    path = tmp_path / "evil.ckpt"
    torch.save({"state_dict": {}, "x": Evil()}, path)
    with pytest.raises(ValueError, match="not a whole checkpoint of weights and plain data"):
        train_encoder(encoder_config(resume=str(path)))
    assert not os.path.exists("/tmp/owned")


def test_evaluation_decides_which_epoch_is_kept(encoder_config, tmp_path):
    """The metric falls after the second epoch; two more epochs pass before the run stops."""
    seen = []

    def evaluate(folder):
        assert (folder / "modules.json").is_file()
        seen.append(weights(folder))
        return {"ndcg@10": [0.1, 0.3, 0.5, 0.4, 0.2, 0.1][len(seen) - 1]}

    config = encoder_config(max_epochs=9, early_stopping_patience=2)
    results = train_encoder(config, evaluate=evaluate)
    assert len(seen) == 5
    assert (results["before_ndcg@10"], results["ndcg@10"], results["epoch"]) == (0.1, 0.5, 1)
    assert same(weights(tmp_path / "out"), seen[2])


def test_negatives_are_mined_before_every_epoch(encoder_config):
    asked = []

    def mine(folder, examples, count):
        asked.append(count)
        other = [*examples[1:], examples[0]]
        return [Example((*e.texts[:2], o.texts[1])) for e, o in zip(examples, other, strict=True)]

    train_encoder(encoder_config(max_epochs=2, hard_negatives=1), mine=mine)
    assert asked == [1, 1]


def test_a_loss_of_ones_own_is_a_row(encoder_config, monkeypatch):
    monkeypatch.setitem(
        LOSSES, "far", LossKind(lambda: lambda batch: (batch.columns[0] * batch.columns[1]).mean())
    )
    results = train_encoder(encoder_config(loss="far", max_epochs=2))
    assert results["train_loss"] < 0.5


def test_a_student_of_fewer_layers_learns_from_its_teacher(encoder_config, write, lines, tmp_path):
    texts = write("texts.jsonl", lines("train.jsonl")[:48])
    config = encoder_config(train_path=[str(texts)], layers=1, max_epochs=4, lr=3e-3)
    config.teacher = config.base
    results = train_encoder(config, mine=lambda *a: pytest.fail("texts have no negatives"))
    assert json.loads((tmp_path / "out/config.json").read_text())["num_hidden_layers"] == 1
    epochs = json.loads((tmp_path / "out/training/results.json").read_text())["epochs"]
    assert results["train_loss"] < epochs["0"]["train_loss"]


@pytest.mark.parametrize(
    ("asked", "layers"),
    [([3], [1, 3, 5]), ([6], [0, 1, 2, 3, 4, 5]), ([1], [5]), ([0, 4, 5], [0, 4, 5])],
)
def test_layers_stay_evenly_or_as_listed(asked, layers):
    assert chosen_layers(6, asked) == layers


def test_a_student_has_the_layers_that_are_listed(encoder_config):
    whole = EncoderLitModule(encoder_config(loss="distill")).model
    second = EncoderLitModule(encoder_config(loss="distill", layers="1,0")).model
    for ours, theirs in zip(second.model.encoder.layer, (1, 0), strict=True):
        kept = whole.model.encoder.layer[theirs].state_dict()
        assert all(torch.equal(kept[name], tensor) for name, tensor in ours.state_dict().items())


@pytest.mark.parametrize("changes", [{}, {"layers": "1"}])
def test_saved_weights_lie_between_those_of_the_base_and_the_trained(
    encoder_config, tmp_path, changes
):
    saved = {}
    for share in (0.0, 0.25):
        output = tmp_path / f"out{share}"
        train_encoder(encoder_config(base_share=share, output=str(output), lr=1e-2, **changes))
        saved[share] = load_file(output / "model.safetensors")
    base = EncoderLitModule(encoder_config(loss="mnrl", **changes)).model.model.state_dict()
    assert saved[0.0].keys() == saved[0.25].keys() == base.keys()
    for name, tensor in saved[0.25].items():
        wanted = 0.25 * base[name] + 0.75 * saved[0.0][name]
        torch.testing.assert_close(tensor, wanted, rtol=0, atol=1e-6)
    assert any(not torch.equal(saved[0.0][name], base[name]) for name in base)


def test_frozen_embeddings_get_no_gradient(encoder_config):
    config = encoder_config(loss="mnrl", freeze_embeddings=True)
    _, found = gradients(config, batch_of(config), training=True)
    assert found
    assert not any("embeddings" in name for name in found)


@pytest.mark.parametrize(
    ("records", "changes", "message"),
    [
        (
            [{"query": "a", "positive": "b"}, {"query": "c"}],
            {},
            "line 2: no field 'positive'.*query",
        ),
        ([{"a": "b"}], {}, "line 1: expected query and positive.*found a"),
        ([{"sentence1": "a", "sentence2": "b", "score": "x"}], {}, "'score' must be a number"),
        ([{"query": "a", "positive": "b"}], {"loss": "cosent"}, "the loss needs a score"),
        ([{"query": "a", "positive": "b"}], {"base_share": 1.0}, "base_share must be in"),
        ([{"query": "a", "positive": "b"}], {"base_share": 0.5, "lora_rank": 2}, "0 with LoRA"),
        ([{"query": "a", "positive": "b"}], {"loss": "triplet"}, "a negative is missing"),
        ([{"query": "a", "positive": "b", "negatives": 3}], {}, "'negatives' must be a list"),
        ([{"text": "a"}, {"query": "a", "positive": "b"}], {"loss": "distill"}, "other fields"),
        (
            [{"query": "a", "positive": "b"}],
            {"loss": "nosuch"},
            "unknown loss 'nosuch'; known: mnrl",
        ),
        ([{"query": "a", "positive": "b"}], {"layers": 7}, "layers 7 is asked for; the base has 1"),
        ([{"query": "a", "positive": "b"}], {"layers": "0,2"}, "layer 2 is asked for.*0 … 1"),
        ([{"query": "a", "positive": "b"}], {"layers": "a"}, "layers must be numbers with commas"),
        ([{"query": "a", "positive": "b"}], {"logger": "nosuch"}, "unknown logger 'nosuch'"),
        (
            [{"query": "a", "positive": "b"}],
            {"lora_targets": "nosuch", "lora_rank": 2},
            "no linear",
        ),
        ([{"query": "a", "positive": "b"}], {"resume": "last"}, "no checkpoint to go on from"),
        ([{"query": "a", "positive": "b"}], {"strategy": "nosuch"}, "strategy.*nosuch"),
        ([], {}, "empty, there is nothing to train on"),
    ],
)
def test_bad_input_is_one_clear_error(encoder_config, write, records, changes, message, tmp_path):
    path = write("bad.jsonl", records)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        train_encoder(encoder_config(train_path=[str(path)], **changes))
    assert not (tmp_path / "out").exists()


def test_a_model_is_not_overwritten(encoder_config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    with pytest.raises(FileExistsError, match="holds a model"):
        train_encoder(encoder_config())


def test_a_metric_that_nobody_measures_is_named(encoder_config):
    with pytest.raises(ValueError, match="'val_lost' is not measured; there are train_loss"):
        train_encoder(encoder_config(checkpoint_metric="val_lost"))


def test_a_checkpoint_of_another_model_is_refused(encoder_config, tmp_path):
    train_encoder(encoder_config())
    last = tmp_path / "out" / "training" / "checkpoints" / "last.ckpt"
    other = encoder_config(layers=1, resume=str(last), output=str(tmp_path / "other"))
    with pytest.raises(ValueError, match=r"last.ckpt is of another model.*layer.1"):
        train_encoder(other)


def test_low_rank_updates_come_out_merged_with_their_file_beside(encoder_config, tmp_path):
    """The folder holds plain weights, which differ from the base's in the named layers alone."""
    config = encoder_config(lora_rank=4, max_epochs=2, lr=1e-2)
    train_encoder(config)
    out, base = weights(tmp_path / "out"), load_file(f"{config.base}/model.safetensors")
    changed = {name for name in out if name in base and not torch.equal(out[name], base[name])}
    assert changed == {
        f"encoder.layer.{n}.attention.self.{part}.weight" for n in (0, 1) for part in QUERY_VALUE
    }
    adapter = tmp_path / "out" / "adapter.safetensors"
    assert adapter.stat().st_size < 0.02 * (tmp_path / "out" / "model.safetensors").stat().st_size


def test_negatives_of_the_file_are_not_mined(encoder_config, write):
    rows = [{"query": f"q {n}", "positive": f"p {n}", "negatives": [f"n {n}"]} for n in range(8)]
    path = str(write("hard.jsonl", rows))

    def mine(folder, examples, count):
        raise AssertionError("the file has them")

    train_encoder(encoder_config(train_path=[path], hard_negatives=1), mine=mine)
