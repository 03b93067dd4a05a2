"""What a search found, in a better order: by a model that reads question and text together, or with
less of the same (MMR).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from indexes.forks import Process
from retrieval.documents import Document, Hit
from retrieval.encoding import Vectors, check_texts, windows
from retrieval.errors import ModelError, QueryError

DEPTH = 50  # candidates of a question that are read again
TOGETHER = 16  # questions whose candidates are scored in one call
RERANK = "rerank"
# The scores that can stand behind an order, the last that was made first; else it is the cosine.
BEHIND = (RERANK, "fused", "lexical")
# What a folder that is no proper model folder, or a wrong argument, can raise.
EXPECTED = (OSError, ValueError, KeyError, TypeError, AttributeError)

Scores = npt.NDArray[np.floating]
Order = npt.NDArray[np.int64]
Pair = tuple[str, str]


class Reranker(Protocol):
    """What :func:`rerank` needs; one that scores many questions at once is a
    :class:`PairReranker` too.
    """

    def score(self, question: str, texts: Sequence[str]) -> Scores:
        """How well each text answers, float32 [n]: any finite numbers, higher is better."""


@runtime_checkable
class PairReranker(Protocol):
    """A reranker that takes pairs of many questions together."""

    def score_pairs(self, pairs: Sequence[Pair]) -> Scores:
        """How well each (question, text) fits, float32 [n]."""


class CrossEncoderReranker:
    """A MiniLM or BERT cross-encoder by name or folder; see :mod:`miniformer.weights` for names.

    ``max_length`` (tokens of question and text together) defaults to the model's own, ``dtype`` and
    ``device`` are as those of :class:`~retrieval.assembly.Encoder`. A pass takes as many pairs as
    fit into a fixed number of tokens. Safe to call from many threads. ModelError when the model is
    not there, damaged or of another kind; QueryError for a text that is no text.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        dtype: str = "auto",
        device: str = "auto",
        max_length: int | None = None,
    ) -> None:
        from miniformer.minilm.cross_encoder import CrossEncoder
        from miniformer.minilm.devices import pick_device, pick_dtype

        self._process = Process()
        try:
            where = pick_device(device)
            loaded = CrossEncoder.from_pretrained(str(model), max_length=max_length)
            self._model = loaded.to(where, pick_dtype(dtype, where))
        except EXPECTED as error:
            reason = f"its configuration lacks {error}" if isinstance(error, KeyError) else error
            raise ModelError(f"reranker '{model}': {reason}") from error
        self._model.classifier.float()  # bfloat16 would make ties of what differs by a percent

    def score(self, question: str, texts: Sequence[str]) -> Scores:
        """The model's score of each text, float32 [n]."""
        check_texts(texts)
        return self.score_pairs([(question, text) for text in texts])

    def score_pairs(self, pairs: Sequence[Pair]) -> Scores:
        """The model's score of each (question, text), float32 [n]."""
        self._process.check()
        check_texts([text for pair in pairs for text in pair])
        return self._model.predict(pairs)


def open_reranker(
    model: "str | Path | Reranker", *, dtype: str = "auto", device: str = "auto"
) -> Reranker:
    """The reranker of a name or folder; an object that is one already, as it is."""
    if not isinstance(model, str | Path):
        return model
    return CrossEncoderReranker(model, dtype=dtype, device=device)


def rerank(
    hits: Sequence[Hit],
    question: str,
    reranker: Reranker,
    k: int | None = None,
    *,
    depth: int = DEPTH,
) -> list[Hit]:
    """The first ``k`` hits, all without it, by the reranker's scores, which are put into
    ``scores["rerank"]``; equal ones keep their order. ``score`` stays the cosine.

    The first ``depth`` hits are read; what stands behind them stays behind, as it was. QueryError
    for k or depth below 1, ModelError for scores that are none.
    """
    return rerank_all([hits], [question], reranker, k, depth=depth)[0]


def rerank_all(
    hits: Sequence[Sequence[Hit]],
    questions: Sequence[str],
    reranker: Reranker,
    k: int | None = None,
    *,
    depth: int = DEPTH,
) -> list[list[Hit]]:
    """:func:`rerank` for each question, the candidates of several scored together."""
    _check_at_least_one(k=k, depth=depth)
    reranked: list[list[Hit]] = []
    for window in windows(zip(questions, hits, strict=True), TOGETHER):
        scores = _scores(reranker, [(question, found[:depth]) for question, found in window])
        for (_, found), scored in zip(window, scores, strict=True):
            reranked.append(_by_scores(found, scored)[:k])
    return reranked


