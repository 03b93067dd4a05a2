"""What can go wrong, as a tree under one root.

RetrievalError
├── IndexNotFound      no index in the folder
├── IndexUnfinished    a build was begun and not finished
├── IndexExists        a finished index is in the way
├── IndexTooNew        written by a newer version of the format
├── IndexCorrupt       a file is damaged; the message names it
├── IndexLocked        another process is writing
├── IndexWriteFailed   the disk refused (full, read-only, failing)
├── ForkedError        opened before a fork and used in the child
├── KindError          a kind of index, or a recall, that cannot be
├── VectorError        a vector that is zero, not finite, or of the wrong width
└── WhereError         a filter that cannot be read, or does not fit the columns
"""


class RetrievalError(Exception):
    """The root of every error that ``indexes`` and ``retrieval`` raise on purpose."""


class IndexNotFound(RetrievalError):
    """The folder holds no index."""


class IndexUnfinished(RetrievalError):
    """The folder holds a build that was begun and not finished."""


class IndexExists(RetrievalError):
    """A finished index, or something else, is in the way of a new one."""


class IndexTooNew(RetrievalError):
    """The index was written in a format that this version does not know."""


class IndexCorrupt(RetrievalError):
    """A file of the index is damaged."""


class IndexLocked(RetrievalError):
    """Another process is writing to the index."""


class IndexWriteFailed(RetrievalError):
    """The disk refused a write; what was published before is untouched."""


class ForkedError(RetrievalError, RuntimeError):
    """What was opened before a fork is used in the child, where FAISS and torch would hang."""


class KindError(RetrievalError, ValueError):
    """A kind of index that is not known or cannot hold these vectors, or a recall out of range."""


class VectorError(RetrievalError, ValueError):
    """A vector that cannot be stored or searched for."""


class WhereError(RetrievalError, ValueError):
    """A filter that cannot be read, or does not fit the columns; the message points at it."""
