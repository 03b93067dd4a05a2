"""The records that travel between the rooms."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import NamedTuple

Scalar = str | int | float | bool | date | list[str] | None
Metadata = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Document:
    """One row of a corpus. ``metadata`` comes back with every hit and serves filters.

    A passage of a longer document has the id of that in ``parent``, and in ``start`` the character
    of its text at which its own begins.
    """

    id: str
    text: str
    title: str = ""
    metadata: Metadata = field(default_factory=dict)
    parent: str | None = None
    start: int | None = None

    @property
    def full_text(self) -> str:
        """What is encoded: title and text joined by one space, as BEIR does."""
        return f"{self.title} {self.text}".strip() if self.title else self.text

    @property
    def document_id(self) -> str:
        """The id of the whole document: a passage's parent, or its own."""
        return self.id if self.parent is None else self.parent


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found, or of a longer one the best passage: ``rank`` counts from 1,
    ``score`` is the cosine in [-1, 1]. ``parent`` is the id of the document that a passage is of,
    ``start`` the character of its text at which the passage begins; ``scores`` are those that the
    order goes by where it is not the cosine: lexical (BM25), fused.
    """

    rank: int
    id: str
    score: float
    text: str
    title: str
    metadata: Metadata
    parent: str | None = None
    start: int | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def document_id(self) -> str:
        """The id of the whole document: a passage's parent, or its own."""
        return self.id if self.parent is None else self.parent

    def to_dict(self) -> dict[str, object]:
        """Plain data, dates as ISO text; ``parent`` and ``start`` only of a passage, ``scores``
        where there are others than the cosine.
        """
        record = asdict(self)
        if self.parent is None:
            del record["parent"], record["start"]
        if not self.scores:
            del record["scores"]
        record["metadata"] = {name: to_json(value) for name, value in self.metadata.items()}
        return record


@dataclass(frozen=True, slots=True)
class Citation:
    """Characters ``start`` … ``end`` of the text of the hit ``id``: ``quote`` is that slice."""

    id: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the passages say: ``text`` is None when they do not. ``confidence`` in [0, 1] is that of
    the best answer there was, given or not; ``hits`` are the passages that were read.
    """

    text: str | None
    confidence: float
    citations: list[Citation]
    hits: list[Hit]

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        return {
            "answer": self.text,
            "confidence": self.confidence,
            "citations": [asdict(citation) for citation in self.citations],
            "hits": [hit.to_dict() for hit in self.hits],
        }


class Qrel(NamedTuple):
    """A relevance judgment; ``relevance`` 0 means judged and not relevant."""

    query_id: str
    doc_id: str
    relevance: int


def to_json(value: Scalar) -> object:
    """A metadata value as JSON holds it."""
    return value.isoformat() if isinstance(value, date) else value


def to_payload(document: Document) -> bytes:
    """The stored form: one JSON object, UTF-8, always the same bytes for the same document."""
    record: dict[str, object] = {
        "id": document.id,
        "text": document.text,
        "title": document.title,
        "metadata": {name: to_json(value) for name, value in document.metadata.items()},
    }
    if document.parent is not None:
        record |= {"parent": document.parent, "start": document.start}
    return json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def with_dropped(payload: bytes, dropped: int) -> bytes:
    """The payload with the number of tokens that the encoder did not read, where there are any."""
    return payload[:-1] + b',"dropped":%d}' % dropped if dropped else payload


def dropped_in(stored: bytes, payload: bytes) -> int | None:
    """The number that :func:`with_dropped` put into a payload; None for another document's."""
    if stored == payload:
        return 0
    match = re.fullmatch(rb',"dropped":(\d+)}', stored[len(payload) - 1 :])
    return int(match[1]) if match and stored.startswith(payload[:-1]) else None
