"""What people and programs read: tables on a terminal, JSON lines elsewhere."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click

from retrieval.cli.excerpt import Excerpt, excerpt
from retrieval.documents import Answer, Citation, Hit

# JSON lets these stand unescaped; a terminal obeys them.
CONTROLS = {code: f"\\u{code:04x}" for code in range(0x7F, 0xA0)}
CUT = 300  # characters of a text in a table
LOOKED_AT = 20_000  # characters of a text that are looked through for those


def wants_json(as_json: bool) -> bool:
    """JSON was asked for, or standard output is no terminal."""
    return as_json or not sys.stdout.isatty()


def print_json(record: Mapping[str, Any]) -> None:
    """One object, one line."""
    line = json.dumps(record, ensure_ascii=False).translate(CONTROLS)
    click.echo(line.encode())


def plain(text: str) -> str:
    """A text on one line, without characters that could steer a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def harmless(text: str) -> str:
    """A text without characters that could steer a terminal; its spaces stay."""
    return "".join(c if c.isprintable() else " " for c in text)


def shorten(text: str, length: int = CUT) -> str:
    """A text on one line, cut with an ellipsis."""
    line = plain(text[: 4 * length])
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


def print_hits(question: str, hits: Sequence[Hit], *, explain: bool = False) -> None:
    """A table of hits for a person, each with the part of its text that says most of the question,
    whose words are bold there; with the scores that the order goes by, to ``explain`` it.
    """
    if not hits:
        click.echo(f"Nothing found for: {shorten(question)}")
        return
    names = sorted({name for hit in hits for name in hit.scores}) if explain else []
    rows: list[Sequence[str | Excerpt]] = [
        (
            str(hit.rank),
            f"{hit.score:.3f}",
            *(f"{hit.scores.get(name, 0):.3f}" for name in names),
            shorten(hit.title or hit.id, 120),
            excerpt(plain(hit.text[:LOOKED_AT]), question, CUT),
        )
        for hit in hits
    ]
    print_table(("", "score", *names, "title", "text"), rows, caption=shorten(question))


def print_answer(answer: Answer, *, written: bool = False) -> None:
    """An answer and its quotes for a person; ``written`` when its text stands there already."""
    if answer.text is None:
        click.echo(f"The passages do not say ({len(answer.hits)} read).")
        return
    click.echo("" if written else plain(answer.text))
    click.echo(f"confidence {answer.confidence:.2f}")
    by_id = {hit.id: hit for hit in answer.hits}
    rows = [
        (shorten(by_id[each.id].title or each.id, 60), _in_context(by_id[each.id].text, each))
        for each in answer.citations
    ]
    print_table(("source", "quote"), rows)


def _in_context(text: str, citation: Citation, around: int = 80) -> str:
    """A quote between guillemets, amid some of what stands around it."""
    before = text[max(0, citation.start - around) : citation.start]
    after = text[citation.end : citation.end + around]
    left, right = "…" * (citation.start > around), "…" * (citation.end + around < len(text))
    return plain(f"{left}{before}«{citation.quote}»{after}{right}")


def print_record(record: Mapping[str, Any], *, as_json: bool) -> None:
    """Names and values: a line of JSON for a program, a table for a person."""
    if wants_json(as_json):
        print_json(record)
    else:
        print_facts(record.items())


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Names and values for a person."""
    print_table((), [(name, plain(str(value))) for name, value in facts])


def print_table(
    header: Sequence[str], rows: Iterable[Sequence[str | Excerpt]], caption: str | None = None
) -> None:
    """Cells in columns, for a person; lines of cells where rich is not installed."""
    try:
        from rich import box
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        for line in (*([[caption]] if caption else []), header, *rows):
            click.echo("  ".join(cell if isinstance(cell, str) else cell.text for cell in line))
        return

    leading = 1 if header else 0  # texts run over several lines: keep their rows apart
    table = Table(*header, box=box.SIMPLE, show_header=bool(header), leading=leading)
    for row in rows:
        cells = [(cell, []) if isinstance(cell, str) else cell for cell in row]
        texts = [Text(text) for text, _ in cells]  # Text: brackets in a document are no markup
        for text, (_, marked) in zip(texts, cells, strict=True):
            for start, end in marked:
                text.stylize("bold", start, end)
        table.add_row(*texts)
    console = Console()
    if caption:
        console.print(Text(caption, style="bold"))
    console.print(table)
