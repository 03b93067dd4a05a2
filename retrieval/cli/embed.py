"""``retrieval embed``: texts to vectors, without an index."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from retrieval.cli.options import corpus_options, deterministic, encoder_options, workers

if TYPE_CHECKING:
    from retrieval.encoding import Vectors


@click.command()
@click.argument("file")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a float32 .npy matrix, one row a text, in order.",
)
@encoder_options
@deterministic
@workers
@corpus_options
def embed(
    file: str,
    output: Path | None,
    model: str,
    max_length: int | None,
    device: str,
    dtype: str,
    deterministic: bool,
    workers: int,
    metadata_columns: tuple[str, ...],
    **columns: Any,
) -> None:
    """Encode the documents of FILE, or the lines of a .txt file or of standard input (-).

    Without -o the vectors are printed as JSON lines: id (or line number) and vector.
    """
    from retrieval.assembly import Encoder
    from retrieval.background import Background
    from retrieval.cli.output import print_json
    from retrieval.matrix import write_matrix

    texts, fraction = _texts(file, metadata_columns, columns)
    how: dict[str, Any] = {"max_length": max_length, "device": device, "dtype": dtype}
    encoder = Encoder(model, **how, deterministic=deterministic)
    with Background(encoder, workers) as background:
        batches = _told(background.stream(texts, itemgetter(1)), fraction)
        if output is not None:
            count = write_matrix(output, (vectors for _, vectors in batches), encoder.dim)
            click.echo(f"{count:,} vectors of {encoder.dim} numbers in {output}", err=True)
            return
        for rows, vectors in batches:
            for (name, _), vector in zip(rows, vectors, strict=True):
                print_json({"id": name, "vector": vector.tolist()})


Batch = tuple[list[tuple[str, str]], "Vectors"]  # names and texts


def _told(batches: Iterable[Batch], fraction: Callable[[], float | None]) -> Iterator[Batch]:
    """Pass batches on, and say on standard error how far they have come."""
    from retrieval.cli.progress import progress_line
    from retrieval.report import Progress

    started, rows = time.monotonic(), 0
    with progress_line() as line:
        for batch in batches:
            rows += len(batch[0])
            line(Progress(rows, fraction(), time.monotonic() - started, rows))
            yield batch


def _texts(
    file: str, metadata_columns: tuple[str, ...], columns: dict[str, Any]
) -> tuple[Iterable[tuple[str, str]], Callable[[], float | None]]:
    """Names and texts, one by one, and how much of them has been read."""
    from retrieval.corpus import read_corpus

    if file == "-" or file.endswith(".txt"):
        return _lines(file), lambda: None
    corpus = read_corpus(file, metadata_columns=list(metadata_columns), **columns)
    return ((document.id, document.full_text) for document in corpus), corpus.fraction


def _lines(file: str) -> Iterator[tuple[str, str]]:
    from retrieval.errors import CorpusError

    if file != "-" and not Path(file).exists():
        raise CorpusError(f"{file}: no such file")
    with nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb") as stream:
        for number, line in enumerate(stream, start=1):
            try:
                yield str(number), line.decode().rstrip("\r\n")
            except UnicodeDecodeError:
                raise CorpusError(f"{file}, line {number}: invalid UTF-8") from None
