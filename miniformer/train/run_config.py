"""What every training run is told: fields that are keywords, JSON keys and command-line flags."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from textwrap import dedent
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from miniformer.train.schedules import SCHEDULERS

Config = TypeVar("Config", bound="RunConfig")
# "auto" is bfloat16 where the processor has it in hardware.
PRECISIONS = ("32", "16", "bf16", "auto")


def option(default: Any, help: str) -> Any:
    """A field with its line of help."""
    return field(default=default, metadata={"help": help})


@dataclass
class RunConfig:
    """How any model is trained; ValueError names the field that does not fit."""

    batch_size: int = option(32, "examples in a batch, on each device")
    max_epochs: int = option(10, "passes over the training file")
    lr: float = option(3e-4, "peak learning rate of AdamW")
    weight_decay: float = option(0.01, "decay of the weights; norms and biases have none")
    scheduler: str = option("cosine", f"learning rate over time: {', '.join(SCHEDULERS)}")
    warmup_steps: int = option(1000, "steps over which the learning rate rises from 0")
    gradient_clip_val: float = option(1.0, "largest norm of the gradient; 0 for no limit")
    accumulate_grad_batches: int = option(1, "batches that make one step")
    gradient_checkpointing: bool = option(False, "compute activations again to save memory")
    precision: str = option("32", f"numbers to compute with: {', '.join(PRECISIONS)}")
    seed: int = option(42, "of the order, the fresh weights and the dropout")
    num_workers: int = option(0, "processes that prepare batches")
    early_stopping_patience: int = option(3, "epochs without a better metric; 0 to never stop")
    checkpoint_metric: str = option("val_loss", "what decides which model is best")
    logger: str = option("csv", "tensorboard, wandb, csv or none")
    gpus: int = option(1, "GPUs to use where there are any; 0 for the CPU")
    devices: int = option(0, "devices of any kind, CPU processes too; 0: as gpus says")
    strategy: str = option("auto", "Lightning's strategy: auto, ddp, fsdp, deepspeed_stage_2 …")
    num_nodes: int = option(1, "machines that train together")
    lora_rank: int = option(0, "train low-rank updates of this rank instead of the weights")
    lora_alpha: float = option(16.0, "scale of the low-rank updates: alpha / rank")
    lora_targets: str = option("query|value", "pattern of the names of the layers that get one")
    resume: str = option("", "checkpoint to go on from; 'last' for this run's own")

    def __post_init__(self) -> None:
        self.precision = str(self.precision)
        for name in ("batch_size", "max_epochs", "accumulate_grad_batches", "num_nodes"):
            self._at_least(name, 1)
        for name in ("warmup_steps", "num_workers", "early_stopping_patience", "lora_rank"):
            self._at_least(name, 0)
        for name in ("weight_decay", "gradient_clip_val", "gpus", "devices", "seed"):
            self._at_least(name, 0)
        if not 0 < self.lr < 1e6:
            raise ValueError(f"lr must be above 0: {self.lr!r}")
        self._one_of("precision", PRECISIONS)
        self._one_of("scheduler", SCHEDULERS)

    def _at_least(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            raise ValueError(f"{name} must be a number of at least {least}: {value!r}")

    def _one_of(self, name: str, known: Any) -> None:
        if getattr(self, name) not in known:
            raise ValueError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}")

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON can hold it."""
        return asdict(self)

    def save(self, path: str | Path) -> None:
        """Write every field as JSON, as ``--config_json`` reads it."""
        text = json.dumps(self.to_dict(), indent=2)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_json(cls: type[Config], path: str | Path, **changes: Any) -> Config:
        """Read what :meth:`save` wrote; ``changes`` win. ValueError lists unknown keys."""
        try:
            values = json.loads(Path(path).read_bytes())
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from None
        unknown = sorted(values.keys() - {f.name for f in fields(cls)})
        if unknown:
            known = ", ".join(f.name for f in fields(cls))
            raise ValueError(f"{path}: unknown keys {', '.join(unknown)}; known: {known}")
        return cls(**{**values, **changes})

    @classmethod
    def from_cli(cls: type[Config], arguments: Sequence[str] | None = None) -> Config:
        """One flag a field (``--batch_size 16``; a switch takes true or false), over the values of
        ``--config_json FILE``. A wrong flag or value ends the program with one line and code 2.
        """
        parser = argparse.ArgumentParser(
            description=dedent(f"    {cls.__doc__}"),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument("--config_json", help="file of fields; flags win over it")
        for each in fields(cls):
            parser.add_argument(
                f"--{each.name}",
                type=parser_of(cls, each),
                default=argparse.SUPPRESS,
                help=f"{each.metadata['help']} (default: {shown_default(each)})".replace("%", "%%"),
                metavar=each.name.upper().rsplit("_", 1)[-1],
            )
        given = vars(parser.parse_args(arguments))
        path = given.pop("config_json")
        try:
            return cls.from_json(path, **given) if path else cls(**given)
        except (OSError, TypeError, ValueError) as error:
            parser.error(str(error))


def shown_default(each: "Field[Any]") -> str:
    """A field's default, as help shows it."""
    if each.default is MISSING:
        return "{}"
    return "none" if each.default in ("", None) else str(each.default)


def parser_of(config: type[RunConfig], each: "Field[Any]") -> Callable[[str], Any]:
    """From a flag's text to a field's value, by the field's type."""
    kind = get_type_hints(config)[each.name]
    kind = get_args(kind)[0] if get_origin(kind) in (Union, UnionType) else kind
    parsers: dict[Any, Callable[[str], Any]] = {bool: _switch, int: int, float: float, str: str}
    return parsers.get(kind, str if kind is Any else _json_object)


def _switch(text: str) -> bool:
    known = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}
    try:
        return known[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}") from None


def _json_object(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"expected a JSON object, found {text!r}")
    return value
