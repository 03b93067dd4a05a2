"""Documents to an index folder: in windows, with checkpoints, taken up where it stopped."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from indexes.errors import IndexUnfinished, KindError
from indexes.kinds import check as check_kind
from indexes.layout import VECTORS
from indexes.manifest import Content
from indexes.session import check_target
from indexes.writer import IndexWriter
from retrieval.corpus import Corpus, OnError, Source, open_corpus
from retrieval.documents import Document, dropped_in, to_payload, with_dropped
from retrieval.duplicates import OnDuplicate, check_choice, repeated
from retrieval.encoding import WINDOW, TextEncoder, model_record
from retrieval.errors import CorpusError, RowProblem
from retrieval.files import listed
from retrieval.probes import make_probes
from retrieval.report import BuildReport, Progress
from retrieval.rows import Columns
from retrieval.schema import Schema
from retrieval.sidecars import SIDECARS

CHECKPOINT_ROWS = 2_000
CHECKPOINT_SECONDS = 5.0
WINDOW_BYTES = 64 * 2**20  # a window of long texts ends early


def build_index(
    source: Source,
    folder: str | Path,
    *,
    encoder: TextEncoder | None = None,
    model: str = "all-MiniLM-L6-v2",
    max_length: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    text_column: str | None = None,
    id_column: str | None = None,
    title_column: str | None = None,
    metadata_columns: Sequence[str] | None = None,
    on_error: OnError = "raise",
    rejects: str | Path | None = None,
    on_duplicate: OnDuplicate = "error",
    kind: str = "auto",
    recall: float = 0.95,
    vectors: str = "float32",
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> BuildReport:
    """Index files (a path, a glob, a folder of Parquet, ``-``, or several), a table (whatever has
    ``__arrow_c_stream__``: Arrow, pandas, polars) or any iterable of Documents.

    Interrupted, it goes on where it stopped when it is called with the same arguments again; until
    it is complete, ``folder`` answers as before. ``encoder`` takes the place of ``model``,
    ``max_length``, ``device`` and ``dtype``. ``on_duplicate`` says which row of one id stays;
    rows that ``on_error="skip"`` passes over go to the file ``rejects`` as JSON lines. ``kind`` is
    one of :data:`indexes.kinds.KINDS`, a FAISS factory string or auto, tuned to find the ten
    nearest with this ``recall``; ``vectors`` are kept as float32 or float16.
    Errors: KindError, CorpusError, ModelError, IndexExists, IndexUnfinished, IndexLocked,
    IndexWriteFailed.
    """
    started = time.monotonic()
    check_choice(on_duplicate)
    check_target(Path(folder), overwrite=overwrite)
    columns = Columns(text_column, id_column, title_column, metadata_columns)
    corpus = open_corpus(source, columns, on_error=on_error, rejects=rejects)
    if encoder is None:
        from retrieval.assembly import Encoder  # torch, only where it is needed

        encoder = Encoder(model, dtype=dtype, device=device, max_length=max_length)
    content = wanted(encoder, kind, recall, vectors)
    with IndexWriter(folder, content, overwrite=overwrite, sidecars=SIDECARS) as writer:
        build = _Build(writer, encoder, corpus, on_duplicate, progress or (lambda _: None), started)
        return build.run(may_cut=overwrite)


def wanted(encoder: TextEncoder, kind: str, recall: float, vectors: str = "float32") -> Content:
    """An empty index of this encoder; KindError for what cannot be built."""
    check_kind(kind, encoder.dim, recall)
    if vectors not in VECTORS:
        raise KindError(f"vectors are kept as {' or '.join(VECTORS)}, not {vectors!r}")
    model = model_record(encoder)
    return Content(encoder.dim, model, dtype=vectors, kind=kind, recall=recall)


class _Build:
    """One run over the corpus. Rows that an earlier run encoded are compared and passed over."""

    def __init__(
        self,
        writer: IndexWriter,
        encoder: TextEncoder,
        corpus: Corpus,
        on_duplicate: OnDuplicate,
        progress: Callable[[Progress], None],
        started: float,
    ) -> None:
        self._writer = writer
        self._encoder = encoder
        self._corpus = corpus
        self._on_duplicate = on_duplicate
        self._rules = {"on_duplicate": on_duplicate}  # which rows a build holds depends on it
        self._progress = progress
        self._started = started
        self._schema = Schema()
        self._window: list[tuple[Document, bytes]] = []
        self._ids: set[str] = set()
        self._rows = 0  # compared or encoded so far
        self._resumed = len(writer)
        self._report = BuildReport(0, 0, 0, 0, 0.0)
        self._kept_rows = self._resumed
        self._kept_time = started
        self._held = 0  # bytes in the window

    def run(self, *, may_cut: bool) -> BuildReport:
        if self._resumed and self._writer.content.source != self._rules:
            self._differs("another --on-duplicate", may_cut)
        try:
            for document in self._corpus:
                self._take(document, may_cut)
            self._encode_window()
            if self._rows < self._resumed:
                self._differs(f"the source ends where it has row {self._rows + 1}", may_cut)
        except (KeyboardInterrupt, SystemExit):
            # Rows that were being added may be there by half: then the last checkpoint stands.
            if self._rows > self._resumed and not self._writer.torn:
                self._writer.checkpoint(source=self._rules)
            raise
        if not self._rows:
            raise CorpusError(
                f"{', '.join(f.shown for f in self._corpus.files) or 'the source'}: "
                f"no documents ({self._corpus.skipped} rows skipped); there is nothing to index"
            )
        return self._commit()

    def _take(self, document: Document, may_cut: bool) -> None:
        try:
            self._schema.observe(document.metadata)
        except RowProblem as problem:
            self._corpus.reject(str(problem))
            return
        payload = to_payload(document)
        if self._rows < self._resumed:
            dropped = dropped_in(self._writer.payload(self._rows), payload)
            if dropped is not None:
                self._count(1, [dropped])
                return
        if self._is_duplicate(document.id):
            self._corpus.skipped += 1
            return
        if self._rows < self._resumed:
            self._differs(f"{self._corpus.where} where it has row {self._rows + 1}", may_cut)
        self._ids.add(document.id)
        self._window.append((document, payload))
        self._held += len(payload)
        if len(self._window) == WINDOW or self._held >= WINDOW_BYTES:
            self._encode_window()

    def _is_duplicate(self, row_id: str) -> bool:
        """Whether to pass a document over because its id has come before."""
        if self._on_duplicate == "last":
            return False
        earlier = self._writer.find(row_id)
        if row_id not in self._ids and (earlier is None or earlier >= self._rows):
            return False
        if self._on_duplicate == "first":
            return True
        raise repeated(self._corpus.where, row_id)

    def _differs(self, how: str, may_cut: bool) -> None:
        """The source is not the one that the interrupted run read."""
        if not may_cut:
            raise IndexUnfinished(
                f"{self._writer.folder} holds an unfinished build of another source or with other "
                f"options: {how}; run the command that began it, or start over with --overwrite"
            )
        self._writer.cut(self._rows)
        self._resumed = self._kept_rows = self._rows

    def _encode_window(self) -> None:
        if not self._window:
            return
        documents = [document for document, _ in self._window]
        vectors, dropped = self._encoder.encode_document([d.full_text for d in documents])
        payloads = [
            with_dropped(payload, int(lost))
            for (_, payload), lost in zip(self._window, dropped, strict=True)
        ]
        self._writer.add(vectors, payloads)
        self._held = 0
        self._count(len(payloads), dropped.tolist())
        self._window.clear()
        self._ids.clear()
        now = time.monotonic()
        if (
            self._rows - self._kept_rows >= CHECKPOINT_ROWS
            or now - self._kept_time >= CHECKPOINT_SECONDS
        ):
            self._writer.checkpoint(source=self._rules)
            self._kept_rows, self._kept_time = self._rows, now
        encoded = self._rows - self._resumed
        self._progress(Progress(self._rows, self._corpus.fraction(), now - self._started, encoded))

    def _count(self, rows: int, dropped: Sequence[int]) -> None:
        self._rows += rows
        self._report = replace(
            self._report,
            truncated=self._report.truncated + sum(lost > 0 for lost in dropped),
            truncated_tokens=self._report.truncated_tokens + sum(dropped),
        )

    def _commit(self) -> BuildReport:
        self._writer.checkpoint(source=self._rules)  # a failure from here on costs no row
        content = self._writer.commit(
            schema=self._schema.fields(),
            probes=make_probes(self._encoder),
            source={
                **listed(self._corpus.files),
                "skipped": self._corpus.skipped,
                "truncated": self._report.truncated,
                "truncated_tokens": self._report.truncated_tokens,
            },
        )
        return replace(
            self._report,
            rows=content.rows,
            skipped=self._corpus.skipped,
            seconds=time.monotonic() - self._started,
            resumed=self._resumed,
        )
