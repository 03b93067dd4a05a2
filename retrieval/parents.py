"""The rows that a document has in an index: its own, or those of its passages."""

import json
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any, Protocol

from indexes.view import View
from retrieval.documents import Document
from retrieval.errors import CorpusError
from retrieval.hits import document
from retrieval.passages import passage_id, recorded


class Holder(Protocol):
    """What has rows by id: a view, a writer's build, the rows that stand under a change."""

    def find(self, row_id: str, /) -> Any:
        """The place of a row; None where there is none."""

    def payload(self, place: Any, /) -> bytes:
        """What is stored there."""


def rows_of(document_id: str, holder: Holder, owner: str | None = None) -> list[Any]:
    """The places of a document's rows, in the order of its text; none where it is not there.
    ``owner`` is the parent of a document that came as a passage already.
    """
    own = holder.find(document_id)
    is_row = own is not None and owner_in(holder.payload(own)) == (owner or document_id)
    places = [own] if is_row else []
    for number in count():
        place = holder.find(passage_id(document_id, number))
        if place is None or owner_in(holder.payload(place)) != document_id:
            break
        places.append(place)
    return places


def owner_in(payload: bytes) -> str:
    """The id of the document that a stored row belongs to."""
    record: dict[str, Any] = json.loads(payload)
    return str(record.get("parent") or record["id"])


def is_first(payload: bytes) -> bool:
    """Whether a stored row is the first of its document."""
    record: dict[str, Any] = json.loads(payload)
    return "parent" not in record or record["id"] == passage_id(record["parent"], 0)


def selected(view: View, where: Any) -> Iterator[str]:
    """The documents of the rows that a filter selects, one id for each row."""
    return (owner_in(view.payload(position)) for position in view.select(where).tolist())


def check_owner(row: Document, owner: str | None, where: str) -> None:
    """CorpusError where the row's id is already that of a row of another document, ``owner``."""
    if owner is not None and owner != row.document_id:
        raise CorpusError(
            f"{where}: the id {row.id!r} is that of a passage of the document "
            f"{row.parent or owner!r} and of another document; give one of them another id"
        )


def joined(passages: Sequence[Document]) -> Document:
    """The document that passages in order were cut from; between two that do not overlap its white
    space is there as spaces. A title that was shortened stays so.
    """
    first = passages[0]
    if first.parent is None:
        return first
    parts, reached = [], 0
    for passage in passages:
        start = passage.start or 0
        parts += [" " * (start - reached), passage.text[max(0, reached - start) :]]
        reached = max(reached, start + len(passage.text))
    return Document(first.parent, "".join(parts), first.title, first.metadata)


def whole(view: View, document_id: str) -> Document | None:
    """The document with this id, put together where it was cut; None where there is none."""
    if recorded(view.content).kind == "none":
        place = view.find(document_id)
        return None if place is None else document(view, place)
    places = rows_of(document_id, view)
    return joined([document(view, place) for place in places]) if places else None


def whole_documents(view: View) -> Iterator[Document]:
    """Every document of an index, put together where it was cut, in the order of its rows."""
    rows = (document(view, position) for position in view.positions().tolist())
    if recorded(view.content).kind == "none":
        yield from rows
        return
    for row in rows:
        if row.parent is None:
            yield row
        elif row.id == passage_id(row.parent, 0) and (found := whole(view, row.parent)):
            yield found
