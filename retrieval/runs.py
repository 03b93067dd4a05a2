"""Runs and judgments as files: TREC's formats, and BEIR's columns."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from indexes.durable import replace_file
from indexes.errors import IndexWriteFailed
from retrieval.documents import Qrel
from retrieval.errors import CorpusError, QueryError
from retrieval.metrics import Scores, ranked

Run = Mapping[str, Scores]  # query id → document id → score, higher is better
BOM = b"\xef\xbb\xbf"
TAG = "retrieval"  # what a run is called in its last column


def read_run(path: str | Path) -> dict[str, dict[str, float]]:
    """A run from a file in TREC's format: query, Q0, document, rank, score and tag, separated by
    white space. The ranks in the file count for nothing; scores tell the order, as in trec_eval.

    CorpusError names the file and the line of what is no such line, of a score that is no finite
    number, and of a document that a query has twice.
    """
    run: dict[str, dict[str, float]] = {}
    for where, line in _lines(path):
        fields = line.split()
        score = _number(fields[4]) if len(fields) == 6 else None
        if score is None:
            raise CorpusError(
                f"{where}: expected query, Q0, document, rank, score and tag, "
                f"separated by spaces; found {line[:60]!r}"
            )
        scores = run.setdefault(fields[0], {})
        if fields[2] in scores:
            raise CorpusError(f"{where}: query {fields[0]!r} has document {fields[2]!r} twice")
        scores[fields[2]] = score
    if not run:
        raise CorpusError(f"{path}: no line; expected a run in TREC's format")
    return run


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def write_run(path: str | Path, run: Run, *, tag: str = TAG) -> None:
    """Write a run in TREC's format, best first; the file appears when it is complete, in the place
    of one that is there. :func:`read_run` gives back the same scores.

    QueryError for an id that white space parts or that is empty; IndexWriteFailed.
    """
    _check_columns([tag], "the tag")
    _check_columns(run, "query id")
    lines = []
    for query, scores in run.items():
        _check_columns(scores, "document id")
        for rank, doc_id in enumerate(ranked(scores), start=1):
            lines.append(f"{query} Q0 {doc_id} {rank} {float(scores[doc_id])!r} {tag}")
    replace_lines(path, lines)


def read_qrels(path: str | Path) -> list[Qrel]:
    """Judgments from a file in BEIR's columns (query, document and whole-number relevance,
    separated by tabs) or TREC's (query, anything, document and relevance, separated by white
    space); a first line that is a header is passed over. CorpusError names the file and the line.
    """
    qrels: list[Qrel] = []
    split = None
    for number, (where, line) in enumerate(_lines(path)):
        split = split or next((each for each in FORMATS if _judgment(each(line))), None)
        qrel = _judgment(split(line)) if split else None
        if qrel is not None:
            qrels.append(qrel)
        elif number:
            raise CorpusError(
                f"{where}: expected query, document and a whole number, separated by tabs, "
                f"or these with TREC's 0 behind the query; found {line[:60]!r}"
            )
    return qrels


def _beir_columns(line: str) -> Sequence[str]:
    return line.split("\t")


def _trec_columns(line: str) -> Sequence[str]:
    fields = line.split()
    return [fields[0], *fields[2:]] if len(fields) == 4 else ()


FORMATS = (_beir_columns, _trec_columns)


def _judgment(fields: Sequence[str]) -> Qrel | None:
    if len(fields) != 3 or not fields[2].strip().removeprefix("-").isdecimal():
        return None
    return Qrel(fields[0], fields[1], int(fields[2]))


def write_qrels(path: str | Path, qrels: Iterable[Qrel]) -> None:
    """Write judgments in TREC's format; the errors are those of :func:`write_run`."""
    lines = []
    for query, doc_id, relevance in qrels:
        _check_columns([query], "query id")
        _check_columns([doc_id], "document id")
        lines.append(f"{query} 0 {doc_id} {relevance}")
    replace_lines(path, lines)


def _check_columns(texts: Iterable[str], what: str) -> None:
    for text in texts:
        if len(text.split()) != 1 or text != text.strip():
            raise QueryError(
                f"{what} {text!r} is empty or has white space, which separates the columns of "
                "TREC's format; rename it, or use JSON"
            )


def replace_lines(path: str | Path, lines: Iterable[str]) -> None:
    """Write lines as UTF-8 in one step: the file has its old content or all of the new.
    IndexWriteFailed where the disk refuses.
    """
    try:
        replace_file(Path(path), "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise IndexWriteFailed(f"cannot write {path}: {error.strerror or error}") from error


def _lines(path: str | Path) -> Iterator[tuple[str, str]]:
    """The lines with something in them, each with its place."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise CorpusError(f"{path}: {reason}") from None
    for number, line in enumerate(content.removeprefix(BOM).split(b"\n"), start=1):
        where = f"{path}, line {number}"
        try:
            text = line.rstrip(b"\r").decode()
        except UnicodeDecodeError as error:
            raise CorpusError(f"{where}: invalid UTF-8 at byte {error.start}") from None
        if text.strip():
            yield where, text
