"""A question to its passages, and to an answer from them."""

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from indexes.forks import Process
from indexes.manifest import Content, read_manifest
from indexes.view import Verify, View
from retrieval.documents import Answer, Document, Hit
from retrieval.encoding import TextEncoder, Vectors, check_texts
from retrieval.errors import ModelError, QueryError
from retrieval.finding import find
from retrieval.hits import Finding, document
from retrieval.ranking import Ranker

DEFAULT_K, DEFAULT_PASSAGES = 10, 5  # hits of a search; passages that an answer is read from


class Searcher:
    """Cosine search over an index folder, as it was when it was opened or last refreshed.

    The model is the one that the index names, loaded from this machine at the first question, or
    ``encoder``; ``runtime`` is auto, numpy or torch: see :class:`~retrieval.runtimes.IndexEncoder`.
    ``verify="full"`` reads every byte first. Any number of threads may search at
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
        runtime: str = "auto",
    ) -> None:
        self._view = View(folder, verify=verify)
        self._ranker = Ranker(self._view)
        self._process, self._verify = Process(), verify
        self._given = encoder
        self._encoders = {} if encoder is None else {encoder.fingerprint: encoder}
        self._computing = {"device": device, "dtype": dtype}
        self._runtime = runtime
        self._loading, self._refreshing = threading.Lock(), threading.Lock()
        self._generators: dict[str, Any] = {}
        self._check_encoder(self._view)

    def _check_encoder(self, view: View) -> None:
        """ModelError where the encoder that was given is not the one that built the index."""
        encoder, model = self._given, view.content.model
        if encoder is not None and encoder.fingerprint != model["fingerprint"]:
            raise ModelError(
                f"{view.folder} was built with {model.get('name')} (fingerprint "
                f"{model['fingerprint'][:12]}), not with {type(encoder).__name__} (fingerprint "
                f"{encoder.fingerprint[:12]}): their vectors cannot be compared"
            )

    def refresh(self) -> bool:
        """Move to what has been committed since; False where nothing has. Searches that run keep
        what they began with. Errors are those of opening.
        """
        with self._refreshing:
            if read_manifest(self._view.folder).generation == self._view.manifest.generation:
                return False
            view = View(self._view.folder, verify=self._verify)
            self._check_encoder(view)
            self._view, self._ranker = view, Ranker(view)
        return True

    @property
    def content(self) -> Content:
        """What the index says of itself."""
        return self._view.content

    @property
    def encoder(self) -> TextEncoder:
        """The encoder of the index; loaded once."""
        return self._encoder_of(self._view)

    def _encoder_of(self, view: View) -> TextEncoder:
        self._process.check()
        model = view.content.model
        with self._loading:
            if model["fingerprint"] not in self._encoders:
                from retrieval.runtimes import IndexEncoder

                self._encoders[model["fingerprint"]] = IndexEncoder(
                    model, view.content.dim, runtime=self._runtime, **self._computing
                )
            return self._encoders[model["fingerprint"]]

    def search(
        self,
        question: str | None = None,
        k: int = DEFAULT_K,
        *,
        like: str | None = None,
        **how: Unpack[Finding],
    ) -> list[Hit]:
        """The ``k`` nearest documents, nearest first: fewer when the index has fewer, or when
        ``min_score`` (a cosine) leaves them out.

        ``where`` is a filter on metadata, id and title: ``"year >= 2020 and lang in ('en', 'de')"``
        (see :mod:`indexes.where`) or a pyarrow expression; there are always as many hits as it
        selects, up to ``k``. ``exact`` scores every row, where an index of another kind than flat
        would find the nearest with the recall that it certifies. ``like`` takes the document of an
        id in the place of a question, and leaves it out. QueryError for an empty question, an id
        that is not there, or k < 1; WhereError for a filter that does not fit.
        """
        if (question is None) == (like is None):
            raise QueryError("give a question or like, the id of a document")
        if like is None:
            return self.search_batch([str(question)], k, **how)[0]
        _check_k(k)
        ranker = self._ranker
        view = ranker.view
        position = view.find(like)
        if position is None:
            raise QueryError(f"there is no document with the id {like!r} in {view.folder}")
        vector = view.vectors(np.array([position]))
        hits = [hit for hit in find(ranker, None, vector, k + 1, **how)[0] if hit.id != like]
        return [replace(hit, rank=rank) for rank, hit in enumerate(hits[:k], start=1)]

    def search_batch(
        self,
        questions: Sequence[str],
        k: int = DEFAULT_K,
        **how: Unpack[Finding],
    ) -> list[list[Hit]]:
        """:meth:`search` for each question, encoded together."""
        check_texts(questions)
        for index, question in enumerate(questions):
            if not question.strip():
                raise QueryError(f"question {index + 1} is empty; ask something")
        _check_k(k)
        ranker = self._ranker
        if not questions or not len(ranker.view):
            return [[] for _ in questions]
        vectors = self._encoder_of(ranker.view).encode_query(questions)
        return find(ranker, questions, vectors, k, **how)

    def search_vectors(
        self, vectors: Vectors, k: int = DEFAULT_K, **how: Unpack[Finding]
    ) -> list[list[Hit]]:
        """The documents nearest to each row of float32 [n, dim], of any length but zero.

        VectorError when the width is not the index's or a row has no direction.
        """
        _check_k(k)
        return find(self._ranker, None, vectors, k, **how)

    def ask(self, question: str, k: int = DEFAULT_PASSAGES, **how: Any) -> Answer:
        """What the ``k`` nearest passages say: a text with the characters it rests on, or None.

        ``generator`` is a name, a folder, or an object with the methods of
        :class:`~retrieval.generating.Generator` or ``Reader``; unless given, the one that comes
        with the library. ``answer`` is quote, cite, free or auto, ``threshold`` the least
        confidence, 0 … 1 or auto: see :func:`~retrieval.rag.answer_all`. ``min_score``, ``where``
        and ``exact`` are as in :meth:`search`. QueryError for a question or a setting that cannot
        be, ModelError for a generator that is not there.
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
        **finding: Unpack[Finding],
    ) -> list[Answer]:
        """:meth:`ask` for each question, their passages found together."""
        from retrieval.rag import answer_all

        finding.setdefault("group", False)  # two passages of one document may both say something
        hits = self.search_batch(questions, k, **finding)
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
        **finding: Unpack[Finding],
    ) -> Generator[str, None, Answer]:
        """The pieces of the text that :meth:`ask` gives; the generator returns its answer."""
        from retrieval.rag import stream_answer

        finding.setdefault("group", False)
        hits = self.search(question, k, **finding)
        writer = self._generator(generator) if hits else None
        return stream_answer(writer, question, hits, how=answer, threshold=threshold)

    def _generator(self, given: Any) -> Any:
        """An object as it is; a name is loaded once."""
        self._process.check()
        if not isinstance(given, str | Path | None):
            return given
        from retrieval.readers import DEFAULT_GENERATOR, open_generator

        name = str(given or DEFAULT_GENERATOR)
        with self._loading:
            if name not in self._generators:
                self._generators[name] = open_generator(name, **self._computing)
            return self._generators[name]

    def get(self, ids: Sequence[str]) -> list[Document | None]:
        """The documents with these ids, in order; None where there is none."""
        if isinstance(ids, str):
            raise QueryError("expected a list of ids, got one str; put it in a list")
        view = self._view
        positions = [view.find(row_id) for row_id in ids]
        return [None if p is None else document(view, p) for p in positions]

    def documents(self) -> Iterator[Document]:
        """Every document of the index, in its order."""
        view = self._view
        return (document(view, int(position)) for position in view.positions())

    def __contains__(self, row_id: object) -> bool:
        return isinstance(row_id, str) and self._view.find(row_id) is not None

    def __len__(self) -> int:
        return len(self._view)

    def __enter__(self) -> "Searcher":
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to do: the maps close when nothing is left of them."""


def _check_k(k: int) -> None:
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise QueryError(f"k must be a whole number of at least 1, got {k!r}")
