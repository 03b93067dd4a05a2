"""A matrix that is written as it comes, and appears under its name when it is complete."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from retrieval.encoding import Vectors


def write_matrix(path: Path, batches: Iterable[Vectors], dim: int) -> int:
    """Write float32 rows [n, dim] as .npy and return n; a failure leaves what was there before."""
    fresh = path.with_name(path.name + ".tmp")
    rows = 0
    try:
        with fresh.open("wb") as file:
            _write_header(file, rows, dim)
            for batch in batches:
                file.write(np.ascontiguousarray(batch, "<f4").tobytes())
                rows += len(batch)
            file.seek(0)
            _write_header(file, rows, dim)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    return rows


def _write_header(file: BinaryIO, rows: int, dim: int) -> None:
    # NumPy leaves room for the first axis to grow, so that the header keeps its length.
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
    np.lib.format.write_array_header_1_0(file, header)
