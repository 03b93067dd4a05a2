"""Text and Markdown files: each is one document, and says its title by a heading or its name."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from retrieval.errors import CorpusError, RowProblem
from retrieval.files import PACKINGS, TEXT_FORMATS, CorpusFile, looks_like
from retrieval.lines import Row
from retrieval.rows import MAX_TEXT, Columns

# CommonMark's headings: `# Title ##`, or a line that `===` or `---` stands under.
ATX = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*$")
UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*$")
PARAGRAPH = re.compile(r" {0,3}[^\s>|#*+-]")  # the first line of one, which can be underlined
FENCE = re.compile(r" {0,3}(?:(`{3,})([^`]*)|(~{3,})(.*))$")
LINE_END = re.compile(r"\r\n?|\n")
BOM = "\ufeff"
FRONT_MATTER, ENDS_OF_FRONT_MATTER = "---", ("---", "...")


def read_text(file: CorpusFile, stream: BinaryIO, columns: Columns) -> Iterator[Row]:
    """The one row of a file: id, title and text, and the keys of the folders it lies in."""
    try:
        found = columns.find(["id", "title", "text", *file.keys])
    except RowProblem as problem:
        raise CorpusError(f"{file.shown}: {problem}") from None
    content = stream.read(MAX_TEXT + 1)
    try:
        text = _decoded(content)
    except RowProblem as problem:
        yield f"{file.shown}, line 1", problem
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        reason = f"invalid UTF-8 at byte {error.start} of the file"
        yield f"{file.shown}, line {line}", RowProblem(reason)
    else:
        title = _title(file, text) if text.strip() else None  # an empty file is no document
        fields = {"id": file.place, "title": title, "text": text, **file.keys}
        yield f"{file.shown}, line 1", (fields, found)


def _decoded(content: bytes) -> str:
    kind = looks_like(content)
    if kind is not None:
        raise RowProblem(f"this is {kind}, not text in UTF-8")
    if len(content) > MAX_TEXT:
        raise RowProblem(f"the text is longer than {MAX_TEXT} bytes; split the document")
    return content.decode().removeprefix(BOM)


def _title(file: CorpusFile, text: str) -> str:
    heading = None if file.format == ".txt" else first_heading(text)
    return heading or file_title(file.name)


def file_title(name: str) -> str:
    """A file's name without the extensions that state its format."""
    path = Path(name)
    if path.suffix.lower() in PACKINGS:
        path = path.with_suffix("")
    return path.stem if path.suffix.lower() in TEXT_FORMATS else path.name


def first_heading(markdown: str) -> str | None:
    """The text of the first heading of any level, as it is written; None where there is none.

    What stands in front matter or in fenced code is no heading.
    """
    fence, above = "", ""
    for line in _body(markdown):
        mark = FENCE.match(line)
        if fence or mark is not None:
            fence, above = _inside_fence(fence, mark), ""
            continue
        heading = ATX.match(line)
        if heading is not None and heading[1]:
            return heading[1]
        if above and UNDERLINE.match(line):
            return above
        above = line.strip() if PARAGRAPH.match(line) else ""
    return None


def _inside_fence(fence: str, mark: re.Match[str] | None) -> str:
    """The fence that code stands behind after a line with this mark; none where it has ended, at
    a mark of its own kind, at least as long, with nothing behind it.
    """
    if mark is None:
        return fence
    found, behind = mark[1] or mark[3], mark[2] or mark[4] or ""
    if not fence:
        return found
    return "" if found.startswith(fence) and not behind.strip() else fence


def _body(markdown: str) -> list[str]:
    """The lines behind the front matter, where there is one."""
    lines = LINE_END.split(markdown)
    if lines and lines[0].rstrip() == FRONT_MATTER:
        for number, line in enumerate(lines[1:], start=1):
            if line.rstrip() in ENDS_OF_FRONT_MATTER:
                return lines[number + 1 :]
    return lines
