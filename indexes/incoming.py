"""Rows on their way in: what may be stored, and what is refused by name."""

from collections.abc import Sequence

import numpy as np

from indexes.errors import VectorError
from indexes.layout import LONGEST_ROW, Vectors, id_of

UNIT = (
    1e-3  # how far from 1 a row's length may be: a reduced precision rounds, a mistake is far off
)


def checked_ids(vectors: Vectors, payloads: Sequence[bytes], dim: int) -> list[str]:
    """The ids of rows that may be stored: float32 [n, dim] of unit length, and a JSON object with
    an "id" on one line for each; VectorError for those that may not.
    """
    if vectors.shape != (len(payloads), dim):
        raise VectorError(
            f"expected vectors of shape [{len(payloads)}, {dim}], got {list(vectors.shape)}"
        )
    try:
        ids = [id_of(payload) for payload in payloads]
    except ValueError as error:
        raise VectorError(f"a payload is {error}") from None
    if any(b"\n" in payload for payload in payloads):
        raise VectorError("a payload holds a line end; write the JSON object on one line")
    longest = max(map(len, payloads), default=0)
    if longest >= LONGEST_ROW:
        raise VectorError(f"a row of {longest} bytes is over the limit of {LONGEST_ROW}")
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT))
    if len(bad):
        raise VectorError(
            f"the vector of {ids[bad[0]]!r} has length {lengths[bad[0]]:.4g}; "
            "rows must be finite and of unit length"
        )
    return ids
