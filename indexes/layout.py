"""How a segment's rows lie in its files.

``.vec``   float32 or float16, little-endian [rows, dim]
``.docs``  the payloads, UTF-8 JSON objects with an "id", one a line
``.rows``  offsets u64 [rows + 1] into .docs · keys u64 [rows], sorted · CRCs u32 [rows] ·
           rows u32 [rows], the row of each key
``.del``   deleted rows, u32, ascending
"""

import hashlib
import json
import zlib
from mmap import mmap
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

LONGEST_ROW = 64 * 2**20  # bytes of one payload

# What a manifest's dtype means in ``.vec``.
VECTORS: dict[str, np.dtype[np.floating[Any]]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
}
U64 = np.dtype("<u8")
U32 = np.dtype("<u4")

Rows = npt.NDArray[np.uint32]
Keys = npt.NDArray[np.uint64]
Vectors = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def rows_bytes(rows: int) -> int:
    """The size of a ``.rows`` file."""
    return U64.itemsize * (2 * rows + 1) + 2 * U32.itemsize * rows


class RowTable(NamedTuple):
    """What a ``.rows`` file holds, as windows into its bytes."""

    offsets: npt.NDArray[np.uint64]
    keys: Keys
    crcs: Rows
    key_rows: Rows


def row_table(raw: mmap | bytes, rows: int) -> RowTable:
    """The parts of a ``.rows`` file of this many rows; it must have :func:`rows_bytes` bytes."""
    behind_keys = U64.itemsize * (2 * rows + 1)
    return RowTable(
        np.frombuffer(raw, U64, rows + 1),
        np.frombuffer(raw, U64, rows, offset=U64.itemsize * (rows + 1)),
        np.frombuffer(raw, U32, rows, offset=behind_keys),
        np.frombuffer(raw, U32, rows, offset=behind_keys + U32.itemsize * rows),
    )


def key_of(row_id: str) -> int:
    """The 64-bit hash that a row is looked up by; the id itself is confirmed from the payload."""
    return int.from_bytes(
        hashlib.blake2b(row_id.encode(errors="surrogatepass"), digest_size=8).digest(), "little"
    )


def row_crc(payload: bytes, vector: bytes) -> int:
    """The checksum of one row: its payload (line end included), then its vector."""
    return zlib.crc32(vector, zlib.crc32(payload))


def id_of(payload: bytes) -> str:
    """The id that a payload carries; ValueError when it carries none."""
    try:
        row_id = json.loads(payload)["id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        row_id = None
    if not isinstance(row_id, str):
        raise ValueError('not a JSON object with a text "id"')
    return row_id
