"""Long documents to passages that know their parent and where they stand in its text."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from indexes.errors import IndexCorrupt
from indexes.manifest import Content
from retrieval.cutting import Span, TokenizedText, sentences, windows
from retrieval.documents import Document
from retrieval.encoding import TextEncoder
from retrieval.errors import ModelError
from retrieval.read_ahead import ReadAhead

LOOKED_AT = 1_000  # documents that ``auto`` decides by
SHARE = 0.01  # of them may lose text before it cuts
OVERLAP = 8  # windows share an eighth of their tokens
LETTER = "x "  # a text of so many tokens
KINDS: Mapping[str, Callable[[TokenizedText, int, int], Iterator[Span]] | None] = {
    "none": None,
    "window": windows,
    "sentences": sentences,
}
FORM = "auto, none, window[:SIZE[:OVERLAP]] or sentences"


@dataclass(frozen=True)
class Passages:
    """How documents are cut: ``kind`` is one of :data:`KINDS` or auto; ``size`` and ``overlap`` are
    those of windows, in tokens of the text, at most. None is as much as the model reads, and an
    eighth of that.
    """

    kind: str
    size: int | None = None
    overlap: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Passages":
        """What ``--passages`` says, and an index remembers; ValueError for anything else."""
        kind, *numbers = text.split(":")
        wrong = kind not in ("auto", *KINDS) or len(numbers) > 2 * (kind == "window")
        if wrong or not all(re.fullmatch("[0-9]{1,9}", number) for number in numbers):
            raise ValueError(f"passages must be {FORM}, got {text!r}")
        cut = cls(kind, *map(int, numbers))
        if cut.size is not None and not (cut.overlap or 0) < cut.size:
            raise ValueError(f"passages {text!r}: windows must be larger than their overlap")
        return cut

    def __str__(self) -> str:
        numbers = (number for number in (self.size, self.overlap) if number is not None)
        return ":".join([self.kind, *map(str, numbers)])


class Cutter:
    """Cuts documents for an encoder so that it reads all of every passage, title and all."""

    def __init__(self, encoder: TextEncoder, passages: Passages) -> None:
        """ModelError where the encoder cannot tell where its tokens begin and end."""
        if passages.kind != "none" and not _can_be_cut_for(encoder):
            raise ModelError(
                f"{type(encoder).__name__} has no offsets(text), by which documents are cut into "
                "passages; give it one, or pass passages='none'"
            )
        self.passages = passages
        self._encoder = encoder
        self._cut = KINDS[passages.kind]

    def cut(self, document: Document) -> list[Document]:
        """The passages of a document, in order; the document itself where that is one of them.

        Windows leave a document whole that fits into one. The text of a passage is a slice of the
        document's that begins at ``start``; every character but white space is in one. A title of
        more than half of what the encoder reads is shortened where the text is cut. What has no
        text, or is a passage already, stays as it is.
        """
        if self._cut is None or document.parent is not None or not document.text.strip():
            return [document]
        tokens, of_title = self._tokens(document.text), len(self._tokens(document.title))
        whole = self._is_read(len(tokens) + of_title)
        if whole and (not len(tokens) or self.passages == Passages("window")):
            return [document]
        title, room = document.title, self._readable - of_title
        if not whole:
            title, room = self._shortened(title)
        spans = self._spans(tokens, room)
        if whole and len(spans) == 1:
            return [document]
        return [
            Document(
                passage_id(document.id, number),
                document.text[start:end],
                title,
                document.metadata,
                parent=document.id,
                start=start,
            )
            for number, (start, end) in enumerate(spans)
        ]

    def loses(self, document: Document) -> bool:
        """Whether the encoder would leave out some of the text, were the document not cut."""
        tokens = len(self._tokens(document.title)) + len(self._tokens(document.text))
        return bool(document.text.strip()) and not self._is_read(tokens)

    def _tokens(self, text: str) -> TokenizedText:
        return TokenizedText(text, self._encoder.offsets)

    def _is_read(self, tokens: int) -> bool:
        """Whether a text of so many tokens is read to its end. One of half the length is, whatever
        the encoder adds: most corpora need no measuring.
        """
        return 2 * tokens <= self._encoder.max_length or tokens <= self._readable

    @cached_property
    def _readable(self) -> int:
        """How many tokens of a text are read: the length without what the encoder adds, such as
        [CLS], [SEP] and a prompt. It is measured, because only the encoder knows: on a text that
        is just too long, since what is lost of longer ones may be a guess.
        """
        text = LETTER * (self._encoder.max_length + 1)
        while (tokens := len(self._tokens(text))) <= self._encoder.max_length:
            text += text
        return tokens - int(self._encoder.encode_document([text])[1][0])

    def _shortened(self, title: str) -> tuple[str, int]:
        """The title that passages carry, and how many tokens it leaves for their texts."""
        tokens, most = self._tokens(title), self._readable // 2
        if len(tokens) > most:
            first, last = tokens.span(0, most)
            title = title[first:last]
            tokens = self._tokens(title)
        return title, max(1, self._readable - len(tokens))

    def _spans(self, tokens: TokenizedText, room: int) -> list[Span]:
        size = min(room, self.passages.size or room)
        overlap = size // OVERLAP if self.passages.overlap is None else self.passages.overlap
        spans = self._cut(tokens, size, overlap) if self._cut else ()
        parts = [part for span in spans for part in tokens.within(span, room)]
        kept: list[Span] = []
        for start, end in sorted(parts, key=lambda part: (part[0], -part[1])):
            if not kept or end > kept[-1][1]:  # else the one before holds all of it
                kept.append((start, end))
        return kept


def _can_be_cut_for(encoder: TextEncoder) -> bool:
    return callable(getattr(encoder, "offsets", None))


class Looked(NamedTuple):
    """How many documents ``auto`` looked at, and how many of them would lose text."""

    documents: int = 0
    losing: int = 0


def choose(asked: Passages, encoder: TextEncoder, documents: ReadAhead) -> tuple[Cutter, Looked]:
    """What cuts the documents: as asked; ``auto`` cuts windows where more than :data:`SHARE` of the
    first documents would lose text, and nothing for an encoder without offsets.
    """
    if asked.kind == "auto" and not _can_be_cut_for(encoder):
        asked = Passages("none")
    if asked.kind != "auto":
        return Cutter(encoder, asked), Looked()
    windowed = Cutter(encoder, Passages("window"))
    first = documents.first(LOOKED_AT)
    looked = Looked(len(first), sum(map(windowed.loses, first)))
    if looked.losing > SHARE * looked.documents:
        return windowed, looked
    return Cutter(encoder, Passages("none")), looked


def recorded(content: Content) -> Passages:
    """How the documents of an index were cut; IndexCorrupt where it says something else."""
    try:
        return Passages.parse(content.source.get("passages", "none"))
    except (ValueError, AttributeError):
        found = str(content.source["passages"])[:40]
        raise IndexCorrupt(f"the manifest says passages={found!r}; expected {FORM}") from None


def passage_id(document_id: str, number: int) -> str:
    """The id of a passage, which no other document may have."""
    return f"{document_id}#{number}"
