"""Semantic search: corpora in, an index on disk, questions answered with passages."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexes.errors import (
        IndexCorrupt,
        IndexExists,
        IndexLocked,
        IndexNotFound,
        IndexTooNew,
        IndexUnfinished,
        IndexWriteFailed,
        RetrievalError,
        VectorError,
    )
    from retrieval.assembly import Encoder
    from retrieval.building import build_index
    from retrieval.corpus import read_corpus
    from retrieval.documents import Document, Hit, Qrel
    from retrieval.encoding import TextEncoder
    from retrieval.errors import CorpusError, ModelError, QueryError, TrainingError
    from retrieval.report import BuildReport
    from retrieval.searcher import Searcher

_HOMES = {
    "BuildReport": "retrieval.report",
    "CorpusError": "retrieval.errors",
    "Document": "retrieval.documents",
    "Encoder": "retrieval.assembly",
    "Hit": "retrieval.documents",
    "IndexCorrupt": "indexes.errors",
    "IndexExists": "indexes.errors",
    "IndexLocked": "indexes.errors",
    "IndexNotFound": "indexes.errors",
    "IndexTooNew": "indexes.errors",
    "IndexUnfinished": "indexes.errors",
    "IndexWriteFailed": "indexes.errors",
    "ModelError": "retrieval.errors",
    "Qrel": "retrieval.documents",
    "QueryError": "retrieval.errors",
    "RetrievalError": "indexes.errors",
    "Searcher": "retrieval.searcher",
    "TextEncoder": "retrieval.encoding",
    "TrainingError": "retrieval.errors",
    "VectorError": "indexes.errors",
    "build_index": "retrieval.building",
    "read_corpus": "retrieval.corpus",
}
__all__ = [
    "BuildReport",
    "CorpusError",
    "Document",
    "Encoder",
    "Hit",
    "IndexCorrupt",
    "IndexExists",
    "IndexLocked",
    "IndexNotFound",
    "IndexTooNew",
    "IndexUnfinished",
    "IndexWriteFailed",
    "ModelError",
    "Qrel",
    "QueryError",
    "RetrievalError",
    "Searcher",
    "TextEncoder",
    "TrainingError",
    "VectorError",
    "build_index",
    "read_corpus",
]

__version__ = "0.1.0"


logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    """Import a public name the first time it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'retrieval' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
