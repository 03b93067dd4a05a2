"""What becomes of each row: a Document, nothing where it is empty, or why it cannot be one."""

from collections.abc import Iterable, Iterator
from typing import Any

from retrieval.documents import Document
from retrieval.errors import RowProblem
from retrieval.lines import Row
from retrieval.rows import RowReader, check_document

# Where a row stands, what it is, and its vector where a column holds one.
Outcome = tuple[str, Document | RowProblem | None, Any]


def from_rows(rows: Iterable[Row], reader: RowReader) -> Iterator[Outcome]:
    """The document of each row."""
    for where, row in rows:
        if isinstance(row, RowProblem):
            yield where, row, None
            continue
        fields, columns = row
        vector = fields.get(columns.vector) if columns.vector else None
        try:
            yield where, reader.document(fields, columns), vector
        except RowProblem as problem:
            yield where, problem, None


def of_documents(documents: Iterable[Document]) -> Iterator[Outcome]:
    """Documents that somebody else made, checked one by one."""
    for number, document in enumerate(documents, start=1):
        where = f"document {number}"
        if not isinstance(document, Document):
            yield where, RowProblem(f"expected a Document, got {type(document).__name__}"), None
            continue
        try:
            check_document(document)
        except RowProblem as problem:
            yield where, problem, None
            continue
        yield where, document if document.full_text.strip() else None, None
