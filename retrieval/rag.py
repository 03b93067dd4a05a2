"""Passages to answers: what a reader points at, or what a generator writes and passages support."""

import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from retrieval.citing import cite
from retrieval.documents import Answer, Citation, Hit
from retrieval.errors import QueryError
from retrieval.generating import UNKNOWN, Finding, Reader, StreamingGenerator, make_prompt

PIECES = re.compile(r"\S+\s*|\s+")
WHOLE = 1.0  # of a quote's words stand in its passage


def answer_all(
    generator: Any,
    questions: Sequence[str],
    hits: Sequence[Sequence[Hit]],
    *,
    how: str = "auto",
    threshold: float | str = "auto",
) -> list[Answer]:
    """An answer to each question from its hits.

    ``how``: ``quote`` gives the characters of a passage, ``cite`` a text with the passages that
    support it, ``free`` the text whatever supports it; ``auto`` quotes with a reader and cites with
    a generator. An answer of less confidence than ``threshold`` (0 … 1, ``auto``: the reader's own)
    is not given, nor one in ``quote`` or ``cite`` that no passage has. QueryError for another
    ``how`` or threshold.
    """
    how, least = checked(generator, how, threshold)
    asked = [number for number, found in enumerate(hits) if found]
    chosen = [questions[number] for number in asked]
    read = [list(hits[number]) for number in asked]
    answers = [Answer(None, 0.0, [], []) for _ in questions]
    if isinstance(generator, Reader):
        texts = [[hit.text for hit in found] for found in read]
        findings = generator.read(chosen, texts) if asked else []
        for number, finding, found in zip(asked, findings, read, strict=True):
            answers[number] = _pointed_at(finding, found, least)
        return answers
    prompts = [_prompt(generator, *pair) for pair in zip(chosen, read, strict=True)]
    written = generator.generate(prompts) if asked else []
    for number, text, found in zip(asked, written, read, strict=True):
        answers[number] = SETTLED[how](text, found, least)
    return answers


def stream_answer(
    generator: Any,
    question: str,
    hits: Sequence[Hit],
    *,
    how: str = "auto",
    threshold: float | str = "auto",
) -> Generator[str, None, Answer]:
    """The pieces of the text that :func:`answer_all` gives, which is also what is returned in the
    end. Only ``free`` text comes as it is written: what needs support is known when it is whole.
    """
    chosen, least = checked(generator, how, threshold)
    writes = isinstance(generator, StreamingGenerator) and not isinstance(generator, Reader)
    if chosen == "free" and not least and hits and writes:
        return _live(generator, question, hits)
    return _whole(answer_all(generator, [question], [hits], how=how, threshold=threshold)[0])


def _live(
    generator: StreamingGenerator, question: str, hits: Sequence[Hit]
) -> Generator[str, None, Answer]:
    written, held = "", ""  # spaces are held back: they may turn out to be the end
    for piece in generator.stream(_prompt(generator, question, hits)):
        piece = held + piece if written else piece.lstrip()
        held = piece[len(piece.rstrip()) :]
        if text := piece.rstrip():
            written += text
            yield text
    return _free(written, list(hits), 0.0)


def _whole(answer: Answer) -> Generator[str, None, Answer]:
    yield from PIECES.findall(answer.text or "")
    return answer


def checked(generator: Any, how: str, threshold: float | str) -> tuple[str, float]:
    """The way to answer and the least confidence, with ``auto`` resolved; QueryError for others."""
    reads = isinstance(generator, Reader)
    if how == "auto":
        how = "quote" if reads else "cite"
    if how not in SETTLED:
        raise QueryError(f"unknown way to answer {how!r}; known: auto, {', '.join(SETTLED)}")
    if threshold == "auto":
        return how, generator.threshold if reads else 0.0
    if isinstance(threshold, bool) or not isinstance(threshold, int | float):
        raise QueryError(f"the threshold must be 'auto' or a number in 0 … 1, got {threshold!r}")
    if not 0 <= threshold <= 1:
        raise QueryError(f"the threshold must be in 0 … 1, got {threshold!r}")
    return how, float(threshold)


def _prompt(generator: object, question: str, hits: Sequence[Hit]) -> str:
    passages = [f"{hit.title}: {hit.text}" if hit.title else hit.text for hit in hits]
    return make_prompt(generator, question, passages)


def _pointed_at(finding: Finding | None, hits: list[Hit], least: float) -> Answer:
    """A finding as an answer: its text is the quote of its first citation."""
    if finding is None or not finding.spans:
        return Answer(None, 0.0, [], hits)
    if finding.confidence < least:
        return Answer(None, finding.confidence, [], hits)
    citations = []
    for span in finding.spans:
        hit = hits[span.passage]
        quote = hit.text[span.start : span.end]
        citations.append(Citation(hit.id, span.start, span.end, quote))
    return Answer(citations[0].quote, finding.confidence, citations, hits)


def _quoted(text: str, hits: list[Hit], least: float) -> Answer:
    citations, support = cite(text, hits)
    if support < WHOLE or _unknown(text):
        return Answer(None, support, [], hits)
    return Answer(citations[0].quote, support, citations, hits)


def _cited(text: str, hits: list[Hit], least: float) -> Answer:
    citations, support = cite(text, hits)
    if not citations or support < least or _unknown(text):
        return Answer(None, support, [], hits)
    return Answer(text.strip(), support, citations, hits)


def _free(text: str, hits: list[Hit], least: float) -> Answer:
    citations, support = cite(text, hits)
    if not text.strip() or support < least:
        return Answer(None, support, [], hits)
    return Answer(text.strip(), support, citations, hits)


def _unknown(text: str) -> bool:
    return text.strip().strip(" .").casefold() == UNKNOWN


SETTLED: Mapping[str, Callable[[str, list[Hit], float], Answer]] = {
    "quote": _quoted,
    "cite": _cited,
    "free": _free,
}
