"""Small real things that many tests need; the network is closed for all of them (pyproject)."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("RETRIEVAL_INDEX", None)
os.environ.pop("LLM_MODELS_PATH", None)

ROOT = Path(__file__).parent.parent


class BagOfWords:
    """A cheap encoder that obeys the protocol: each word adds its own random direction."""

    def __init__(self, dim: int = 32, max_length: int = 256, name: str = "bag") -> None:
        self.dim = dim
        self.max_length = max_length
        self.fingerprint = f"{name}-{dim}-{max_length}"
        self.asked: list[str] = []

    def encode_document(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        self.asked += texts
        lengths = [len(text.split()) for text in texts]
        dropped = [max(0, length - self.max_length) for length in lengths]
        return self.encode_query(texts), np.array(dropped, np.int32)

    def encode_query(self, texts: Sequence[str]) -> np.ndarray:
        rows = [self._sum(text.lower().split()[: self.max_length]) for text in texts]
        return np.stack(rows) if rows else np.empty((0, self.dim), np.float32)

    def _sum(self, words: list[str]) -> np.ndarray:
        total = np.full(self.dim, 1e-3)
        for word in words:
            seed = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
            total = total + np.random.default_rng(seed).standard_normal(self.dim)
        return (total / np.linalg.norm(total)).astype(np.float32)

    def offsets(self, text: str) -> list[tuple[int, int]]:
        spans, end = [], 0
        for word in text.split():
            start = text.index(word, end)
            end = start + len(word)
            spans.append((start, end))
        return spans


@pytest.fixture
def bag() -> BagOfWords:
    """A fresh stand-in encoder; ``bag.asked`` lists the documents it has encoded."""
    return BagOfWords()


@pytest.fixture(scope="session")
def bag_class() -> type[BagOfWords]:
    return BagOfWords


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT
