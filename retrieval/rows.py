"""One row of a corpus file to one Document: which column is what, and what a value may be."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isfinite, isnan

from indexes.keys import KeyTable
from retrieval.documents import Document, Scalar
from retrieval.encoding import is_utf8
from retrieval.errors import RowProblem
from retrieval.schema import type_of

ID_NAMES = ("id", "_id", "doc_id")
TEXT_NAMES = ("text", "content", "body", "passage")
TITLE_NAMES = ("title",)
MAX_TEXT = 16 * 2**20  # characters or bytes of one text, and bytes of one line


@dataclass(frozen=True)
class Columns:
    """Which columns to read; None means by name, and for metadata every other scalar one, with
    ``lists`` every list of texts too. A ``vector`` column is none unless it is named.
    """

    text: str | None = None
    id: str | None = None
    title: str | None = None
    metadata: Sequence[str] | None = None
    vector: str | None = None
    lists: bool = False

    def asked(self) -> set[str]:
        """The columns that were asked for by name."""
        named = (self.text, self.id, self.title, self.vector, *(self.metadata or ()))
        return {name for name in named if name is not None}

    def find(self, names: Sequence[str]) -> "FoundColumns":
        """The columns of a file or row with these names; RowProblem when a named one is absent."""
        for name in sorted(self.asked()):
            if name not in names:
                raise RowProblem(
                    f"there is no column {name!r}; found: {', '.join(names)}"
                    + "; name the vectors with --vector-column or --vectors" * (name == self.vector)
                )
        text = self.text or _first(TEXT_NAMES, names)
        if text is None:
            raise RowProblem(
                f"there is no text column; expected one of {', '.join(TEXT_NAMES)}; "
                f"found: {', '.join(names) or 'none'}; name it with --text-column"
            )
        return self.found_in(names)

    def found_in(self, names: Sequence[str]) -> "FoundColumns":
        """The columns among these names, without a complaint."""
        text = self.text or _first(TEXT_NAMES, names)
        row_id = self.id or _first(ID_NAMES, names)
        title = self.title or _first(TITLE_NAMES, names)
        others = [name for name in names if name not in (text, row_id, title, self.vector)]
        by_name = self.metadata is not None
        metadata = others if self.metadata is None else list(self.metadata)
        lists = by_name or self.lists
        return FoundColumns(text, row_id, title, metadata, by_name, lists, self.vector)


@dataclass(frozen=True)
class FoundColumns:
    """The columns of one file; ``strict`` when the metadata columns were asked for by name,
    ``lists`` when lists of texts are metadata.
    """

    text: str | None
    id: str | None
    title: str | None
    metadata: Sequence[str]
    strict: bool
    lists: bool = False
    vector: str | None = None


def _first(candidates: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in candidates if name in names), None)


class RowReader:
    """Turns fields into Documents; remembers the ids that it made up, so that none comes twice."""

    def __init__(self) -> None:
        self._made = KeyTable()
        self._count = 0
        self._repeats: dict[int, int] = {}

    def document(self, fields: Mapping[str, object], columns: FoundColumns) -> Document | None:
        """The row's Document; None when it has neither text nor title. RowProblem says why not."""
        text = _text(fields, columns.text)
        title = _text(fields, columns.title)
        if not text.strip() and not title.strip():
            return None
        row_id = _id(fields, columns.id) or self._made_id(title, text)
        metadata = {
            name: value
            for name in columns.metadata
            if (value := _scalar(name, fields.get(name), columns)) is not _LEFT_OUT
        }
        document = Document(row_id, text, title, metadata)  # type: ignore[arg-type]
        check_document(document)
        return document

    def _made_id(self, title: str, text: str) -> str:
        """An id from the content, stable wherever the row stands; repeated content counts on."""
        content = f"{title}\0{text}"
        key = _hash(content)
        if next(self._made.rows(key), None) is not None:
            self._repeats[key] = self._repeats.get(key, 0) + 1
            key = _hash(f"{content}\0{self._repeats[key]}")
        else:
            self._made.add(key, self._count)
            self._count += 1
        return f"{key:016x}"


def _hash(content: str) -> int:
    digest = hashlib.blake2b(content.encode(errors="surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big")


def check_document(document: Document) -> None:
    """RowProblem unless every part of a Document can be stored and encoded."""
    for name in ("id", "text", "title"):
        value = getattr(document, name)
        if not isinstance(value, str):
            raise RowProblem(f"the {name} is {type(value).__name__}; expected text")
        _check_unicode(name, value)
    if not document.id:
        raise RowProblem("the id is empty")
    if len(document.text) > MAX_TEXT or len(document.title) > MAX_TEXT:
        raise RowProblem(f"the text is longer than {MAX_TEXT} characters; split it")
    for name, value in document.metadata.items():
        _check_unicode("name of a metadata column", name)
        for part in value if isinstance(value, list) else [value]:
            _check_part(f"metadata {name!r}", part)


def _check_part(name: str, value: object) -> None:
    if isinstance(value, str):
        _check_unicode(name, value)
    if isinstance(value, float) and not isfinite(value):
        raise RowProblem(f"{name} is {value}; expected a finite number")


def _check_unicode(name: str, value: str) -> None:
    if not is_utf8(value):
        raise RowProblem(f"the {name} holds a lone surrogate or invalid UTF-8")


def _text(fields: Mapping[str, object], column: str | None) -> str:
    value = None if column is None else fields.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowProblem(f"column {column!r} holds {_kind(value)}; expected text")
    return value


def _id(fields: Mapping[str, object], column: str | None) -> str:
    value = None if column is None else fields.get(column)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise RowProblem(f"column {column!r} holds {_kind(value)}; expected text or a whole number")
    return str(value)


class _LeftOut:
    """A value that is no metadata: nested, or of a type that has no place in the schema."""


_LEFT_OUT = _LeftOut()


def _scalar(name: str, value: object, columns: FoundColumns) -> Scalar | _LeftOut:
    """A metadata value; lists and odd types only count when their column was asked for."""
    if isinstance(value, Decimal):
        value = float(value)
    if value is None or (isinstance(value, float) and isnan(value)):
        return None
    kind = type_of(value)
    if kind is None and (columns.strict or isinstance(value, int)):
        raise RowProblem(
            f"metadata {name!r} holds {_kind(value)}; expected text, a number of "
            "at most 64 bits, true or false, or a date"
        )
    if kind is None or (isinstance(value, list) and not columns.lists):
        return _LEFT_OUT
    return value  # type: ignore[return-value]  # type_of has just named its type


def _kind(value: object) -> str:
    return f"{type(value).__name__} ({str(value)[:30]})"
