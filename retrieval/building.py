"""Documents to an index folder: in windows, with checkpoints, taken up where it stopped."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from indexes.errors import IndexUnfinished, KindError
from indexes.kinds import check as check_kind
from indexes.layout import VECTORS
from indexes.manifest import Content
from indexes.session import check_target
from indexes.writer import IndexWriter
from retrieval.analysis import DEFAULT_LANGUAGE, check_language
from retrieval.background import Background, Window
from retrieval.corpus import Corpus, OnError, Source, open_corpus
from retrieval.documents import Document, dropped_in, to_payload
from retrieval.duplicates import OnDuplicate, check_choice
from retrieval.encoded_rows import Encoded, RowsInFlight
from retrieval.encoding import (
    WINDOW,
    WINDOW_BYTES,
    EncoderOptions,
    TextEncoder,
    model_record,
)
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

if TYPE_CHECKING:
    from typing import Unpack

CHECKPOINT_ROWS = 2_000
CHECKPOINT_SECONDS = 5.0


def build_index(
    source: Source,
    folder: str | Path,
    *,
    encoder: TextEncoder | None = None,
    model: str = "all-MiniLM-L6-v2",
    workers: int = 1,
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
    **how: "Unpack[EncoderOptions]",
) -> BuildReport:
    """Index files (paths, globs, folders of Parquet, ``-``), a table (Arrow, pandas, polars,
    whatever has ``__arrow_c_stream__``) or any iterable of Documents.

    Interrupted, it goes on where it stopped when called with the same arguments again; until it is
    complete, ``folder`` answers as before. ``encoder`` takes the place of ``model`` and ``how`` it
    computes: ``device``, ``dtype``, ``max_length``, ``deterministic``. ``workers`` processes encode
    (spawned: a script needs ``if __name__ == "__main__"``). ``on_duplicate`` says which row of one
    id stays; rows that ``on_error="skip"`` passes over go to ``rejects``. ``passages`` cuts long
    documents: window, window:SIZE:OVERLAP (tokens), sentences, none, or auto: windows where over
    1 % of the first 1,000 would lose text. ``kind`` is one of :data:`indexes.kinds.KINDS`, a FAISS
    factory string or auto, tuned to this ``recall`` of the ten nearest; ``vectors`` are float32 or
    float16. ``lexical``: postings in a ``language`` of :data:`retrieval.analysis.LANGUAGES`.
    Errors: KindError, CorpusError, ModelError; IndexExists, -Unfinished, -Locked, -WriteFailed.
    """
    check_choice(on_duplicate)
    rules = Passages.parse(passages), on_duplicate, progress or (lambda _: None), time.monotonic()
    check_target(Path(folder), overwrite=overwrite)
    columns = Columns(text_column, id_column, title_column, metadata_columns)
    corpus = open_corpus(source, columns, on_error=on_error, rejects=rejects)
    if encoder is None:
        from retrieval.assembly import Encoder  # torch, only where it is needed

        encoder = Encoder(model, **how)
    content = wanted(encoder, kind, recall, language if lexical else None, dtype=vectors)
    with IndexWriter(folder, content, overwrite=overwrite, sidecars=SIDECARS) as writer:
        return _Build(writer, encoder, workers, corpus, *rules).run(may_cut=overwrite)


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
    """One run over the corpus. Rows that an earlier run encoded are compared and passed over. While
    a window is encoded the next one is read, and the one before is written.
    """

    def __init__(
        self,
        writer: IndexWriter,
        encoder: TextEncoder,
        workers: int,
        corpus: Corpus,
        passages: Passages,
        on_duplicate: OnDuplicate,
        progress: Callable[[Progress], None],
        started: float,
    ) -> None:
        self._writer, self._encoder = writer, encoder
        self._documents, self._corpus = ReadAhead(corpus, Schema()), corpus
        self._background = Background(encoder, workers, Window(WINDOW, WINDOW_BYTES))
        self._flying = RowsInFlight(self._background, self._documents.fraction, self._write)
        self._cutter, looked = choose(passages, encoder, self._documents)
        how = str(self._cutter.passages)
        # Which rows a build holds depends on these.
        self._rules: dict[str, Any] = {"on_duplicate": on_duplicate, "passages": how}
        self._rules["deterministic"] = model_record(encoder).get("deterministic", False)
        self._taken = Taken(writer, on_duplicate, cuts=how != "none")
        self._progress, self._started = progress, started
        self._rows = 0  # compared or written so far
        self._resumed = len(writer)
        self._report = BuildReport(0, 0, 0, 0, 0.0, 0, how, *looked)
        self._kept_rows, self._kept_time = self._resumed, started

    def run(self, *, may_cut: bool) -> BuildReport:
        began = self._writer.content.source if self._resumed else self._rules
        if other := [name for name, rule in self._rules.items() if began.get(name, False) != rule]:
            options = " and ".join(f"--{name.replace('_', '-')}" for name in other)
            self._differs(f"another {options}", may_cut)
        try:
            for document in self._documents:
                self._take(document, may_cut)
            self._flying.finish()
            if self._rows < self._resumed:
                self._differs(f"the source ends where it has row {self._rows + 1}", may_cut)
        except (KeyboardInterrupt, SystemExit):
            self._keep()
            raise
        finally:
            self._background.close()
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
        self._flying.add(row, payload)

    def _differs(self, how: str, may_cut: bool) -> None:
        """The source is not the one that the interrupted run read."""
        if not may_cut:
            raise IndexUnfinished(
                f"{self._writer.folder} holds an unfinished build of another source or with other "
                f"options: {how}; run the command that began it, or start over with --overwrite"
            )
        self._writer.cut(self._rows)
        self._resumed = self._kept_rows = self._rows

    def _write(self, encoded: Encoded) -> None:
        self._writer.add(encoded.vectors, encoded.payloads)
        self._count(len(encoded.payloads), encoded.lost)
        self._taken.encoded(encoded.documents)
        now = time.monotonic()
        rows, seconds = self._rows - self._kept_rows, now - self._kept_time
        if rows >= CHECKPOINT_ROWS or seconds >= CHECKPOINT_SECONDS:
            self._writer.checkpoint(source=self._rules)
            self._kept_rows, self._kept_time = self._rows, now
        made = self._rows - self._resumed
        self._progress(Progress(self._rows, encoded.fraction, now - self._started, made))

    def _keep(self) -> None:
        """Keep what is encoded, unless rows that were being added may be there by half."""
        if not self._writer.torn:
            self._flying.keep(lambda: len(self._writer) - self._resumed)
        if self._rows > self._resumed and not self._writer.torn:
            self._writer.checkpoint(source=self._rules)

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
