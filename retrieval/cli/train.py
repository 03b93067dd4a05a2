"""``retrieval train``: fine-tune the encoder or the generator."""

from importlib import import_module

import click

HALVES = {"encoder": "train_encoder", "generator": "train_generator"}


class Halves(click.Group):
    """Commands that are imported when they are asked for: their options need torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The halves of the library that learn."""
        return list(HALVES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a half's command."""
        if cmd_name not in HALVES:
            return None
        module = import_module(f"retrieval.cli.{HALVES[cmd_name]}")
        command: click.Command = getattr(module, HALVES[cmd_name])
        return command


@click.command(cls=Halves)
def train() -> None:
    """Fine-tune the encoder or the generator; the folder that comes out is used as it is."""
