"""A question to its passages, and to an answer from them."""

import json
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from indexes.errors import IndexCorrupt
from indexes.manifest import Content
from indexes.view import Verify, View
from retrieval.documents import Answer, Document, Hit
from retrieval.encoding import TextEncoder, Vectors, check_texts
from retrieval.errors import ModelError, QueryError
from retrieval.schema import restore

DEFAULT_K = 10
DEFAULT_PASSAGES = 5  # that an answer is read from


class Searcher:
    """Cosine search over an index folder, as it was when it was opened.

    The model is the one that the index names, loaded from this machine at the first question, or
    ``encoder``. ``verify="full"`` reads every byte first. Any number of threads may search at
    once. Errors: those of opening an index (IndexNotFound, IndexUnfinished, IndexTooNew,
    IndexCorrupt), and ModelError when the encoder is not the one that built it.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        encoder: TextEncoder | None = None,
        verify: Verify = "auto",
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        self._view = View(folder, verify=verify)
        self._encoder = encoder
        self._device = device
        self._dtype = dtype
        self._loading = threading.Lock()
        self._generators: dict[str, Any] = {}
        if encoder is not None:
            self._check_encoder(encoder)

    def _check_encoder(self, encoder: TextEncoder) -> None:
        model = self.content.model
        if encoder.fingerprint != model["fingerprint"]:
            raise ModelError(
                f"{self._view.folder} was built with {model.get('name')} (fingerprint "
                f"{model['fingerprint'][:12]}), not with {type(encoder).__name__} (fingerprint "
                f"{encoder.fingerprint[:12]}): their vectors cannot be compared"
            )

    @property
    def content(self) -> Content:
        """What the index says of itself."""
        return self._view.content

    @property
    def encoder(self) -> TextEncoder:
        """The encoder of the index; loaded once."""
        with self._loading:
            if self._encoder is None:
                from retrieval.assembly import Encoder  # torch, only where a text is encoded

                self._encoder = Encoder.from_record(
                    self.content.model, device=self._device, dtype=self._dtype
                )
            return self._encoder

    def search(
        self, question: str, k: int = DEFAULT_K, *, min_score: float | None = None
    ) -> list[Hit]:
        """The ``k`` nearest documents, nearest first: fewer when the index has fewer, or when
        ``min_score`` (a cosine) leaves them out. QueryError for an empty question or k < 1.
        """
        return self.search_batch([question], k, min_score=min_score)[0]

    def search_batch(
        self, questions: Sequence[str], k: int = DEFAULT_K, *, min_score: float | None = None
    ) -> list[list[Hit]]:
        """:meth:`search` for each question, encoded together."""
        check_texts(questions)
        for index, question in enumerate(questions):
            if not question.strip():
                raise QueryError(f"question {index + 1} is empty; ask something")
        _check_k(k)
        if not questions or not len(self):
            return [[] for _ in questions]
        return self.search_vectors(self.encoder.encode_query(questions), k, min_score=min_score)

    def search_vectors(
        self, vectors: Vectors, k: int = DEFAULT_K, *, min_score: float | None = None
    ) -> list[list[Hit]]:
        """The documents nearest to each row of float32 [n, dim], of any length but zero.

        VectorError when the width is not the index's or a row has no direction.
        """
        _check_k(k)
        scores, positions = self._view.search(vectors, k)
        least = -2.0 if min_score is None else min_score
        return [
            [
                self._hit(rank, position, score)
                for rank, (score, position) in enumerate(zip(row, places, strict=True), start=1)
                if score >= least
            ]
            for row, places in zip(scores.tolist(), positions.tolist(), strict=True)
        ]

    def _hit(self, rank: int, position: int, score: float) -> Hit:
        document = self._document(position)
        return Hit(rank, document.id, score, document.text, document.title, document.metadata)

    def _document(self, position: int) -> Document:
        payload = self._view.payload(position)
        try:
            record = json.loads(payload)
            metadata = restore(record["metadata"], self.content.schema)
            document = Document(record["id"], record["text"], record["title"], metadata)
            if not all(
                isinstance(part, str) for part in (document.id, document.text, document.title)
            ):
                raise TypeError("id, text and title must be texts")
            return document
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise IndexCorrupt(
                f"{self._view.folder}: row {position} is not a stored document: {error!r}"
            ) from error

    def ask(self, question: str, k: int = DEFAULT_PASSAGES, **how: Any) -> Answer:
        """What the ``k`` nearest passages say: a text with the characters it rests on, or None.

        ``generator`` is a name, a folder, or an object with the methods of
        :class:`~retrieval.generating.Generator` or ``Reader``; unless given, the one that comes
        with the library. ``answer`` is quote, cite, free or auto, ``threshold`` the least
        confidence, 0 … 1 or auto: see :func:`~retrieval.rag.answer_all`. ``min_score`` is as in
        :meth:`search`. QueryError for a question or a setting that cannot be, ModelError for a
        generator that is not there.
        """
        return self.ask_batch([question], k, **how)[0]

    def ask_batch(
        self,
        questions: Sequence[str],
        k: int = DEFAULT_PASSAGES,
        *,
        generator: Any = None,
        answer: str = "auto",
        threshold: float | str = "auto",
        min_score: float | None = None,
    ) -> list[Answer]:
        """:meth:`ask` for each question, their passages found together."""
        from retrieval.rag import answer_all

        hits = self.search_batch(questions, k, min_score=min_score)
        writer = self._generator(generator) if any(hits) else None
        return answer_all(writer, questions, hits, how=answer, threshold=threshold)

    def ask_stream(
        self,
        question: str,
        k: int = DEFAULT_PASSAGES,
        *,
        generator: Any = None,
        answer: str = "auto",
        threshold: float | str = "auto",
        min_score: float | None = None,
    ) -> Generator[str, None, Answer]:
        """The pieces of the text that :meth:`ask` gives; the generator returns its answer."""
        from retrieval.rag import stream_answer

        hits = self.search(question, k, min_score=min_score)
        writer = self._generator(generator) if hits else None
        return stream_answer(writer, question, hits, how=answer, threshold=threshold)

    def _generator(self, given: Any) -> Any:
        """An object as it is; a name is loaded once."""
        if not isinstance(given, str | Path | None):
            return given
        from retrieval.readers import DEFAULT_GENERATOR, open_generator

        name = str(given or DEFAULT_GENERATOR)
        with self._loading:
            if name not in self._generators:
                self._generators[name] = open_generator(
                    name, dtype=self._dtype, device=self._device
                )
            return self._generators[name]

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """The documents with these ids, in order; None where there is none."""
        if isinstance(ids, str):
            raise QueryError("expected a list of ids, got one str; put it in a list")
        positions = [self._view.find(row_id) for row_id in ids]
        return [None if p is None else self._document(p) for p in positions]

    def __contains__(self, row_id: object) -> bool:
        return isinstance(row_id, str) and self._view.find(row_id) is not None

    def __len__(self) -> int:
        return len(self._view)

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Nothing to do: the maps close when the last hit's search is done with them."""


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise QueryError(f"k must be a whole number of at least 1, got {k!r}")
