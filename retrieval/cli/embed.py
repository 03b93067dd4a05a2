"""``retrieval embed``: texts to vectors, without an index."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from retrieval.cli.options import corpus_options, encoder_options


@click.command()
@click.argument("file")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a float32 .npy matrix, one row a text, in order.",
)
@encoder_options
@corpus_options
def embed(
    file: str,
    output: Path | None,
    model: str,
    max_length: int | None,
    device: str,
    dtype: str,
    metadata_columns: tuple[str, ...],
    **columns: Any,
) -> None:
    """Encode the documents of FILE, or the lines of a .txt file or of standard input (-).

    Without -o the vectors are printed as JSON lines: id (or line number) and vector.
    """
    from retrieval.assembly import Encoder
    from retrieval.cli.output import print_json
    from retrieval.encoding import windows

    texts = _texts(file, metadata_columns, columns)
    encoder = Encoder(model, max_length=max_length, device=device, dtype=dtype)
    batches = (
        ([name for name, _ in window], encoder.encode_document([text for _, text in window])[0])
        for window in windows(texts)
    )
    if output is None:
        for names, vectors in batches:
            for name, vector in zip(names, vectors, strict=True):
                print_json({"id": name, "vector": vector.tolist()})
        return
    from retrieval.matrix import write_matrix

    rows = write_matrix(output, (vectors for _, vectors in batches), encoder.dim)
    click.echo(f"{rows:,} vectors of {encoder.dim} numbers in {output}", err=True)


def _texts(
    file: str, metadata_columns: tuple[str, ...], columns: dict[str, Any]
) -> Iterable[tuple[str, str]]:
    """Names and texts, one by one."""
    from retrieval.corpus import read_corpus

    if file == "-" or file.endswith(".txt"):
        return _lines(file)
    corpus = read_corpus(file, metadata_columns=list(metadata_columns), **columns)
    return ((document.id, document.full_text) for document in corpus)


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
