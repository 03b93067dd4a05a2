"""Texts to vectors: what an encoder must offer, and how texts are grouped for it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol, TypedDict, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from retrieval.errors import QueryError

Vectors = npt.NDArray[np.float32]
Counts = npt.NDArray[np.int32]
Item = TypeVar("Item")

# Documents encoded together. Fixed, and counted from the first row, so that a build that was
# interrupted forms the same batches as one that was not.
WINDOW = 256
WINDOW_BYTES = 64 * 2**20  # a window of long texts ends early


class HowToCompute(TypedDict, total=False):
    """Where and how a model computes, as :class:`~retrieval.assembly.Encoder` takes it."""

    device: str
    dtype: str
    deterministic: bool


class EncoderOptions(HowToCompute, total=False):
    """The same, and how many tokens of a text it reads."""

    max_length: int | None


@runtime_checkable
class TextEncoder(Protocol):
    """What ``build_index`` and ``Searcher`` need of an encoder; safe to call from many threads."""

    @property
    def dim(self) -> int:
        """The width of a vector."""

    @property
    def max_length(self) -> int:
        """How many tokens of a text are read."""

    @property
    def fingerprint(self) -> str:
        """Equal for two encoders exactly when they give the same vectors, rounding aside."""

    def encode_document(self, texts: Sequence[str]) -> tuple[Vectors, Counts]:
        """Unit rows float32 [n, dim], and how many tokens each text lost at max_length."""

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        """Unit rows float32 [n, dim]."""

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token begins and ends in the text, in characters; only to cut passages."""


@runtime_checkable
class RecordedEncoder(TextEncoder, Protocol):
    """An encoder that an index can find again by itself."""

    @property
    def record(self) -> Mapping[str, Any]:
        """What the manifest keeps: name, folder, fingerprint, length, number format, files."""


def model_record(encoder: TextEncoder) -> Mapping[str, Any]:
    """What an index remembers of the encoder that built it."""
    if isinstance(encoder, RecordedEncoder):
        return encoder.record
    return {
        "name": type(encoder).__name__,
        "fingerprint": encoder.fingerprint,
        "max_length": encoder.max_length,
    }


def windows(items: Iterable[Item], size: int = WINDOW) -> Iterator[list[Item]]:
    """Consecutive lists of ``size`` items; the last may be shorter."""
    source = iter(items)
    while window := list(islice(source, size)):
        yield window


def check_texts(texts: Sequence[str]) -> None:
    """QueryError unless every text is a str that UTF-8 can hold."""
    if isinstance(texts, str):
        raise QueryError("expected a list of texts, got one str; put it in a list")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise QueryError(f"text {index} is {type(text).__name__}; expected str")
        if not is_utf8(text):
            raise QueryError(f"text {index} holds a lone surrogate, which is not Unicode text")


def is_utf8(text: str) -> bool:
    """Whether a text is free of lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
