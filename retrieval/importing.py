"""Documents and vectors that are there already, to an index: nothing is encoded but a sample."""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from indexes.errors import IndexUnfinished, VectorError
from indexes.manifest import Content
from indexes.writer import IndexWriter
from retrieval.analysis import DEFAULT_LANGUAGE
from retrieval.building import wanted
from retrieval.corpus import Corpus, OnError, Source, open_corpus
from retrieval.documents import Document, to_payload
from retrieval.duplicates import OnDuplicate, check_choice, repeated
from retrieval.encoding import WINDOW, WINDOW_BYTES, TextEncoder, Vectors, model_record
from retrieval.errors import CorpusError, ModelError, RowProblem
from retrieval.files import listed
from retrieval.probes import make_probes
from retrieval.ready import Given, RowVectors, unit
from retrieval.report import Progress
from retrieval.rows import Columns
from retrieval.schema import Schema
from retrieval.sidecars import SIDECARS

if TYPE_CHECKING:
    from typing import Unpack

    from retrieval.encoding import EncoderOptions

SAMPLE = 8  # documents that are encoded to see whether the vectors are the model's
SAME = 0.99  # least cosine of two vectors of one text from one model, whatever the number format


@dataclass(frozen=True)
class ImportReport:
    """What an import did. ``skipped`` rows are as in :class:`~retrieval.report.BuildReport`;
    ``scaled`` vectors were not of unit length and are now.
    """

    rows: int
    skipped: int
    scaled: int
    seconds: float


def import_index(
    documents: Source,
    vectors: Given | None,
    folder: str | Path,
    *,
    vector_column: str = "vector",
    model: str = "all-MiniLM-L6-v2",
    encoder: TextEncoder | None = None,
    check: bool = True,
    text_column: str | None = None,
    id_column: str | None = None,
    title_column: str | None = None,
    metadata_columns: Sequence[str] | None = None,
    on_error: OnError = "raise",
    rejects: str | Path | None = None,
    on_duplicate: OnDuplicate = "error",
    kind: str = "auto",
    recall: float = 0.95,
    lexical: bool = True,
    language: str = DEFAULT_LANGUAGE,
    overwrite: bool = False,
    progress: Callable[[Progress], None] | None = None,
    **how: "Unpack[EncoderOptions]",
) -> ImportReport:
    """Make an index of documents (whatever ``build_index`` takes) and their vectors.

    ``vectors``: floats [n, dim], one row for each row of the documents, as an array, a ``.npy``
    file or a flat FAISS file; None when they stand in the column ``vector_column``. They are
    scaled to unit length. ``encoder`` (or ``model``, and ``how`` it computes) is what made them,
    and encodes the questions; with ``check`` a sample of the texts must give the same vectors.
    Errors: those of ``build_index``; VectorError, and CorpusError for the vector of a row.
    """
    check_choice(on_duplicate)
    given = None if vectors is None else RowVectors(vectors)
    column = vector_column if given is None else None
    columns = Columns(text_column, id_column, title_column, metadata_columns, column, lists=True)
    corpus = open_corpus(documents, columns, on_error=on_error, rejects=rejects)
    if encoder is None:
        from retrieval.assembly import Encoder  # torch, only where it is needed

        encoder = Encoder(model, **how)
    sample = _Sample(encoder, given, SAMPLE if check else 0)
    content = wanted(encoder, kind, recall, language if lexical else None)
    with _empty_writer(Path(folder), content, overwrite=overwrite) as writer:
        return _Import(writer, corpus, given, on_duplicate, sample).run(encoder, progress)


def _empty_writer(folder: Path, content: Content, *, overwrite: bool) -> IndexWriter:
    writer = IndexWriter(folder, content, overwrite=overwrite, sidecars=SIDECARS)
    try:
        if len(writer) and not overwrite:
            raise IndexUnfinished(
                f"{folder} holds an unfinished build of {len(writer)} rows; finish it with the "
                "command that began it, or drop it with --overwrite"
            )
        if len(writer):
            writer.cut(0)
    except BaseException:
        writer.close()
        raise
    return writer


class _Seen(NamedTuple):
    """A document that was taken in."""

    id: str
    text: str
    vector: Vectors


