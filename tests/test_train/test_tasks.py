"""Every task learns something real, and its folder is used as the README says."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer

from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer
from miniformer.train.collate import collate
from miniformer.train.datamodule import JSONLinesDataset, MiniFormerDataModule
from miniformer.train.module import MiniFormerLitModule
from miniformer.train.tasks import IGNORED, TASKS, TaskBatch, hide
from miniformer.train.trainer import train

SEED = Path(__file__).resolve().parents[3] / "shared" / "seeds" / "seed-2-miniformer.md"
ARTEFACTS = {
    *("results.json", "curves.png", "checkpoints/best.ckpt", "checkpoints/last.ckpt"),
    *(f"checkpoints/best_model/{name}" for name in ("config.json", "model.safetensors")),
    *(f"checkpoints/best_model/{name}" for name in ("tokenizer.json", "tokenizer_config.json")),
}


def best_model(config):
    return config.folder / "checkpoints" / "best_model"


def artefacts(config):
    files = (path for path in config.folder.rglob("*") if path.is_file())
    return {str(path.relative_to(config.folder)) for path in files}


@pytest.mark.parametrize("model", ["transformer", "seq2seq"])
def test_language_modeling_predicts_better_than_counting(task_config, model):
    """Against the entropy of single tokens in the training text."""
    config = task_config("language_modeling", model, max_epochs=4, test_path=None)
    results = train(config)
    data = MiniFormerDataModule(config=config)
    counts = torch.zeros(600)
    for example in data.train.examples:
        counts.index_add_(0, torch.tensor(example.target), torch.ones(len(example.target)))
    shares = (counts + 1) / (counts + 1).sum()
    targets = torch.tensor([t for e in data.validation.examples for t in e.target])
    alone = float(-shares.log()[targets].mean())
    assert results["val_loss"] < alone
    assert results["val_perplexity"] == pytest.approx(math.exp(results["val_loss"]), rel=1e-3)
    assert artefacts(config) >= ARTEFACTS


def test_masked_lm_predicts_better_than_counting(task_config):
    config = task_config("masked_lm", max_epochs=6, test_path=str(task_config("x").val_path))
    results = train(config)
    data = MiniFormerDataModule(config=config)
    counts = torch.bincount(torch.tensor([t for e in data.train.examples for t in e.source]))
    shares = counts / counts.sum()
    # By counting, the most frequent token is right so often.
    assert results["val_accuracy"] > float(shares[5:].max())
    assert results["val_loss"] < math.log(600)
    assert results["test_loss"] == pytest.approx(results["val_loss"], rel=1e-4)


def test_what_is_hidden_is_as_bert_hides_it():
    torch.manual_seed(0)

    class Tokenizer:
        mask_token_id, all_special_ids = 4, [0, 1, 2, 3, 4]

        def __len__(self):
            return 600

    ids = torch.randint(5, 600, (64, 128))
    ids[:, 0] = 1
    ids[:, 100:] = 0
    mask = (ids != 0).long()
    hidden = hide(TaskBatch(ids, mask, ids), Tokenizer())
    asked = hidden.target != IGNORED
    assert not asked[:, 0].any()
    assert not asked[:, 100:].any()
    assert torch.equal(hidden.target[asked], ids[asked])
    assert float(asked[:, 1:100].float().mean()) == pytest.approx(0.15, abs=0.01)
    seen = hidden.source[asked]
    assert float((seen == 4).float().mean()) == pytest.approx(0.8, abs=0.04)
    assert float((seen == ids[asked]).float().mean()) == pytest.approx(0.1, abs=0.03)
    assert torch.equal(hidden.source[~asked], ids[~asked])


@pytest.mark.parametrize("model", ["transformer", "seq2seq"])
def test_classification_beats_the_most_frequent_class(task_config, write, lines, model):
    """Two of the ten documents, told apart by their sentences."""
    files = {}
    for split in ("train", "val"):
        rows = [r for r in lines(f"classification_{split}.jsonl") if r["label"] in (4, 9)]
        rows = [{**row, "label": int(row["label"] == 9)} for row in rows]
        files[f"{split}_path"] = str(write(f"{split}.jsonl", rows))
    results = train(task_config("classification", model, max_epochs=8, **files))
    assert results["val_accuracy"] > 0.75  # 0.5 without reading


def test_token_classification_finds_capitalised_words_by_their_pieces(task_config, write, lines):
    """Lower-cased words: which of them began with a capital is known from what they are."""
    files = {}
    for split in ("train", "val"):
        rows = [
            {
                "tokens": [word.lower() for word in record["text"].split()],
                "labels": [int(word[0].isupper()) for word in record["text"].split()],
            }
            for record in lines(f"{split}.jsonl")
        ]
        files[f"{split}_path"] = str(write(f"{split}.jsonl", rows))
    labels = [label for row in rows for label in row["labels"]]
    results = train(task_config("token_classification", max_epochs=5, **files))
    assert results["val_accuracy"] > 1 - sum(labels) / len(labels) + 0.02


def test_regression_gives_numbers_as_the_file_has_them(task_config, write, lines):
    """How many characters a sentence has: tens, which the exported head must give back."""
    files = {}
    for split in ("train", "val"):
        rows = [
            {"input": r["text"], "value": len(r["text"]) + 1000.0} for r in lines(f"{split}.jsonl")
        ]
        files[f"{split}_path"] = str(write(f"{split}.jsonl", rows))
    values = torch.tensor([row["value"] for row in rows])
    config = task_config("regression", max_epochs=8, **files)
    results = train(config)
    assert results["val_rmse"] < 0.7 * float(values.std())
    model = Transformer.from_pretrained(best_model(config))
    tokenizer = AutoTokenizer.from_pretrained(best_model(config))
    with torch.no_grad():
        found = [
            model(tokenizer.encode(row["input"], return_tensors="pt"))[0, 0, 0] for row in rows
        ]
    rmse = float((torch.stack(found) - values).square().mean().sqrt())
    assert rmse == pytest.approx(results["val_rmse"], rel=1e-3)


def test_seq2seq_writes_answers(task_config, write, lines):
    """The first word of a sentence, copied; exact match by generating."""
    files = {}
    for split in ("train", "val"):
        words = [r["text"].split() for r in lines(f"{split}.jsonl")]
        rows = [
            {"source": f"{n % 2} {' '.join(w[:3])}", "target": ["odd", "even"][n % 2]}
            for n, w in enumerate(words)
        ]
        files[f"{split}_path"] = str(write(f"{split}.jsonl", rows))
    config = task_config(
        "seq2seq", "seq2seq", max_epochs=4, checkpoint_metric="val_exact_match", **files
    )
    results = train(config)
    assert results["val_exact_match"] == results["val_f1"] == 1.0
    assert results["val_rouge_l"] == 1.0


@pytest.mark.skipif(not SEED.is_file(), reason="the seeds do not lie beside this checkout")
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_readmes_inference_runs_on_the_best_model(task_config, tmp_path, monkeypatch, task):
    text = SEED.read_text(encoding="utf-8")
    blocks = [b for b in re.findall(r"```python\n(.*?)```", text, re.S) if "best_model" in b]
    monkeypatch.chdir(tmp_path)
    writing = task_config("language_modeling", "seq2seq", max_epochs=1, experiment_name="my_lm")
    train(writing)
    folder = Path(__file__).parents[2] / "examples" / "data"
    reading = task_config(
        task,
        max_epochs=1,
        experiment_name="my_classifier",
        train_path=str(folder / "classification_train.jsonl"),
        val_path=None,
    )
    train(reading)
    monkeypatch.setattr("builtins.print", lambda *a: None)
    for block, config in zip(blocks, (writing, reading), strict=True):
        names = {"tokenizer": AutoTokenizer.from_pretrained(best_model(config)), "task": task}
        exec(compile(block, str(SEED), "exec"), names)
    assert isinstance(names["model"], Transformer)
    if task == "classification":
        assert 0 <= names["predicted_class"] < 10
    else:
        assert 0 <= names["prediction"] <= 9


def test_a_seq2seq_source_never_holds_its_target(task_config):
    data = MiniFormerDataModule(config=task_config("language_modeling", "seq2seq"))
    for example in data.train.examples[:20]:
        source, target = map(data.tokenizer.decode, (example.source[1:], example.target[:-1]))
        assert example.target[-1] == data.tokenizer.eos_token_id
        assert target
        assert target not in source


def test_positions_without_a_target_change_nothing(task_config, lines):
    """The loss of a batch is that of its rows alone, weighted by their targets."""
    config = task_config("language_modeling", "seq2seq")
    data = MiniFormerDataModule(config=config)
    module = MiniFormerLitModule(config, data.tokenizer, data.outputs).eval()
    examples = data.train.examples[:4]
    batch = collate(examples, 0)
    loss = TASKS["language_modeling"].loss(module.predict(batch), batch.target, 0.0)
    total = count = 0
    for example in examples:
        one = collate([example], 0)
        total += F.cross_entropy(module.predict(one)[0], one.target[0], reduction="sum")
        count += one.target.numel()
    torch.testing.assert_close(loss, total / count, atol=1e-5, rtol=1e-5)


def test_a_dataset_by_the_readme(task_config, lines):
    config = task_config("language_modeling")
    tokenizer = MiniFormerDataModule(config=config).tokenizer
    dataset = JSONLinesDataset(
        path=config.train_path, tokenizer=tokenizer, task="language_modeling"
    )
    assert len(dataset) == len(lines("train.jsonl"))
    assert tokenizer.decode(dataset[0].target[:-1]) == lines("train.jsonl")[0]["text"]
    assert MiniFormerDataModule(cfg=config, tokenizer=tokenizer).tokenizer is tokenizer
    assert MiniFormerLitModule(config).model.config.vocab_size == 600


def test_a_model_goes_on_from_another(task_config, tmp_path):
    first = task_config("language_modeling", "seq2seq", max_epochs=1)
    train(first)
    second = task_config(
        "language_modeling",
        "seq2seq",
        max_epochs=1,
        base=str(best_model(first)),
        model_config={"dropout": 0.1},
        experiment_name="second",
    )
    before = json.loads((first.folder / "results.json").read_text())["best"]["val_loss"]
    assert train(second)["val_loss"] < before
    loaded = Seq2SeqTransformer.from_pretrained(best_model(second))
    assert loaded.config.dropout == 0.1
    with pytest.raises(ValueError, match="cannot be given another d_model"):
        MiniFormerLitModule(
            task_config(
                "seq2seq", "seq2seq", base=str(best_model(first)), model_config={"d_model": 32}
            )
        )


def test_minilm_is_the_encoder_half(task_config, small_encoder, write):
    rows = [
        {"question": "who?", "context": "Ada did it.", "answers": ["Ada"]},
        {"question": "who?", "passages": ["Bob did it."], "answers": {"text": ["Bob", "Bobby"]}},
    ]
    path = str(write("qa.jsonl", rows))
    config = task_config(
        "seq2seq",
        "seq2seq",
        base=str(small_encoder),
        model_config={"decoder": {"n_layers": 1}, "n_heads": 2},
        train_path=path,
        val_path=path,
        max_epochs=2,
    )
    results = train(config)
    assert 0 <= results["val_f1"] <= 1
    assert len(Seq2SeqTransformer.from_pretrained(best_model(config)).decoder.layers) == 1


@pytest.mark.parametrize(
    ("task", "record", "changes", "message"),
    [
        ("language_modeling", {"texts": "a"}, {}, "line 1: no field 'text'; it has texts"),
        ("language_modeling", {"text": " "}, {}, "'text' must be a text"),
        ("classification", {"input": "a", "label": "x"}, {}, "a whole number from 0, found 'x'"),
        (
            "classification",
            {"input": "a", "label": 3},
            {"model_config": {"vocab_size": 300, "output_dim": 3}},
            "label 3 is out of range; output_dim 3 allows 0 … 2",
        ),
        ("token_classification", {"tokens": ["a"], "labels": []}, {}, "lists of one length"),
        ("regression", {"input": "a", "value": "many"}, {}, "'value' must be a number"),
        ("seq2seq", {"source": "a"}, {"model": "seq2seq"}, "no field 'target'"),
        ("seq2seq", {"source": "a", "target": "b"}, {}, "learned by seq2seq, not transformer"),
        ("nosuch", {"text": "a"}, {}, "unknown task 'nosuch'; known: language_modeling"),
        ("language_modeling", {"text": "a"}, {"logger": "nosuch"}, "unknown logger 'nosuch'"),
        (
            "language_modeling",
            {"text": "a"},
            {"model_config": {"vocab_size": 20}},
            "vocab_size 20 is less than the 261",
        ),
        ("language_modeling", {"text": "a"}, {"model_config": {"n_head": 2}}, "did you mean"),
    ],
)
def test_bad_input_is_one_clear_error(task_config, write, tmp_path, task, record, changes, message):
    path = str(write("bad.jsonl", [record]))
    with pytest.raises(ValueError, match=message):
        train(task_config(task, **{"train_path": path, "val_path": None, **changes}))
    assert not (tmp_path / "runs").exists()


def test_a_line_that_is_no_json_is_named(task_config, tmp_path):
    path = tmp_path / "bad.jsonl"
    for text, message in (('{"text": "a"}\n{"text"\n', "line 2: not valid JSON"), ("", "empty")):
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            MiniFormerDataModule(config=task_config("masked_lm", train_path=str(path)))
    with pytest.raises(FileNotFoundError, match="no such file"):
        MiniFormerDataModule(config=task_config("masked_lm", train_path="nowhere.jsonl"))
