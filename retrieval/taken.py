"""The documents that a build has taken so far, by the ids of their rows."""

from collections.abc import Iterable, Sequence

from indexes.keys import KeyTable
from indexes.layout import id_of, key_of
from indexes.writer import IndexWriter
from retrieval.documents import Document
from retrieval.duplicates import OnDuplicate, repeated
from retrieval.parents import check_owner, owner_in, rows_of
from retrieval.passages import passage_id


class Taken:
    """Those in the writer, and those that wait to be encoded. ``cuts`` says whether documents are
    cut: where they are not, each has one row, of its own id.
    """

    def __init__(self, writer: IndexWriter, on_duplicate: OnDuplicate, *, cuts: bool) -> None:
        self._writer, self._on_duplicate, self._cuts = writer, on_duplicate, cuts
        self._waiting: dict[str, str] = {}  # the id of a row: that of its document
        self._came = KeyTable()
        self._again: dict[str, list[str]] = {}  # a document that came again: its rows now

    def is_duplicate(self, document: Document, rows: int, where: str) -> bool:
        """Whether to pass a document over because its id came before, in the first ``rows`` rows of
        the writer or since; CorpusError where that is an error.
        """
        if self._on_duplicate == "last" or not self._came_before(document, rows):
            return False
        if self._on_duplicate == "first":
            return True
        raise repeated(where, document.id)

    def _came_before(self, document: Document, rows: int) -> bool:
        if not self._cuts:
            return self._owner(document.id, rows) is not None
        first_rows = document.id, passage_id(document.id, 0)
        return any(self._owner(row_id, rows) == document.document_id for row_id in first_rows)

    def _owner(self, row_id: str, rows: int | None = None) -> str | None:
        """The document that a row belongs to; None where there is no such row yet."""
        if row_id in self._waiting:
            return self._waiting[row_id]
        at = self._writer.find(row_id)
        if at is None or (rows is not None and at >= rows):
            return None
        return owner_in(self._writer.payload(at))

    def take(self, document: Document, rows: Sequence[Document]) -> None:
        """Note the rows that a document has, whether they are encoded already or not."""
        if not self._cuts or self._on_duplicate != "last":
            return
        key = key_of(document.id)
        if next(self._came.rows(key), None) is None:
            self._came.add(key, 0)
        else:
            self._again[document.id] = [row.id for row in rows]

    def wait(self, row: Document, where: str) -> None:
        """Take in a row that is to be encoded; CorpusError where its id is another document's."""
        if self._cuts:
            check_owner(row, self._owner(row.id), where)
        self._waiting[row.id] = row.document_id

    def encoded(self, rows: Iterable[Document]) -> None:
        """The writer holds these rows, which waited."""
        for row in rows:
            self._waiting.pop(row.id, None)

    def drop_replaced(self) -> None:
        """Delete the passages that documents had before they came again with fewer."""
        for document_id, kept in self._again.items():
            rows = rows_of(document_id, self._writer)
            ids = {id_of(self._writer.payload(row)) for row in rows}
            self._writer.delete(sorted(ids.difference(kept)))
