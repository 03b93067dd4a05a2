"""What can go wrong with texts and models; the root and the index's errors are in ``indexes``."""

from indexes.errors import RetrievalError


class CorpusError(RetrievalError):
    """A corpus that cannot be read; the message names the file and the row."""


class ModelError(RetrievalError):
    """A model that is not there, not supported, or not the one that built the index."""


class TrainingError(RetrievalError):
    """A training that cannot start or go on; what was kept stays."""


class QueryError(RetrievalError, ValueError):
    """A question that cannot be asked."""


class RowProblem(Exception):
    """Why a row cannot be a document; whoever reads the file adds where it stands."""
