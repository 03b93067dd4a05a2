"""A durable store of unit vectors and their payloads: numpy, mapped files, one writer."""

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
    from indexes.manifest import Content, Manifest, read_manifest
    from indexes.view import View
    from indexes.writer import IndexWriter

_HOMES = {
    "Content": "manifest",
    "ForkedError": "errors",
    "IndexCorrupt": "errors",
    "IndexExists": "errors",
    "IndexLocked": "errors",
    "IndexNotFound": "errors",
    "IndexTooNew": "errors",
    "IndexUnfinished": "errors",
    "IndexWriteFailed": "errors",
    "IndexWriter": "writer",
    "KindError": "errors",
    "Manifest": "manifest",
    "RetrievalError": "errors",
    "VectorError": "errors",
    "View": "view",
    "WhereError": "errors",
    "read_manifest": "manifest",
}
__all__ = [
    "Content",
    "ForkedError",
    "IndexCorrupt",
    "IndexExists",
    "IndexLocked",
    "IndexNotFound",
    "IndexTooNew",
    "IndexUnfinished",
    "IndexWriteFailed",
    "IndexWriter",
    "KindError",
    "Manifest",
    "RetrievalError",
    "VectorError",
    "View",
    "WhereError",
    "read_manifest",
]


def __getattr__(name: str) -> object:
    """Import a public name the first time it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'indexes' has no attribute {name!r}")
    return getattr(import_module(f"indexes.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
