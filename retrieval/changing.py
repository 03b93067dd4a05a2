"""Documents into an index that is there: what is new is encoded, what is equal is left alone."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.layout import id_of, key_of
from indexes.manifest import Content, published, read_manifest
from indexes.standing import Standing
from indexes.view import View
from indexes.writer import IndexWriter
from retrieval.building import build_index
from retrieval.corpus import Corpus, OnError, Source, open_corpus
from retrieval.documents import Document, dropped_in, to_payload
from retrieval.duplicates import OnDuplicate, check_choice, repeated
from retrieval.encoding import HowToCompute, TextEncoder
from retrieval.errors import CorpusError, ModelError, QueryError
from retrieval.parents import is_first, owner_in, rows_of, selected, whole_documents
from retrieval.passages import Cutter, recorded
from retrieval.read_ahead import ReadAhead
from retrieval.replacing import Replacing
from retrieval.report import BuildReport, ChangeReport, Progress
from retrieval.rows import Columns
from retrieval.schema import Schema
from retrieval.sidecars import LEXICAL, SIDECARS

if TYPE_CHECKING:
    from typing import Unpack


def change_index(
    source: Source,
    folder: str | Path,
    *,
    prune: bool = False,
    dry_run: bool = False,
    encoder: TextEncoder | None = None,
    text_column: str | None = None,
    id_column: str | None = None,
    title_column: str | None = None,
    metadata_columns: Sequence[str] | None = None,
    on_error: OnError = "raise",
    rejects: str | Path | None = None,
    on_duplicate: OnDuplicate = "error",
    progress: Callable[[Progress], None] | None = None,
    **how: "Unpack[HowToCompute]",
) -> ChangeReport:
    """Put documents into an index, each in the place of the one with its id; in one commit.

    ``source`` and its options are those of :func:`~retrieval.building.build_index`; documents are
    cut as they were then. One that the index holds already is not encoded again, nor is a passage
    of which only the metadata differ. ``prune`` removes what the source does not have; ``dry_run``
    only counts; ``how`` is to encode: ``device``, ``dtype``, ``deterministic``. Interrupted, it
    keeps what was encoded, and removes nothing. Errors: those of opening an index and of a corpus,
    ModelError for another encoder than the index was built with, IndexLocked, IndexWriteFailed.
    """
    check_choice(on_duplicate)
    folder = Path(folder)
    content = published(folder, read_manifest(folder))
    columns = Columns(text_column, id_column, title_column, metadata_columns)
    corpus = open_corpus(source, columns, on_error=on_error, rejects=rejects)
    rules = on_duplicate, progress or (lambda _: None)
    if dry_run and recorded(content).kind == "none":
        return _Change(corpus, content, Standing(folder, content), None, None, *rules).run(prune)
    if encoder is None:
        from retrieval.assembly import Encoder  # torch, only where it is needed

        encoder = Encoder.from_record(content.model, **how)
    if encoder.fingerprint != content.model["fingerprint"]:
        raise ModelError(
            f"{folder} was built with {content.model.get('name')}; rows of another model cannot "
            "stand beside its rows: build the index again, or move it over with retrieval compact "
            "--model"
        )
    if dry_run:
        return _Change(corpus, content, Standing(folder, content), None, encoder, *rules).run(prune)
    with IndexWriter(folder, sidecars=SIDECARS) as writer:
        change = _Change(corpus, writer.content, writer.standing, writer, encoder, *rules)
        return change.run(prune)


class _Change:
    """One pass over the source; without a writer it only counts."""

    def __init__(
        self,
        corpus: Corpus,
        content: Content,
        standing: Standing,
        writer: IndexWriter | None,
        encoder: TextEncoder | None,
        on_duplicate: OnDuplicate,
        progress: Callable[[Progress], None],
    ) -> None:
        self._documents = ReadAhead(corpus, Schema(content.schema))
        self._corpus, self._standing, self._writer = corpus, standing, writer
        passages = recorded(content)
        self._cutter = None if encoder is None else Cutter(encoder, passages)
        cuts = passages.kind != "none"
        self._rows = Replacing(standing, writer, encoder, content.source, self._tell, cuts=cuts)
        self._on_duplicate, self._progress = on_duplicate, progress
        self._seen: set[int] = set()  # hashes of the ids so far
        self._counts: Counter[str] = Counter()  # by field of the report
        self._started = time.monotonic()

    def run(self, prune: bool) -> ChangeReport:
        try:
            for document in self._documents:
                self._take(document)
            self._rows.flush()
        except (KeyboardInterrupt, SystemExit):
            if self._writer is not None and not self._writer.torn:
                self._commit()
            raise
        if prune and not self._corpus.rows:
            raise CorpusError("the source is empty: to prune by it would remove every row")
        if prune:
            for place in self._standing.unseen():
                self._counts["removed"] += is_first(self._standing.payload(place))
                self._rows.remove(place)
        self._commit()
        seconds = time.monotonic() - self._started
        return ChangeReport(**self._counts, skipped=self._corpus.skipped, seconds=seconds)

    def _take(self, document: Document) -> None:
        again = self._has_come_before(document.id)
        if again:
            self._corpus.skipped += 1
            if self._on_duplicate != "last":
                return
        cut = [document] if self._cutter is None else self._cutter.cut(document)
        rows = [(row, to_payload(row)) for row in cut]
        if not again:
            change = self._compared(document, [payload for _, payload in rows])
            self._counts[change] += 1
            if change == "unchanged":
                return
        self._rows.wait(document, rows, self._corpus.where)

    def _has_come_before(self, row_id: str) -> bool:
        key = key_of(row_id)
        if key in self._seen and self._on_duplicate == "error":
            raise repeated(self._corpus.where, row_id)
        before = key in self._seen
        self._seen.add(key)
        return before

    def _compared(self, document: Document, payloads: Sequence[bytes]) -> str:
        """What became of a document that has these rows now: a field of the report."""
        places = self._rows.places(document)
        for place in places:
            self._standing.see(place)
        stored = map(self._rows.payload, places)
        if len(places) == len(payloads) and None not in map(dropped_in, stored, payloads):
            return "unchanged"
        return "changed" if places else "added"

    def _tell(self, encoded: int) -> None:
        seconds = time.monotonic() - self._started
        self._progress(Progress(self._corpus.rows, self._corpus.fraction(), seconds, encoded))

    def _commit(self) -> None:
        if self._writer is None or not (len(self._writer) or self._standing.changed):
            return
        self._writer.commit(schema=self._documents.schema.fields(), source=self._rows.source)


def delete_rows(folder: str | Path, ids: Iterable[str] = (), *, where: Any = None) -> int:
    """Delete the documents with these ids, and those that a filter selects (as in
    :meth:`Searcher.search`), in one commit; how many there were. One that was cut goes with all of
    its passages. QueryError for the id of a passage.
    """
    with IndexWriter(folder, sidecars=SIDECARS) as writer:
        if recorded(writer.content).kind == "none":
            count = writer.delete(ids)
            count += 0 if where is None else writer.delete_where(where)
        else:
            chosen = () if where is None else selected(View(folder), where)
            count = sum(_delete_document(writer, each) for each in dict.fromkeys([*ids, *chosen]))
        if count:
            writer.commit()
        return count


def _delete_document(writer: IndexWriter, document_id: str) -> bool:
    """Delete the rows of a document; whether there were any."""
    standing = writer.standing
    places = rows_of(document_id, standing)
    row = None if places else standing.find(document_id)
    if row is not None:
        parent = owner_in(standing.payload(row))
        raise QueryError(
            f"{document_id!r} is a passage of the document {parent!r}; delete that, or nothing"
        )
    writer.delete([id_of(standing.payload(place)) for place in places])
    return bool(places)


def reencode(folder: str | Path, **model: Any) -> BuildReport:
    """Build the index again from the documents that it holds, with another ``model`` (and
    ``max_length``, ``device``, ``dtype``, or ``encoder``); until it is complete the old one
    answers. Documents that were cut are cut again, for what the other model reads.
    """
    view = View(folder)
    content = view.content
    kept: dict[str, Any] = {
        "kind": content.kind,
        "recall": content.recall,
        "vectors": content.dtype,
        "lexical": LEXICAL in content.sidecars,
        **content.sidecars.get(LEXICAL, {}),
        "passages": str(recorded(content)),
    }
    return build_index(whole_documents(view), folder, overwrite=True, **kept, **model)
