"""Semantic search: corpora in, an index on disk, questions answered with passages."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from indexes.errors import (
        ForkedError,
        IndexCorrupt,
        IndexExists,
        IndexLocked,
        IndexNotFound,
        IndexTooNew,
        IndexUnfinished,
        IndexWriteFailed,
        KindError,
        RetrievalError,
        VectorError,
        WhereError,
    )
    from retrieval.assembly import Encoder
    from retrieval.building import build_index
    from retrieval.changing import change_index, delete_rows
    from retrieval.checking import check_index
    from retrieval.corpus import read_corpus
    from retrieval.documents import Answer, Citation, Document, Hit, Qrel
    from retrieval.encoding import TextEncoder
    from retrieval.errors import CorpusError, ModelError, QueryError, TrainingError
    from retrieval.evaluation import Evaluation, evaluate, evaluate_run
    from retrieval.exchange import export_index
    from retrieval.generating import Finding, Generator, Reader, Span
    from retrieval.importing import import_index
    from retrieval.quality import check_quality
    from retrieval.readers import open_generator
    from retrieval.report import BuildReport, ChangeReport
    from retrieval.searcher import Searcher
    from retrieval.sts import evaluate_pairs

_HOMES = {
    "Answer": "retrieval.documents",
    "BuildReport": "retrieval.report",
    "ChangeReport": "retrieval.report",
    "Citation": "retrieval.documents",
    "CorpusError": "retrieval.errors",
    "Document": "retrieval.documents",
    "Encoder": "retrieval.assembly",
    "Evaluation": "retrieval.evaluation",
    "Finding": "retrieval.generating",
    "ForkedError": "indexes.errors",
    "Generator": "retrieval.generating",
    "Hit": "retrieval.documents",
    "IndexCorrupt": "indexes.errors",
    "IndexExists": "indexes.errors",
    "IndexLocked": "indexes.errors",
    "IndexNotFound": "indexes.errors",
    "IndexTooNew": "indexes.errors",
    "IndexUnfinished": "indexes.errors",
    "IndexWriteFailed": "indexes.errors",
    "KindError": "indexes.errors",
    "ModelError": "retrieval.errors",
    "Qrel": "retrieval.documents",
    "QueryError": "retrieval.errors",
    "Reader": "retrieval.generating",
    "RetrievalError": "indexes.errors",
    "Searcher": "retrieval.searcher",
    "Span": "retrieval.generating",
    "TextEncoder": "retrieval.encoding",
    "TrainingError": "retrieval.errors",
    "VectorError": "indexes.errors",
    "WhereError": "indexes.errors",
    "build_index": "retrieval.building",
    "change_index": "retrieval.changing",
    "check_index": "retrieval.checking",
    "check_quality": "retrieval.quality",
    "delete_rows": "retrieval.changing",
    "evaluate": "retrieval.evaluation",
    "evaluate_pairs": "retrieval.sts",
    "evaluate_run": "retrieval.evaluation",
    "export_index": "retrieval.exchange",
    "import_index": "retrieval.importing",
    "open_generator": "retrieval.readers",
    "read_corpus": "retrieval.corpus",
}
__all__ = [
    "Answer",
    "BuildReport",
    "ChangeReport",
    "Citation",
    "CorpusError",
    "Document",
    "Encoder",
    "Evaluation",
    "Finding",
    "ForkedError",
    "Generator",
    "Hit",
    "IndexCorrupt",
    "IndexExists",
    "IndexLocked",
    "IndexNotFound",
    "IndexTooNew",
    "IndexUnfinished",
    "IndexWriteFailed",
    "KindError",
    "ModelError",
    "Qrel",
    "QueryError",
    "Reader",
    "RetrievalError",
    "Searcher",
    "Span",
    "TextEncoder",
    "TrainingError",
    "VectorError",
    "WhereError",
    "build_index",
    "change_index",
    "check_index",
    "check_quality",
    "delete_rows",
    "evaluate",
    "evaluate_pairs",
    "evaluate_run",
    "export_index",
    "import_index",
    "open_generator",
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
