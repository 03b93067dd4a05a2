"""Documents to an index folder: in windows, with checkpoints, taken up where it stopped."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from indexes.errors import IndexUnfinished, KindError
from indexes.kinds import check as check_kind
from indexes.layout import VECTORS
from indexes.manifest import Content
from indexes.session import check_target
from indexes.writer import IndexWriter
from retrieval.analysis import DEFAULT_LANGUAGE, check_language
from retrieval.corpus import Corpus, OnError, Source, open_corpus
from retrieval.documents import Document, dropped_in, to_payload
from retrieval.duplicates import OnDuplicate, check_choice
from retrieval.encoded_rows import encode_rows
from retrieval.encoding import WINDOW, TextEncoder, model_record
from retrieval.errors import CorpusError
from retrieval.files import listed
from retrieval.passages import Passages, choose
from retrieval.probes import make_probes
from retrieval.read_ahead import ReadAhead
from retrieval.report import BuildReport, Progress
from retrieval.rows import Columns
from retrieval.schema import Schema
from retrieval.sidecars import LEXICAL, SIDECARS
from retrieval.taken import Taken

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
    passages: str = "auto",
    kind: str = "auto",
    recall: float = 0.95,
    vectors: str = "float32",
    lexical: bool = True,
    language: str = DEFAULT_LANGUAGE,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> BuildReport:
    """Index files (a path, a glob, a folder of Parquet, ``-``, or several), a table (whatever has
    ``__arrow_c_stream__``: Arrow, pandas, polars) or any iterable of Documents.

    Interrupted, it goes on where it stopped when called with the same arguments again; until it is
    complete, ``folder`` answers as before. ``encoder`` takes the place of ``model`` and the three
    after it. ``on_duplicate`` says which row of one id stays; rows that ``on_error="skip"`` passes
    over go to the file ``rejects``. ``passages`` cuts long documents: window, window:SIZE:OVERLAP
    (tokens), sentences, none, or auto: windows where over 1 % of the first 1,000 would lose text.
    ``kind`` is one of :data:`indexes.kinds.KINDS`, a FAISS factory string or auto, tuned to this
    ``recall`` of the ten nearest; ``vectors`` are kept as float32 or float16. ``lexical`` writes
    postings too, in a ``language`` of :data:`retrieval.analysis.LANGUAGES`. Errors: KindError,
    CorpusError, ModelError, IndexExists, IndexUnfinished, IndexLocked, IndexWriteFailed.
    """
    started = time.monotonic()
    check_choice(on_duplicate)
    asked = Passages.parse(passages)
    check_target(Path(folder), overwrite=overwrite)
    columns = Columns(text_column, id_column, title_column, metadata_columns)
    corpus = open_corpus(source, columns, on_error=on_error, rejects=rejects)
    if encoder is None:
        encoder = _encoder(model, dtype=dtype, device=device, max_length=max_length)
    content = wanted(encoder, kind, recall, language if lexical else None, dtype=vectors)
    rules = asked, on_duplicate, progress or (lambda _: None), started
    with IndexWriter(folder, content, overwrite=overwrite, sidecars=SIDECARS) as writer:
        return _Build(writer, encoder, corpus, *rules).run(may_cut=overwrite)


def _encoder(model: str, **how: Any) -> TextEncoder:
    from retrieval.assembly import Encoder  # torch, only where it is needed

    return Encoder(model, **how)


def wanted(
    encoder: TextEncoder, kind: str, recall: float, language: str | None, *, dtype: str = "float32"
) -> Content:
    """An empty index of this encoder, with postings where there is a language; KindError for what
    cannot be built.
    """
    check_kind(kind, encoder.dim, recall)
    if dtype not in VECTORS:
        raise KindError(f"vectors are kept as {' or '.join(VECTORS)}, not {dtype!r}")
    sidecars = {} if language is None else {LEXICAL: {"language": check_language(language)}}
    kept: dict[str, Any] = {"dtype": dtype, "kind": kind, "recall": recall, "sidecars": sidecars}
    return Content(encoder.dim, model_record(encoder), **kept)


class _Build:
    """One run over the corpus. Rows that an earlier run encoded are compared and passed over."""

    def __init__(
        self,
        writer: IndexWriter,
        encoder: TextEncoder,
        corpus: Corpus,
        passages: Passages,
        on_duplicate: OnDuplicate,
        progress: Callable[[Progress], None],
        started: float,
    ) -> None:
        self._writer = writer
        self._encoder = encoder
        self._documents, self._corpus = ReadAhead(corpus, Schema()), corpus
        self._cutter, looked = choose(passages, encoder, self._documents)
        how = str(self._cutter.passages)
        # Which rows a build holds depends on these.
        self._rules = {"on_duplicate": on_duplicate, "passages": how}
        self._taken = Taken(writer, on_duplicate, cuts=how != "none")
        self._progress = progress
        self._started = started
        self._window: list[tuple[Document, bytes]] = []
        self._rows = 0  # compared or encoded so far
        self._resumed = len(writer)
        self._report = BuildReport(0, 0, 0, 0, 0.0, 0, how, *looked)
        self._kept_rows = self._resumed
        self._kept_time = started
        self._held = 0  # bytes in the window

    def run(self, *, may_cut: bool) -> BuildReport:
        if self._resumed and (began := self._writer.content.source) != self._rules:
            other = [name for name, rule in self._rules.items() if began.get(name) != rule]
            options = " and ".join(f"--{name.replace('_', '-')}" for name in other)
            self._differs(f"another {options}", may_cut)
        try:
            for document in self._documents:
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
        rows = self._cutter.cut(document)
        payloads = [to_payload(row) for row in rows]
        is_next = self._lost_by(payloads[0]) is not None
        if not is_next and self._taken.is_duplicate(document, self._rows, self._corpus.where):
            self._corpus.skipped += 1
            return
        self._taken.take(document, rows)
        for row, payload in zip(rows, payloads, strict=True):
            self._add(row, payload, may_cut)

    def _lost_by(self, payload: bytes) -> int | None:
        """The tokens that the next row of an earlier run lost; None unless it is this one."""
        if self._rows >= self._resumed:
            return None
        return dropped_in(self._writer.payload(self._rows), payload)

    def _add(self, row: Document, payload: bytes, may_cut: bool) -> None:
        if (dropped := self._lost_by(payload)) is not None:
            self._count(1, [dropped])
            return
        if self._rows < self._resumed:
            self._differs(f"{self._corpus.where} where it has row {self._rows + 1}", may_cut)
        self._taken.wait(row, self._corpus.where)
        self._window.append((row, payload))
        self._held += len(payload)
        if len(self._window) == WINDOW or self._held >= WINDOW_BYTES:
            self._encode_window()

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
        vectors, payloads, lost = encode_rows(self._encoder, self._window)
        self._writer.add(vectors, payloads)
        self._held = 0
        self._count(len(payloads), lost)
        self._window.clear()
        self._taken.encoded()
        now = time.monotonic()
        if (
            self._rows - self._kept_rows >= CHECKPOINT_ROWS
            or now - self._kept_time >= CHECKPOINT_SECONDS
        ):
            self._writer.checkpoint(source=self._rules)
            self._kept_rows, self._kept_time = self._rows, now
        encoded, share = self._rows - self._resumed, self._documents.fraction()
        self._progress(Progress(self._rows, share, now - self._started, encoded))

    def _count(self, rows: int, dropped: Sequence[int]) -> None:
        self._rows += rows
        self._report = replace(
            self._report,
            truncated=self._report.truncated + sum(lost > 0 for lost in dropped),
            truncated_tokens=self._report.truncated_tokens + sum(dropped),
        )

    def _commit(self) -> BuildReport:
        self._taken.drop_replaced()
        self._writer.checkpoint(source=self._rules)  # a failure from here on costs no row
        content = self._writer.commit(
            schema=self._documents.schema.fields(),
            probes=make_probes(self._encoder),
            source={
                **listed(self._corpus.files),
                "passages": self._report.passages,
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
