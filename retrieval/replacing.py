"""Documents in the place of the rows that they had: encoded a window at a time, one upsert each."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from indexes.layout import Vectors, id_of
from indexes.standing import Place, Standing
from indexes.writer import IndexWriter
from retrieval.documents import Document, with_dropped
from retrieval.encoded_rows import encode_rows
from retrieval.encoding import WINDOW, WINDOW_BYTES, TextEncoder
from retrieval.parents import Holder, check_owner, owner_in, rows_of


class _Row(NamedTuple):
    """A row that waits; ``vector`` is there where the text has not changed, then it lost ``lost``
    tokens.
    """

    document: Document
    payload: bytes
    vector: Vectors | None = None
    lost: int = 0


class Replacing:
    """The rows under a change. ``cuts`` says whether the index cuts documents; ``source`` is what
    its manifest keeps of the corpus, in which the counts of what the model did not read stay true.
    ``told`` is called with the number of encoded rows after each window. Without a writer nothing
    changes.
    """

    def __init__(
        self,
        standing: Standing,
        writer: IndexWriter | None,
        encoder: TextEncoder | None,
        source: Mapping[str, Any],
        told: Callable[[int], None],
        *,
        cuts: bool,
    ) -> None:
        self._standing, self._writer, self._encoder = standing, writer, encoder
        self._told, self._cuts = told, cuts
        self._waiting: dict[str, tuple[Document, list[_Row]]] = {}  # by id
        self._owners: dict[str, str] = {}  # of the rows that wait
        self._held = 0  # bytes that wait
        self.source = {"truncated": 0, "truncated_tokens": 0, **source}
        self._encoded = 0

    def places(self, document: Document) -> list[Place]:
        """Where the rows of a document stand, in order; none where the index does not have it."""
        return self._places(document, self._standing)

    def _places(self, document: Document, holder: Holder) -> list[Any]:
        if self._cuts:
            return rows_of(document.id, holder, document.parent)
        place = holder.find(document.id)
        return [] if place is None else [place]

    def payload(self, place: Place) -> bytes:
        """What stands there."""
        return self._standing.payload(place).removesuffix(b"\n")

    def wait(self, document: Document, rows: Sequence[tuple[Document, bytes]], where: str) -> None:
        """Take in the rows that a document has now; CorpusError where an id is another's."""
        for row, _ in rows if self._cuts else ():
            check_owner(row, self._owner(row.id), where)
            self._owners[row.id] = row.document_id
        if self._writer is None:
            return
        known = dict(map(self._vector, self.places(document)))
        self._waiting.pop(document.id, None)  # of one that comes again the latest counts
        waiting = [_Row(row, payload, *known.get(row.full_text, ())) for row, payload in rows]
        self._waiting[document.id] = document, waiting
        self._held += sum(len(payload) for _, payload in rows)
        # A window ends with a document: what is committed early has no half of one.
        waiting_rows = sum(len(of) for _, of in self._waiting.values())
        if waiting_rows >= WINDOW or self._held >= WINDOW_BYTES:
            self.flush()

    def _owner(self, row_id: str) -> str | None:
        """The document that a row belongs to; None where there is no such row."""
        holders: list[Holder | None] = [self._standing, self._writer]
        for holder in filter(None, holders):
            place = None if row_id in self._owners else holder.find(row_id)
            if place is not None:
                return owner_in(holder.payload(place))
        return self._owners.get(row_id)

    def _vector(self, place: Place) -> tuple[str, tuple[Vectors, int]]:
        """The text of a row that is encoded; its vector, and what it lost."""
        record = json.loads(self._standing.payload(place))
        text = Document(record["id"], record["text"], record["title"]).full_text
        return text, (self._standing.vector(place), record.get("dropped", 0))

    def flush(self) -> None:
        """Encode what waits, and put it in the place of what there was."""
        if not self._waiting or self._writer is None or self._encoder is None:
            return
        rows = [row for _, of in self._waiting.values() for row in of]
        replaced = [
            holder.payload(place)
            for document, _ in self._waiting.values()
            for holder in (self._standing, self._writer)
            for place in self._places(document, holder)
        ]
        vectors, payloads, lost = self._stored(self._encoder, rows)
        self._writer.upsert(vectors, payloads)
        gone = {id_of(payload) for payload in replaced}
        self._writer.delete(sorted(gone.difference(row.document.id for row in rows)))
        for tokens in lost:
            self._count_lost(tokens, 1)
        for payload in replaced:
            self._forget(payload)
        self._waiting.clear()
        self._owners.clear()
        self._held = 0
        self._told(self._encoded)

    def _stored(
        self, encoder: TextEncoder, rows: Sequence[_Row]
    ) -> tuple[Vectors, list[bytes], list[int]]:
        """As :func:`encode_rows` gives them, rows with a vector left as they are."""
        fresh = [(row.document, row.payload) for row in rows if row.vector is None]
        self._encoded += len(fresh)
        made = iter(zip(*encode_rows(encoder, fresh)[1:4], strict=True) if fresh else ())
        stored = [
            next(made)
            if row.vector is None
            else (row.vector, with_dropped(row.payload, row.lost), row.lost)
            for row in rows
        ]
        vectors, payloads, lost = zip(*stored, strict=True)
        return np.stack(vectors), list(payloads), list(lost)

    def remove(self, place: Place) -> None:
        """Take a row away for good."""
        self._forget(self._standing.payload(place))
        self._standing.kill(place)

    def _forget(self, payload: bytes) -> None:
        self._count_lost(json.loads(payload).get("dropped", 0), -1)

    def _count_lost(self, tokens: int, sign: int) -> None:
        self.source["truncated"] += sign * (tokens > 0)
        self.source["truncated_tokens"] += sign * tokens
