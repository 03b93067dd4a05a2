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
    """One row of a corpus. ``metadata`` comes back with every hit and serves filters."""

    id: str
    text: str
    title: str = ""
    metadata: Metadata = field(default_factory=dict)

    @property
    def full_text(self) -> str:
        """What is encoded: title and text joined by one space, as BEIR does."""
        return f"{self.title} {self.text}".strip() if self.title else self.text


@dataclass(frozen=True, slots=True)
class Hit:
    """A document that was found: ``rank`` counts from 1, ``score`` is the cosine in [-1, 1]."""

    rank: int
    id: str
    score: float
    text: str
    title: str
    metadata: Metadata

    def to_dict(self) -> dict[str, object]:
        """Plain data, dates as ISO text."""
        record = asdict(self)
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
    record = {
        "id": document.id,
        "text": document.text,
        "title": document.title,
        "metadata": {name: to_json(value) for name, value in document.metadata.items()},
    }
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
