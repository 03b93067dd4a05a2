"""Options of the training verbs, one for each field of a configuration; and what they print."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import click

from miniformer.train.run_config import RunConfig, parser_of, shown_default
from retrieval.cli.output import print_facts, print_json, wants_json
from retrieval.errors import TrainingError

Command = TypeVar("Command", bound=Callable[..., Any])
OWN = ("train_path", "output", "resume", "work_dir", "experiment_name", "task", "model")


def config_options(config: type[RunConfig]) -> Callable[[Command], Command]:
    """An option for every field, except those that a command asks for in its own way."""
    kinds = get_type_hints(config)

    def add(command: Command) -> Command:
        for each in reversed(fields(config)):
            if each.name in OWN:
                continue
            is_switch = kinds[each.name] is bool
            flag = {"is_flag": True} if is_switch else {"type": parser_of(config, each)}
            text, default = each.metadata["help"], shown_default(each)
            shown = "" if is_switch or default == "none" else f"  [default: {default}]"
            option = click.option(
                f"--{each.name.replace('_', '-')}",
                each.name,
                default=None,
                help=text[0].upper() + text[1:] + shown,
                **flag,
            )
            command = option(command)
        return command

    return add


def output_options(command: Command) -> Command:
    """Where the model goes, and whether a run is taken up again."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="JSON, also on a terminal."),
        click.option("--resume", is_flag=True, help="Go on where this output's run stopped."),
        click.option(
            "-o",
            "--output",
            type=click.Path(path_type=Path),
            required=True,
            help="Folder of the model; logs, curves and checkpoints are put into training/ in it.",
        ),
    ):
        command = option(command)
    return command


@contextmanager
def training_errors() -> Iterator[None]:
    """What a run refuses, as errors of one line; and a line on every epoch while it lasts."""
    logging.getLogger("miniformer.train").setLevel(logging.INFO)
    try:
        yield
    except (ValueError, TypeError, ImportError, FloatingPointError) as error:
        raise TrainingError(str(error)) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command with --resume goes on") from None


def print_results(results: Mapping[str, float], output: Path, *, as_json: bool) -> None:
    """The metrics of the best epoch: a table, or JSON where it is read by a program."""
    if wants_json(as_json):
        print_json({"model": str(output), **results})
    else:
        rounded = {name: round(value, 4) for name, value in results.items()}
        print_facts([("model", str(output)), *rounded.items()])
