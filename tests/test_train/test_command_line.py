"""The command lines of the README, as they are written there, each in a process of its own."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from miniformer.train.train_config import TrainConfig

ROOT = Path(__file__).parents[2]
SEED = ROOT.parent / "shared" / "seeds" / "seed-2-miniformer.md"
LINES = [
    """python -m miniformer.train.trainer --train_path data/train.jsonl --val_path data/val.jsonl
    --task language_modeling --model seq2seq --model_config
    '{"vocab_size":50257,"d_model":384,"n_heads":6,"n_layers":6,"activation":"swiglu","rotary_pct":0.5}'
    --batch_size 16 --max_epochs 5 --lr 5e-4 --weight_decay 0.01 --scheduler cosine
    --warmup_steps 100 --gradient_clip_val 1.0 --accumulate_grad_batches 2 --logger tensorboard
    --work_dir "./runs" --experiment_name "my_lm" --seed 42""",
    """python -m miniformer.train.trainer --train_path data/classification_train.jsonl
    --val_path data/classification_val.jsonl --task classification --model transformer
    --model_config '{"vocab_size":30000,"d_model":256,"n_heads":8,"n_layers":4,"output_dim":10}'
    --batch_size 32 --max_epochs 10 --lr 3e-4 --scheduler onecycle --logger wandb""",
]


def run(line, folder, **environment):
    """A shell line in the folder of the examples' data, with this Python."""
    offline = {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "OMP_NUM_THREADS": "2"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, **offline, **environment, "PATH": path},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture
def examples(tmp_path):
    shutil.copytree(ROOT / "examples" / "data", tmp_path / "data")
    return tmp_path


def joined(line):
    return re.sub(r"\s*\\?\n\s*", " ", line)


@pytest.mark.skipif(not SEED.is_file(), reason="the seeds do not lie beside this checkout")
def test_these_are_the_readmes_lines():
    text = SEED.read_text(encoding="utf-8")
    written = re.findall(r"```bash\n(python -m miniformer.train.trainer.*?)```", text, re.S)
    assert [joined(line).strip() for line in written] == [joined(line) for line in LINES]


def results_of(folder, name):
    return json.loads((folder / "runs" / name / "results.json").read_text())


def test_the_language_model_line(examples):
    """As it is, on a tenth of the text: the model has 45 million weights."""
    path = examples / "data" / "train.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:24]))
    path = examples / "data" / "val.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:8]))
    pytest.importorskip("tensorboard")
    done = run(joined(LINES[0]), examples)
    assert done.returncode == 0, done.stderr
    assert "val_loss" in done.stdout
    assert "warmup_steps 100 is not shorter than the run of 5 steps" in done.stderr
    losses = [epoch["val_loss"] for epoch in results_of(examples, "my_lm")["epochs"].values()]
    assert losses[-1] < losses[0]
    folder = examples / "runs" / "my_lm"
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files >= {
        *("results.json", "curves.png", "checkpoints/best.ckpt", "checkpoints/last.ckpt"),
        *("checkpoints/best_model/model.safetensors", "checkpoints/best_model/tokenizer.json"),
    }
    assert any("tfevents" in file for file in files)


def test_the_classification_line(examples):
    """As it is; ten documents told apart by single sentences."""
    pytest.importorskip("wandb")
    done = run(joined(LINES[1]), examples)
    assert done.returncode == 0, done.stderr
    results = results_of(examples, "experiment1")
    assert results["best"]["val_accuracy"] > 0.4  # 0.1 by guessing
    assert list((examples / "runs/experiment1/wandb").rglob("*.wandb"))


def test_two_processes_train_together(examples):
    """Each takes its share of the batches; what is written is written once."""
    line = (
        "python -m miniformer.train.trainer --train_path data/train.jsonl --val_path data/val.jsonl"
        ' --model transformer --model_config \'{"vocab_size":400,"n_layers":1}\' --max_epochs 2'
        " --strategy ddp --devices 2 --gpus 0 --logger csv --num_workers 0 --warmup_steps 2"
    )
    done = run(line, examples, OMP_NUM_THREADS="1")
    assert done.returncode == 0, done.stderr
    epochs = results_of(examples, "experiment1")["epochs"]
    assert epochs["1"]["val_loss"] < epochs["0"]["val_loss"]
    logged = (examples / "runs/experiment1/logs/version_0/metrics.csv").read_text()
    last = max(int(step) for step in re.findall(r"^\d+,.*?,(\d+),", logged, re.M) or ["0"])
    assert last < 8  # 8 batches an epoch, 4 for each process


def test_help_has_a_line_for_every_field():
    done = run("python -m miniformer.train.trainer --help", ROOT)
    assert done.returncode == 0
    for name in TrainConfig.__dataclass_fields__:
        assert f"--{name} " in done.stdout
    assert "--config_json" in done.stdout


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("--epochs 3", 2, "unrecognized arguments: --epochs 3"),
        ("--max_epochs many", 2, "argument --max_epochs: invalid int value: 'many'"),
        ("--max_epochs 0", 2, "max_epochs must be a number of at least 1: 0"),
        ("--model_config '{'", 2, "argument --model_config: not valid JSON"),
        ("--model_config 3", 2, "expected a JSON object"),
        ("--gradient_checkpointing maybe", 2, "expected true or false, found 'maybe'"),
        ("--scheduler step", 2, "unknown scheduler 'step'; known: none, linear, cosine, onecycle"),
        ("--config_json nowhere.json", 2, "nowhere.json"),
        ("--train_path nowhere.jsonl", 1, "nowhere.jsonl: no such file"),
        ("--task nosuch", 1, "unknown task 'nosuch'; known: language_modeling, masked_lm"),
    ],
)
def test_a_wrong_flag_is_one_line(flags, code, message, tmp_path, capsys):
    import shlex

    from miniformer.train.trainer import main

    try:
        ended = main([*shlex.split(flags), "--work_dir", str(tmp_path)])
    except SystemExit as end:
        ended = end.code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert ended == code
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_flags_win_over_the_file(tmp_path):
    TrainConfig(max_epochs=3, model_config={"d_model": 32}).save(tmp_path / "config.json")
    config = TrainConfig.from_cli(
        ["--config_json", str(tmp_path / "config.json"), "--max_epochs", "4", "--precision", "16"]
    )
    assert (config.max_epochs, config.model_config, config.precision) == (4, {"d_model": 32}, "16")
    assert TrainConfig.from_json(tmp_path / "config.json").max_epochs == 3
    (tmp_path / "config.json").write_text('{"epochs": 3}')
    with pytest.raises(ValueError, match="unknown keys epochs; known: batch_size"):
        TrainConfig.from_json(tmp_path / "config.json")
