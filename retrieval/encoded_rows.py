"""Rows that wait to be encoded, to what an index stores of them."""

from collections.abc import Sequence

from retrieval.documents import Document, with_dropped
from retrieval.encoding import TextEncoder, Vectors


def encode_rows(
    encoder: TextEncoder, rows: Sequence[tuple[Document, bytes]]
) -> tuple[Vectors, list[bytes], list[int]]:
    """The vectors float32 [n, dim] of documents, their payloads with what they lost, and that: the
    tokens of each that were not read.
    """
    vectors, dropped = encoder.encode_document([document.full_text for document, _ in rows])
    lost = dropped.tolist()
    payloads = [with_dropped(row[1], tokens) for row, tokens in zip(rows, lost, strict=True)]
    return vectors, payloads, lost
