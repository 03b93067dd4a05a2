"""Options that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

MODES = ("auto", "dense", "lexical", "hybrid")
LANGUAGES = ("english", "french", "german", "spanish", "none")
DEFAULT_LANGUAGE = "english"
Command = TypeVar("Command", bound=Callable[..., Any])

index_folder = click.option(
    "-i",
    "--index",
    "folder",
    type=click.Path(path_type=Path),
    default="retrieval-index",
    envvar="RETRIEVAL_INDEX",
    show_default=True,
    show_envvar=True,
    help="The index folder.",
)
where = click.option(
    "--where",
    help="Only rows that this filter selects: \"year >= 2020 and lang in ('en', 'de')\".",
)
min_score = click.option("--min-score", type=float, help="Leave out hits with a lower cosine.")
mode = click.option(
    "--mode",
    type=click.Choice(MODES),
    default="auto",
    show_default=True,
    help="Rank by cosine, by words (BM25), or by both; auto is hybrid where there are postings.",
)
rerank = click.option(
    "--rerank", metavar="NAME|PATH", help="Read the first fifty again, with this cross-encoder."
)
mmr = click.option(
    "--mmr",
    type=click.FloatRange(0, 1),
    help="Weigh what is relevant (1) against what is unlike the hits before it (0).",
)
exact = click.option("--exact", is_flag=True, help="Score every row, whatever the index's kind.")
on_duplicate = click.option(
    "--on-duplicate",
    type=click.Choice(["error", "first", "last"]),
    default="error",
    show_default=True,
    help="Which row of one id to keep.",
)
deterministic = click.option(
    "--deterministic", is_flag=True, help="A text's vector is the same to the bit in any company."
)
workers = click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that encode, each with its part of the threads, or on a GPU of its own.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="JSON, also on a terminal.")


def answer_options(command: Command) -> Command:
    """What answers, from how many passages, and when it had better not."""
    options = (
        click.option(
            "-k",
            "--top-k",
            type=click.IntRange(min=1),
            default=5,
            show_default=True,
            help="Passages to read.",
        ),
        click.option(
            "--generator",
            help="A generator's name or folder. Default: the one that comes with the library.",
        ),
        click.option(
            "--answer",
            type=click.Choice(["auto", "quote", "cite", "free"]),
            default="auto",
            show_default=True,
            help="Characters of a passage; own words with passages that support them; own words.",
        ),
        click.option(
            "--threshold",
            type=Threshold(),
            default="auto",
            show_default=True,
            help="Least confidence of an answer that is given, 0 … 1.",
        ),
    )
    return _all(options, command)


class Threshold(click.ParamType):  # type: ignore[type-arg]
    """``auto`` or a number in 0 … 1."""

    name = "auto|0..1"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | str:
        """The text of the flag as the library takes it."""
        if value == "auto":
            return "auto"
        number = click.FloatRange(0, 1).convert(value, param, ctx)
        return self.fail("nan is not a number in 0 … 1", param, ctx) if number != number else number


class PassagesText(click.ParamType):  # type: ignore[type-arg]
    """What :meth:`retrieval.passages.Passages.parse` takes."""

    name = "auto|none|window[:size[:overlap]]|sentences"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is, once it is known to be one."""
        from retrieval.passages import Passages

        try:
            return str(Passages.parse(value))
        except ValueError as error:
            return self.fail(str(error), param, ctx)


passages = click.option(
    "--passages",
    type=PassagesText(),
    default="auto",
    show_default=True,
    help="Cut documents, found by their best passage: into windows of so many tokens (as many as "
    "the model reads, an eighth of them shared) or sentences; auto cuts windows where over 1 % of "
    "the first 1,000 documents would lose text.",
)


def model_options(command: Command) -> Command:
    """Where and how a model computes."""
    options = (
        click.option(
            "--device",
            type=click.Choice(["auto", "cpu", "cuda", "mps"]),
            default="auto",
            show_default=True,
            help="Where to encode.",
        ),
        click.option(
            "--dtype",
            type=click.Choice(["auto", "float32", "bfloat16"]),
            default="auto",
            show_default=True,
            help="Number format; auto is bfloat16 where the processor has it in hardware.",
        ),
    )
    return _all(options, command)


def finding_options(command: Command) -> Command:
    """Which rows may be found, and how."""
    return _all((min_score, where, exact, mode, rerank, mmr), command)


def kind_options(command: Command) -> Command:
    """How rows will be found."""
    options = (
        click.option(
            "--kind",
            default="auto",
            show_default=True,
            help='flat, hnsw, small, or a FAISS factory string: "IVF256,SQ8"; auto is flat up to '
            "50,000 rows, then hnsw.",
        ),
        click.option(
            "--recall",
            type=click.FloatRange(0, 1, min_open=True),
            default=0.95,
            show_default=True,
            help="Recall@10 that a kind other than flat is tuned to.",
        ),
        click.option(
            "--lexical/--no-lexical",
            default=True,
            show_default=True,
            help="Write postings too, for ranking by words.",
        ),
        click.option(
            "--language",
            type=click.Choice(LANGUAGES),
            default=DEFAULT_LANGUAGE,
            show_default=True,
            help="Whose words are stemmed, and left out; none does neither.",
        ),
    )
    return _all(options, command)


def corpus_options(command: Command) -> Command:
    """How a corpus is read."""
    options = (
        click.option("--text-column", help="Default: text, content, body or passage."),
        click.option("--id-column", help="Default: id, _id or doc_id; else made from the content."),
        click.option("--title-column", help="Default: title."),
        click.option(
            "--metadata-column",
            "metadata_columns",
            multiple=True,
            help="Keep this column with the documents (repeatable). Default: every other scalar.",
        ),
        click.option(
            "--on-error",
            type=click.Choice(["raise", "skip"]),
            default="raise",
            show_default=True,
            help="What to do with a row that cannot be read.",
        ),
        click.option(
            "--rejects",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Write each such row there as a JSON line: file, row, reason.",
        ),
    )
    return _all(options, command)


def encoder_options(command: Command) -> Command:
    """Which model encodes, and how much of a text it reads."""
    options = (
        click.option(
            "--model",
            default="all-MiniLM-L6-v2",
            show_default=True,
            help="A model's name or folder.",
        ),
        click.option(
            "--max-length",
            type=click.IntRange(min=3),
            help="Tokens read of each text, with [CLS] and [SEP]. Default: the model's own.",
        ),
    )
    return model_options(_all(options, command))


def _all(options: tuple[Callable[[Command], Command], ...], command: Command) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
