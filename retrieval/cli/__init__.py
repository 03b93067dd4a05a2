"""The command line: one file a verb, and one place where errors become one line."""

import logging
import os
import signal
import sys
from types import FrameType
from typing import NoReturn

import click

from indexes.errors import RetrievalError
from retrieval import __version__
from retrieval.cli.add import add
from retrieval.cli.ask import ask
from retrieval.cli.check import check
from retrieval.cli.compact import compact
from retrieval.cli.delete import delete
from retrieval.cli.embed import embed
from retrieval.cli.evaluate import evaluate
from retrieval.cli.export import export
from retrieval.cli.import_ import import_
from retrieval.cli.index import index
from retrieval.cli.info import info
from retrieval.cli.output import plain
from retrieval.cli.query import query
from retrieval.cli.train import train

DEBUG = "--debug"


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, package_name="miniformer-retrieval")
@click.option(DEBUG, is_flag=True, help="Show the traceback of an error.")
def retrieval(debug: bool) -> None:
    """Semantic search: index a corpus, ask it questions.

    Exit codes: 0 fine, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated.
    """


VERBS = (
    *(index, add, delete, compact, query, ask, info),
    *(check, evaluate, embed, train, export, import_),
)
for verb in VERBS:
    retrieval.add_command(verb)


def main() -> NoReturn:
    """Run the command line and exit; an error is one line on standard error."""
    arguments = sys.argv[1:]
    debug = DEBUG in arguments
    # Accepted behind the verb too, where people add it when a command has just failed.
    arguments = [DEBUG] * debug + [argument for argument in arguments if argument != DEBUG]
    signal.signal(signal.SIGTERM, _terminate)
    logging.basicConfig(format="retrieval: %(message)s", handlers=[_PlainLines()])
    # Arrow's own allocator keeps what it has freed: 40 MiB more after 20,000 rows of Parquet.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    sys.exit(run(arguments, debug=debug))


class _PlainLines(logging.StreamHandler):  # type: ignore[type-arg]
    """Our warnings on standard error, as harmless to a terminal as everything else."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.name.split(".")[0] in ("retrieval", "indexes", "miniformer")

    def format(self, record: logging.LogRecord) -> str:
        return plain(super().format(record))


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def run(arguments: list[str], *, debug: bool = False) -> int:
    """Run one command and return its exit code."""
    try:
        with retrieval.make_context("retrieval", list(arguments)) as context:
            result = retrieval.invoke(context)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt) as error:
        return _fail("; ".join(filter(None, ("interrupted", str(error)))), 130)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if debug:
            raise
        return _fail(_message(error), 1)


def _message(error: Exception) -> str:
    if isinstance(error, (RetrievalError, OSError)):
        return str(error)
    return f"unexpected {type(error).__name__}: {error} (run with {DEBUG} for the traceback)"


def _fail(message: str, code: int) -> int:
    click.echo(f"retrieval: {plain(message)}", err=True)
    return code