def _scores(reranker: Reranker, asked: Sequence[tuple[str, Sequence[Hit]]]) -> list[Scores]:
    """The scores of each question's candidates."""
    texts = [[_full_text(hit) for hit in candidates] for _, candidates in asked]
    questions = [question for question, _ in asked]
    if isinstance(reranker, PairReranker):
        pairs = [(q, text) for q, own in zip(questions, texts, strict=True) for text in own]
        scored = _checked(reranker.score_pairs(pairs), len(pairs)) if pairs else np.empty(0)
        return np.split(scored, np.cumsum([len(own) for own in texts])[:-1])
    return [
        _checked(reranker.score(question, own), len(own)) if own else np.empty(0)
        for question, own in zip(questions, texts, strict=True)
    ]


def _full_text(hit: Hit) -> str:
    return Document(hit.id, hit.text, hit.title).full_text


def _checked(given: Scores, count: int) -> Scores:
    scores = np.asarray(given)
    if scores.shape != (count,):
        raise ModelError(f"the reranker gave scores {scores.shape} for {count} texts")
    if not np.isfinite(scores).all():
        at = int(np.flatnonzero(~np.isfinite(scores))[0])
        raise ModelError(f"the reranker gave text {at} the score {scores[at]}; try dtype float32")
    return scores


def _by_scores(hits: Sequence[Hit], scores: Scores) -> list[Hit]:
    read = [
        replace(hits[at], scores={**hits[at].scores, RERANK: float(scores[at])})
        for at in np.argsort(-scores, kind="stable")
    ]
    return _numbered([*read, *hits[len(scores) :]])


def _numbered(hits: Sequence[Hit]) -> list[Hit]:
    return [replace(hit, rank=rank) for rank, hit in enumerate(hits, start=1)]


def _check_at_least_one(**numbers: int | None) -> None:
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise QueryError(f"{name} must be at least 1, got {number}")


def mmr(
    query: Vectors,
    candidates: Vectors,
    relevance: Scores | None = None,
    lam: float = 0.5,
    k: int | None = None,
) -> Order:
    """Maximal marginal relevance (Carbonell & Goldstein 1998): the positions of ``k`` candidates,
    all without it, each the one of the rest with the highest lam · relevance − (1 − lam) · its
    greatest cosine to those before it; of equal ones the first. int64 [k].

    ``query`` [dim] and ``candidates`` [n, dim] are unit vectors; ``relevance`` [n] is their cosine
    to the query unless given, and should have its range. QueryError for lam outside 0 … 1, or k
    below 1.
    """
    _check_at_least_one(k=k)
    if not 0 <= lam <= 1:
        raise QueryError(f"mmr must be in 0 … 1 (1: relevance only), got {lam}")
    units = np.asarray(candidates, np.float64)
    relevant = units @ np.asarray(query, np.float64) if relevance is None else relevance
    gained = lam * np.asarray(relevant, np.float64)
    left = np.ones(len(units), bool)
    nearest = np.zeros(len(units))  # before the first there is none to be near to
    order: list[int] = []
    for _ in range(min(len(units), len(units) if k is None else k)):
        best = int(np.argmax(np.where(left, gained - (1 - lam) * nearest, -np.inf)))
        similar = units @ units[best]
        nearest = np.maximum(nearest, similar) if order else similar
        left[best] = False
        order.append(best)
    return np.array(order, np.int64)


def diversify(
    hits: Sequence[Hit], vectors: Vectors, lam: float = 0.5, k: int | None = None
) -> list[Hit]:
    """The first ``k`` hits by :func:`mmr`; ``vectors`` [n, dim] are theirs. Relevance is what their
    order goes by: the cosine, or another score, moved to 0 … 1.
    """
    relevance = _relevance(hits)
    unused = np.zeros(np.shape(vectors)[-1], np.float32)
    return _numbered([hits[at] for at in mmr(unused, vectors, relevance, lam, k)])


def _relevance(hits: Sequence[Hit]) -> Scores:
    name = next((name for name in BEHIND if hits and name in hits[0].scores), None)
    if name is None:
        return np.array([hit.score for hit in hits])
    known = [hit.scores[name] for hit in hits if name in hit.scores]
    least, most = min(known), max(known)
    scores = np.array([hit.scores.get(name, least) for hit in hits])
    return (scores - least) / ((most - least) or 1.0)
