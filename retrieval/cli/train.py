"""``retrieval train``: fine-tune the encoder, the reranker or the generator."""

from importlib import import_module

import click

PARTS = {
    "encoder": "train_encoder",
    "generator": "train_generator",
    "reranker": "train_reranker",
}


class Parts(click.Group):
    """Commands that are imported when they are asked for: their options need torch."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The parts of the library that learn."""
        return list(PARTS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a part's command."""
        if cmd_name not in PARTS:
            return None
        module = import_module(f"retrieval.cli.{PARTS[cmd_name]}")
        command: click.Command = getattr(module, PARTS[cmd_name])
        return command


@click.command(cls=Parts)
def train() -> None:
    """Fine-tune encoder, reranker or generator; the folder that comes out is used as it is."""
