"""What can answer: a reader that points at passages, or a generator that writes from a prompt."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

ROOM = 2_048  # tokens of a prompt, for a generator that does not say
CHARACTERS_PER_TOKEN = 4
LEAST_OF_PASSAGE = 16  # tokens below which a piece of a passage tells nothing
UNKNOWN = "unanswerable"
INSTRUCTION = (
    "Answer the question from the passages below, in as few of their words as will do. If they do "
    f"not say, answer: {UNKNOWN}"
)


class Generator(Protocol):
    """Anything that writes. It may say its ``room``, the most tokens of a prompt, and count them:
    ``count_tokens(text) -> int``; and write piece by piece, as :class:`StreamingGenerator` does.
    """

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """What is written for each prompt."""


@runtime_checkable
class StreamingGenerator(Protocol):
    """A generator that can be watched."""

    def stream(self, prompt: str) -> Iterator[str]:
        """The pieces of what :meth:`Generator.generate` would write."""


@dataclass(frozen=True, slots=True)
class Span:
    """Characters ``start`` … ``end`` of passage ``passage``, counted from 0."""

    passage: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Finding:
    """An answer and every place where it was found, the likeliest first; ``confidence`` 0 … 1."""

    spans: Sequence[Span]
    confidence: float


@runtime_checkable
class Reader(Protocol):
    """What answers by pointing; ``threshold`` is the least confidence worth an answer."""

    @property
    def threshold(self) -> float:
        """0 … 1."""

    def read(
        self, questions: Sequence[str], passages: Sequence[Sequence[str]]
    ) -> list[Finding | None]:
        """The best answer to each question in its passages; None where they hold none at all."""


def make_prompt(generator: object, question: str, passages: Sequence[str]) -> str:
    """Instruction, passages and question within the generator's room.

    A passage stands on one line behind its number, so that nothing in it can pass for another line;
    those that find no room are cut, then left out, the last ones first. A question may take half of
    the room.
    """
    count = getattr(generator, "count_tokens", _estimated)
    room = getattr(generator, "room", ROOM)
    question = one_line(question)
    if count(question) > room // 2:
        question = _cut(question, room // 2, count)
    asked = f"Question: {question}\nAnswer:"
    left = room - count(f"{INSTRUCTION}\n\n{asked}\n")
    lines = []
    for number, passage in enumerate(passages, start=1):
        line = f"[{number}] {one_line(passage)}"
        needed = count(line) + 1
        if needed > left:
            if left >= LEAST_OF_PASSAGE:
                lines.append(_cut(line, left, count))
            break
        lines.append(line)
        left -= needed
    return "\n".join([INSTRUCTION, "", *lines, "", asked])


def _cut(line: str, left: int, count: Callable[[str], int]) -> str:
    """As much of the beginning as counts less, up to the end of a word where one is near."""
    fits, over = 0, len(line)
    while over - fits > 1:
        middle = (fits + over) // 2
        fits, over = (middle, over) if count(line[:middle]) < left else (fits, middle)
    space = line.rfind(" ", fits * 3 // 4, fits + 1)
    return line[: space if space > 0 else fits]


def one_line(text: str) -> str:
    """A text without line breaks, controls and runs of spaces."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _estimated(text: str) -> int:
    return -(-len(text) // CHARACTERS_PER_TOKEN)
