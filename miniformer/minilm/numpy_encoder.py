"""A sentence encoder without torch: texts to unit vectors, and what an index must know of it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from miniformer.minilm.folder import fingerprint, read_spec, vector_files
from miniformer.minilm.numpy_forward import NumpySentenceTransformer
from miniformer.minilm.numpy_layers import Floats
from miniformer.minilm.tokenizer import MiniLMTokenizer
from miniformer.weights import FoundModel, check_pin, file_stamps

UNIT = 1e-3  # a row farther from unit length comes of damaged weights


class NumpyEncoder:
    """The encoder of a found model folder in float32 NumPy, for a few short texts.

    ``max_length`` defaults to the model's own; ``known`` are the file stamps of an earlier
    ``record``, whose hashes hold while a file's size and time do. Every row that leaves is float32,
    finite and of unit length, and equal to the torch model's, as is the fingerprint. Safe to call
    from many threads. FileNotFoundError, KeyError or ValueError when the folder is not whole,
    damaged, or asks for what only torch computes; TypeError or ValueError for a text that is none.
    """

    def __init__(
        self,
        found: FoundModel,
        *,
        max_length: int | None = None,
        known: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        self._found = found
        self._spec = read_spec(found.path)
        self.max_length = self._spec.max_length if max_length is None else max_length
        positions = self._spec.body["max_position_embeddings"]
        if not 3 <= self.max_length <= positions:
            raise ValueError(f"max_length {self.max_length} is not in 3…{positions}")
        self._tokenizer = MiniLMTokenizer(
            str(found.path), self.max_length, lower_case=self._spec.do_lower_case
        )
        self._files = file_stamps(vector_files(found.path, self._spec), known)
        check_pin(found, self._files[0]["sha256"])
        hashes = [stamp["sha256"] for stamp in self._files]
        self.fingerprint = fingerprint(self._spec, hashes, self.max_length)
        self._model = NumpySentenceTransformer(self._spec, found.path)

    @property
    def dim(self) -> int:
        """The width of a vector."""
        return self._model.dim

    @property
    def record(self) -> Mapping[str, Any]:
        """What an index keeps to find this model again, and to know it from another."""
        return {
            "name": self._found.name,
            "folder": str(self._found.path),
            "fingerprint": self.fingerprint,
            "max_length": self.max_length,
            "dtype": "float32",
            "device": "cpu",
            "files": self._files,
        }

    def encode(self, texts: Sequence[str]) -> Floats:
        """Unit rows float32 [n, dim], with the folder's default prompt, where it has one."""
        return self._encode(texts, self._spec.default_prompt or "")[0]

    def encode_query(self, texts: Sequence[str]) -> Floats:
        """Unit rows float32 [n, dim], with the folder's prompt for queries."""
        return self._encode(texts, "query")[0]

    def encode_document(self, texts: Sequence[str]) -> tuple[Floats, npt.NDArray[np.int32]]:
        """Unit rows float32 [n, dim], with the folder's prompt for documents, and the tokens that
        each text lost at ``max_length``: int32 [n], estimated beyond a few thousand characters.
        """
        return self._encode(texts, "document")

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token begins and ends in the text, in characters."""
        return self._tokenizer.offsets(text)

    def _encode(
        self, texts: Sequence[str], prompt_name: str
    ) -> tuple[Floats, npt.NDArray[np.int32]]:
        _check_texts(texts)
        prompt = self._spec.prompts.get(prompt_name, "")
        ids, dropped = self._tokenizer.token_ids([prompt + text for text in texts])
        vectors = self._model(ids)
        _check_unit(vectors)
        return vectors, np.array(dropped, np.int32)


def _check_texts(texts: Sequence[str]) -> None:
    """TypeError or ValueError unless every text is a str that UTF-8 can hold."""
    if isinstance(texts, str):
        raise TypeError("expected a list of texts, got one str; put it in a list")
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"text {index} is {type(text).__name__}; expected str")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(f"text {index} is not Unicode text: {error.reason}") from None


def _check_unit(vectors: Floats) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) < UNIT))
    if len(bad):
        raise ValueError(
            f"the model gave text {bad[0]} a vector of length {lengths[bad[0]]}; "
            "its weights may be damaged"
        )
