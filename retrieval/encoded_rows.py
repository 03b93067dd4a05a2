"""Rows that wait to be encoded, to what an index stores of them."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from retrieval.background import Background, Pending
from retrieval.documents import Document, with_dropped
from retrieval.encoding import Counts, TextEncoder, Vectors

Row = tuple[Document, bytes]  # a document and its payload


class Encoded(NamedTuple):
    """Rows as an index stores them: float32 [n, dim], payloads with the tokens that were not read,
    and these; ``fraction`` of the source was read with them.
    """

    documents: list[Document]
    vectors: Vectors
    payloads: list[bytes]
    lost: list[int]
    fraction: float | None


def encode_rows(encoder: TextEncoder, rows: Sequence[Row]) -> Encoded:
    """Encode rows, and wait for it."""
    texts = [document.full_text for document, _ in rows]
    return _stored(rows, *encoder.encode_document(texts), None)


def _stored(
    rows: Sequence[Row], vectors: Vectors, dropped: Counts, fraction: float | None
) -> Encoded:
    lost = dropped.tolist()
    payloads = [with_dropped(row[1], tokens) for row, tokens in zip(rows, lost, strict=True)]
    return Encoded([document for document, _ in rows], vectors, payloads, lost, fraction)


class _Flight(NamedTuple):
    """A window on its way: where its first row stands among all, and the vectors to come."""

    first: int
    rows: list[Row]
    pending: Pending
    fraction: float | None


class RowsInFlight:
    """Rows encoded a window at a time: while one window is encoded the next fills, and the one
    before goes to ``write``, in order. ``fraction`` tells how much of their source is read.
    """

    def __init__(
        self,
        background: Background,
        fraction: Callable[[], float | None],
        write: Callable[[Encoded], None],
    ) -> None:
        self._background, self._fraction, self._write = background, fraction, write
        self._flights: deque[_Flight] = deque()
        self._window: list[Row] = []
        self._bytes = self._sent = 0

    def add(self, row: Document, payload: bytes) -> None:
        """Take a row in."""
        self._window.append((row, payload))
        self._bytes += len(payload)
        window = self._background.window
        if len(self._window) >= window.rows or self._bytes >= window.bytes:
            self._send()
            if len(self._flights) > 1:
                self._land()

    def finish(self) -> None:
        """Have all written."""
        if self._window:
            self._send()
        while self._flights:
            self._land()

    def keep(self, written: Callable[[], int]) -> None:
        """Write what is encoded already, when there was an interruption: ``written`` tells how many
        rows were taken in whole, for it may have come at any moment.
        """
        self._background.close()
        while self._flights and self._flights[0].pending.done():
            if self._flights[0].first != written():
                break
            self._land()

    def _send(self) -> None:
        pending = self._background.submit([row.full_text for row, _ in self._window])
        self._flights.append(_Flight(self._sent, self._window, pending, self._fraction()))
        self._sent += len(self._window)
        self._window, self._bytes = [], 0

    def _land(self) -> None:
        first = self._flights[0]
        encoded = _stored(first.rows, *first.pending.result(), first.fraction)
        self._flights.popleft()
        self._write(encoded)