class _Sample:
    """A few documents, drawn evenly from all that were seen, to tell whether an encoder made the
    vectors that came with them.
    """

    def __init__(self, encoder: TextEncoder, given: RowVectors | None, size: int) -> None:
        self._encoder = encoder
        self._name = model_record(encoder)["name"]
        self._size = size
        self._kept: list[_Seen] = []
        self._count = 0
        self._random = random.Random(0)
        if given is not None and given.dim != encoder.dim:
            raise VectorError(
                f"{given.name} holds vectors of {given.dim} numbers; {self._name} makes "
                f"{encoder.dim}: name the model that made them with --model"
            )

    def see(self, document: Document, vector: Vectors) -> None:
        """Take a document into the sample, by chance."""
        self._count += 1
        at = self._random.randrange(self._count)
        if len(self._kept) < self._size:
            self._kept.append(_Seen(document.id, document.full_text, vector))
        elif at < self._size:
            self._kept[at] = _Seen(document.id, document.full_text, vector)

    def check(self) -> None:
        """ModelError when a vector is not the encoder's."""
        if not self._kept:
            return
        made, _ = self._encoder.encode_document([seen.text for seen in self._kept])
        for seen, vector in zip(self._kept, made, strict=True):
            cosine = float(seen.vector @ vector)
            if not cosine >= SAME:
                raise ModelError(
                    f"the vector of {seen.id!r} is not what {self._name} makes of its title and "
                    f"text (cosine {cosine:.3f}, expected {SAME}); name the model that made the "
                    "vectors with --model, or pass --no-check"
                )


class _Import:
    """One run over the corpus."""

    def __init__(
        self,
        writer: IndexWriter,
        corpus: Corpus,
        given: RowVectors | None,
        on_duplicate: OnDuplicate,
        sample: _Sample,
    ) -> None:
        self._writer = writer
        self._corpus = corpus
        self._given = given
        self._on_duplicate = on_duplicate
        self._sample = sample
        self._schema = Schema()
        self._window: dict[str, tuple[bytes, Vectors]] = {}
        self._held = 0  # bytes in the window
        self._scaled = 0

    def run(
        self, encoder: TextEncoder, progress: Callable[[Progress], None] | None
    ) -> ImportReport:
        started, corpus = time.monotonic(), self._corpus
        for document in corpus:
            self._take(document)
            if len(self._window) == WINDOW or self._held >= WINDOW_BYTES:
                self._add()
                if progress is not None:
                    rows, seconds = len(self._writer), time.monotonic() - started
                    progress(Progress(rows, corpus.fraction(), seconds, rows))
        self._add()
        if self._given is not None:
            self._given.check_end(corpus.rows)
        if not len(self._writer):
            raise CorpusError(f"no documents ({corpus.skipped} rows skipped); nothing to import")
        self._sample.check()
        content = self._writer.commit(
            schema=self._schema.fields(),
            probes=make_probes(encoder),
            source={**listed(corpus.files), "skipped": corpus.skipped},
        )
        seconds = time.monotonic() - started
        return ImportReport(content.rows, corpus.skipped, self._scaled, seconds)

    def _take(self, document: Document) -> None:
        corpus = self._corpus
        found = corpus.vector if self._given is None else self._given.of(corpus.rows - 1, document)
        try:
            vector, scaled = unit(found, self._writer.content.dim)
            self._schema.observe(document.metadata)
        except RowProblem as problem:
            corpus.reject(str(problem))
            return
        if self._is_duplicate(document.id):
            corpus.skipped += 1
            return
        payload = to_payload(document)
        self._scaled += scaled
        self._sample.see(document, vector)
        self._window[document.id] = payload, vector
        self._held += len(payload)

    def _is_duplicate(self, row_id: str) -> bool:
        """Whether to pass a document over because its id has come before."""
        if row_id not in self._window and self._writer.find(row_id) is None:
            return False
        if self._on_duplicate == "error":
            raise repeated(self._corpus.where, row_id)
        if self._on_duplicate == "last":
            self._window.pop(row_id, None)  # so that the later row stands where it comes
            return False
        return True

    def _add(self) -> None:
        if not self._window:
            return
        is_first = not len(self._writer)
        payloads = [payload for payload, _ in self._window.values()]
        self._writer.add(np.stack([vector for _, vector in self._window.values()]), payloads)
        self._window.clear()
        self._held = 0
        if is_first:  # a wrong model is told before hours of work
            self._sample.check()
