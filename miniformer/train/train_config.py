"""What the training of a Miniformer model is told."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miniformer.train.run_config import RunConfig, option
from miniformer.weights import find_model

MODELS = ("transformer", "seq2seq")
# The decoder of a generator that points: two outputs, the places where a span begins and ends.
POINTING = {
    "head": "pointer",
    "decoder_start_token_id": 0,  # nowhere
    "decoder": {"n_layers": 1, "n_heads": 6, "d_ff": 768, "max_seq_len": 2},
}


@dataclass
class TrainConfig(RunConfig):
    """Train a Miniformer model on one of its tasks; ValueError names the field that does not fit.

    Files are JSON lines (or Parquet) with the fields of the task:

    * ``language_modeling`` ``{"text": "…"}``, also ``masked_lm``
    * ``classification`` ``{"input": "…", "label": 1}``, whole numbers from 0
    * ``token_classification`` ``{"tokens": ["…", "…"], "labels": [0, 1]}``
    * ``regression`` ``{"input": "…", "value": 32.0}`` (or ``label``)
    * ``seq2seq`` ``{"source": "…", "target": "…"}``, or ``question``, ``context`` (or
      ``passages``) and ``answers``
    * ``pointing`` ``question``, ``context`` or ``passages`` (a list), and ``answers`` that are
      spans of them; none where they do not say
    """

    train_path: Any = field(  # in Python also a list
        default="data/train.jsonl", metadata={"help": "training file"}
    )
    val_path: str | None = option(None, "validation file, measured every epoch")
    test_path: str | None = option(None, "test file, measured with the best model")
    task: str = option(
        "language_modeling",
        "language_modeling, masked_lm, classification, token_classification, regression, seq2seq, "
        "pointing",
    )
    model: str = option("seq2seq", f"architecture: {', '.join(MODELS)}")
    model_config: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "JSON object of TransformerConfig fields"}
    )
    base: str = option("", "model folder to start from: ours, T5, BART or, for seq2seq, MiniLM")
    tokenizer: str = option("train", "folder or name of a tokenizer; train: one of this file")
    work_dir: str = option("./runs", "folder of all runs")
    experiment_name: str = option("experiment1", "folder of this run in it")
    label_smoothing: float = option(0.0, "share of probability that targets give away")
    max_length: int = option(512, "most tokens of a text")
    generate_examples: int = option(200, "validation examples that are answered every epoch")
    freeze_embeddings: bool = option(False, "leave the encoder's embeddings as they are")

    warmup_steps: int = option(1000, "steps over which the learning rate rises from 0")
    logger: str = option("tensorboard", "tensorboard, wandb, csv or none")
    num_workers: int = option(4, "processes that prepare batches")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._one_of("model", MODELS)
        self._at_least("max_length", 2)
        self._at_least("generate_examples", 0)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1): {self.label_smoothing!r}")
        if not isinstance(self.model_config, dict):
            raise ValueError(f"model_config must be an object: {self.model_config!r}")

    @property
    def folder(self) -> Path:
        """Where this run keeps its files."""
        return Path(self.work_dir) / self.experiment_name


@dataclass
class GeneratorConfig(TrainConfig):
    """Train a generator that answers, from MiniLM's encoder and a fresh decoder or from a folder of
    T5, BART or ours.
    """

    task: str = option("", "pointing (quotes) or seq2seq (own words); by the base: MiniLM points")
    model: str = option("seq2seq", "architecture")
    base: str = option("all-MiniLM-L6-v2", "model to start from: MiniLM, T5, BART, ours")
    batch_size: int = option(16, "examples in a batch, on each device")
    max_epochs: int = option(3, "passes over the training file")
    lr: float = option(2e-4, "peak learning rate of AdamW")
    warmup_steps: int = option(200, "steps over which the learning rate rises from 0")
    label_smoothing: float = option(0.1, "share of probability that targets give away")
    checkpoint_metric: str = option("val_f1", "what decides which epoch is best")
    compact: str = option("", "write int8 weights without those of this model: all-MiniLM-L6-v2")
    freeze_embeddings: bool = option(True, "leave the encoder's embeddings as they are")
    precision: str = option("auto", "numbers to compute with: 32, 16, bf16 or auto")
    logger: str = option("csv", "tensorboard, wandb, csv or none")
    num_workers: int = option(0, "processes that prepare batches")

    def __post_init__(self) -> None:
        super().__post_init__()
        points = is_bert(self.base) or described(self.base).get("head") == "pointer"
        self.task = self.task or ("pointing" if points else "seq2seq")
        if self.task == "pointing" and is_bert(self.base):
            self.model_config = {**POINTING, **self.model_config}


def described(name: str) -> dict[str, Any]:
    """The config.json of a model; empty where it has none. FileNotFoundError without a model."""
    path = find_model(name).path / "config.json"
    return dict(json.loads(path.read_bytes())) if path.is_file() else {}


def is_bert(name: str) -> bool:
    """Whether a name is that of a BERT encoder."""
    return described(name).get("model_type") == "bert"
