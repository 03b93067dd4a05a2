"""Documents into an index that is there: what is new is encoded, what is equal is left alone."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from indexes.layout import key_of
from indexes.manifest import Content, published, read_manifest
from indexes.standing import Place, Standing
from indexes.writer import IndexWriter
from retrieval.building import WINDOW_BYTES, build_index
from retrieval.corpus import Corpus, OnError, Source, open_corpus
from retrieval.documents import Document, dropped_in, to_payload, with_dropped
from retrieval.duplicates import OnDuplicate, check_choice, repeated
from retrieval.encoding import WINDOW, TextEncoder
from retrieval.errors import CorpusError, ModelError, RowProblem
from retrieval.report import BuildReport, ChangeReport, Progress
from retrieval.rows import Columns
from retrieval.schema import Schema
from retrieval.searcher import Searcher
from retrieval.sidecars import SIDECARS


def change_index(
    source: Source,
    folder: str | Path,
    *,
    prune: bool = False,
    dry_run: bool = False,
    encoder: TextEncoder | None = None,
    device: str = "auto",
    dtype: str = "auto",
    text_column: str | None = None,
    id_column: str | None = None,
    title_column: str | None = None,
    metadata_columns: Sequence[str] | None = None,
    on_error: OnError = "raise",
    rejects: str | Path | None = None,
    on_duplicate: OnDuplicate = "error",
    progress: Callable[[Progress], None] | None = None,
) -> ChangeReport:
    """Put documents into an index, each in the place of the one with its id; in one commit.

    ``source`` and its options are those of :func:`~retrieval.building.build_index`. A document that
    the index holds already is not encoded again, nor is one of which only the metadata differ.
    ``prune`` removes what the source does not have; ``dry_run`` only counts. Interrupted, it keeps
    what was encoded, and removes nothing. Errors: those of opening an index and of a corpus,
    ModelError for another encoder than the index was built with, IndexLocked, IndexWriteFailed.
    """
    check_choice(on_duplicate)
    folder = Path(folder)
    content = published(folder, read_manifest(folder))
    columns = Columns(text_column, id_column, title_column, metadata_columns)
    corpus = open_corpus(source, columns, on_error=on_error, rejects=rejects)
    rules = on_duplicate, progress or (lambda _: None)
    if dry_run:
        return _Change(corpus, content, Standing(folder, content), None, None, *rules).run(prune)
    if encoder is None:
        from retrieval.assembly import Encoder  # torch, only where it is needed

        encoder = Encoder.from_record(content.model, device=device, dtype=dtype)
    if encoder.fingerprint != content.model["fingerprint"]:
        raise ModelError(
            f"{folder} was built with {content.model.get('name')}; rows of another model cannot "
            "stand beside its rows: build the index again, or move it over with retrieval compact "
            "--model"
        )
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
        self._corpus, self._standing = corpus, standing
        self._writer, self._encoder = writer, encoder
        self._on_duplicate, self._progress = on_duplicate, progress
        self._schema = Schema(content.schema)
        self._seen: set[int] = set()  # hashes of the ids so far
        self._window: list[tuple[Document, bytes]] = []
        self._held = 0  # bytes in the window
        self._encoded = 0
        self._counts: Counter[str] = Counter()  # by field of the report
        self._started = time.monotonic()
        self._source: dict[str, Any] = {"truncated": 0, "truncated_tokens": 0, **content.source}

    def run(self, prune: bool) -> ChangeReport:
        try:
            for document in self._corpus:
                self._take(document)
            self._encode_window()
        except (KeyboardInterrupt, SystemExit):
            if self._writer is not None and not self._writer.torn:
                self._commit()
            raise
        if prune and not self._corpus.rows:
            raise CorpusError("the source is empty: to prune by it would remove every row")
        if prune:
            for place in self._standing.unseen():
                self._remove(place)
                self._counts["removed"] += 1
        self._commit()
        seconds = time.monotonic() - self._started
        return ChangeReport(**self._counts, skipped=self._corpus.skipped, seconds=seconds)

    def _take(self, document: Document) -> None:
        try:
            self._schema.observe(document.metadata)
        except RowProblem as problem:
            self._corpus.reject(str(problem))
            return
        payload = to_payload(document)
        if self._has_come_before(document.id):
            self._corpus.skipped += 1
            if self._on_duplicate == "last":
                self._wait(document, payload)
            return
        place = self._standing.find(document.id)
        if place is None:
            self._counts["added"] += 1
            self._wait(document, payload)
            return
        self._standing.see(place)
        stored = self._standing.payload(place).removesuffix(b"\n")
        if dropped_in(stored, payload) is not None:
            self._counts["unchanged"] += 1
            return
        self._counts["changed"] += 1
        record = json.loads(stored)
        if Document(document.id, record["text"], record["title"]).full_text == document.full_text:
            self._keep_vector(place, with_dropped(payload, record.get("dropped", 0)))
        else:
            self._wait(document, payload)

    def _has_come_before(self, row_id: str) -> bool:
        key = key_of(row_id)
        if key in self._seen and self._on_duplicate == "error":
            raise repeated(self._corpus.where, row_id)
        before = key in self._seen
        self._seen.add(key)
        return before

    def _keep_vector(self, place: Place, payload: bytes) -> None:
        if self._writer is None:
            return
        self._encode_window()  # rows stay in the order of the source
        self._writer.upsert(self._standing.vector(place)[None], [payload])

    def _wait(self, document: Document, payload: bytes) -> None:
        if self._writer is None:
            return
        self._window.append((document, payload))
        self._held += len(payload)
        if len(self._window) == WINDOW or self._held >= WINDOW_BYTES:
            self._encode_window()

    def _encode_window(self) -> None:
        if not self._window or self._writer is None or self._encoder is None:
            return
        texts = [document.full_text for document, _ in self._window]
        vectors, dropped = self._encoder.encode_document(texts)
        payloads = [
            with_dropped(payload, int(lost))
            for (_, payload), lost in zip(self._window, dropped, strict=True)
        ]
        for document, _ in self._window:
            if (place := self._standing.find(document.id)) is not None:
                self._forget(place)
        self._writer.upsert(vectors, payloads)
        for lost in dropped.tolist():
            self._add_dropped(lost)
        self._encoded += len(payloads)
        self._window.clear()
        self._held = 0
        seconds = time.monotonic() - self._started
        self._progress(Progress(self._corpus.rows, self._corpus.fraction(), seconds, self._encoded))

    def _remove(self, place: Place) -> None:
        self._forget(place)
        self._standing.kill(place)

    def _forget(self, place: Place) -> None:
        self._add_dropped(json.loads(self._standing.payload(place)).get("dropped", 0), -1)

    def _add_dropped(self, lost: int, sign: int = 1) -> None:
        """Keep the counts of what the model did not read true."""
        self._source["truncated"] += sign * (lost > 0)
        self._source["truncated_tokens"] += sign * lost

    def _commit(self) -> None:
        if self._writer is None or not (len(self._writer) or self._standing.changed):
            return
        self._writer.commit(schema=self._schema.fields(), source=self._source)


def delete_rows(folder: str | Path, ids: Iterable[str] = (), *, where: Any = None) -> int:
    """Delete the documents with these ids, and those that a filter selects (as in
    :meth:`Searcher.search`), in one commit; how many there were.
    """
    with IndexWriter(folder, sidecars=SIDECARS) as writer:
        count = writer.delete(ids)
        if where is not None:
            count += writer.delete_where(where)
        if count:
            writer.commit()
        return count


def reencode(folder: str | Path, **model: Any) -> BuildReport:
    """Build the index again from the documents that it holds, with another ``model`` (and
    ``max_length``, ``device``, ``dtype``, or ``encoder``); until it is complete the old one
    answers.
    """
    searcher = Searcher(folder)
    content = searcher.content
    kept: dict[str, Any] = {
        "kind": content.kind,
        "recall": content.recall,
        "vectors": content.dtype,
    }
    return build_index(searcher.documents(), folder, overwrite=True, **kept, **model)
