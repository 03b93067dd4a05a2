"""Names to encoders: the one room that knows both the models and what retrieval asks of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch

from indexes.forks import Process
from miniformer.minilm.devices import pick_device, pick_dtype
from miniformer.minilm.folder import fingerprint, read_spec, vector_files
from miniformer.minilm.inference import FusedSentenceTransformer
from miniformer.minilm.mini_lm_model import SentenceTransformer
from miniformer.minilm.model_loader import load_folder
from miniformer.minilm.tokenizer import MiniLMTokenizer, pad
from miniformer.weights import DEFAULT_MODEL, FoundModel, check_pin, file_stamps, find_model
from retrieval.encoding import Counts, Vectors, check_texts, token_batches, windows
from retrieval.errors import ModelError
from retrieval.runtimes import EXPECTED, check_same, find_recorded, reason

Run = Callable[[Sequence[Sequence[int]]], Vectors]
# Padded tokens in one forward pass of a device that is not the CPU: enough to keep it busy.
TOKEN_BUDGET = {"cuda": 131_072, "mps": 16_384}
WIDTH = 8  # batches are as wide as a multiple of this: each shape that is met costs memory


class Encoder:
    """A MiniLM sentence encoder by name or folder; see :mod:`miniformer.weights` for the names.

    ``max_length`` defaults to the model's own, ``dtype="auto"`` is bfloat16 where the processor
    has it in hardware, ``device="auto"`` is CUDA, MPS or the CPU. Every row that leaves is float32,
    finite and of unit length. Safe to call from many threads. ModelError when the model is not
    there, damaged or of another kind; QueryError for a text that is no text.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        dtype: str = "auto",
        device: str = "auto",
        max_length: int | None = None,
    ) -> None:
        try:
            self._load(find_model(model), {}, dtype, device, max_length)
        except EXPECTED as error:
            raise ModelError(reason(error)) from error

    @classmethod
    def from_record(
        cls, record: Mapping[str, Any], *, dtype: str = "auto", device: str = "auto"
    ) -> "Encoder":
        """The encoder that built an index, found on this machine only.

        ModelError when it is not here, or when another model is here under its name.
        """
        encoder = cls.__new__(cls)
        try:
            found = find_recorded(record)
            encoder._load(found, record, dtype, device, record["max_length"])
        except EXPECTED as error:
            raise ModelError(reason(error)) from error
        check_same(record, found.path, encoder.fingerprint)
        return encoder

    def _load(
        self,
        found: FoundModel,
        record: Mapping[str, Any],
        dtype: str,
        device: str,
        max_length: int | None,
    ) -> None:
        self._process = Process()
        self._device = pick_device(device)
        self._dtype = pick_dtype(dtype, self._device)
        self._name = found.name
        self._folder = found.path
        self._spec = read_spec(found.path)
        self.max_length = self._spec.max_length if max_length is None else max_length
        positions = self._spec.body["max_position_embeddings"]
        if not 3 <= self.max_length <= positions:
            raise ValueError(f"max_length {self.max_length} is not in 3…{positions}")
        self._tokenizer = MiniLMTokenizer(
            str(found.path), self.max_length, lower_case=self._spec.do_lower_case
        )
        self._files = file_stamps(vector_files(found.path, self._spec), record.get("files", ()))
        check_pin(found, self._files[0]["sha256"])
        model = SentenceTransformer.from_spec(self._spec, max_length=self.max_length)
        load_folder(model, found.path)
        self.dim = model.dim
        self._run = self._on_cpu(model) if self._device.type == "cpu" else self._on_device(model)

    def _on_cpu(self, model: SentenceTransformer) -> Run:
        return FusedSentenceTransformer(model, str(self._dtype).removeprefix("torch."))

    def _on_device(self, model: SentenceTransformer) -> Run:
        model.to(self._device, self._dtype)

        def run(rows: Sequence[Sequence[int]]) -> Vectors:
            vectors = np.empty((len(rows), self.dim), np.float32)
            lengths = [len(row) + -len(row) % WIDTH for row in rows]
            for batch in token_batches(lengths, TOKEN_BUDGET[self._device.type]):
                ids, mask = pad([rows[position] for position in batch], WIDTH)
                with torch.inference_mode():
                    found = model(ids.to(self._device), mask.to(self._device))
                vectors[batch] = found.cpu().numpy()
            return vectors

        return run

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all that decides a vector: weights, tokenizer, pooling, length, prompts."""
        hashes = [stamp["sha256"] for stamp in self._files]
        return fingerprint(self._spec, hashes, self.max_length)

    @property
    def record(self) -> Mapping[str, Any]:
        """What an index keeps to find this model again, and to know it from another."""
        return {
            "name": self._name,
            "folder": str(self._folder),
            "fingerprint": self.fingerprint,
            "max_length": self.max_length,
            "dtype": str(self._dtype).removeprefix("torch."),
            "device": self._device.type,
            "files": self._files,
        }

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Unit rows float32 [n, dim] in the order of the texts, as sentence-transformers' encode:
        with the folder's default prompt, where it has one.
        """
        return self._encode(texts, self._spec.default_prompt or "")[0]

    def encode_query(self, texts: Sequence[str]) -> Vectors:
        """Unit rows float32 [n, dim], with the folder's prompt for queries."""
        return self._encode(texts, "query")[0]

    def encode_document(self, texts: Sequence[str]) -> tuple[Vectors, Counts]:
        """Unit rows float32 [n, dim], with the folder's prompt for documents, and the tokens that
        each text lost at ``max_length``: int32 [n], estimated beyond a few thousand characters.
        """
        return self._encode(texts, "document")

    def encode_stream(self, texts: Iterable[str]) -> Iterator[Vectors]:
        """Rows of documents in order, a few hundred at a time, in bounded memory."""
        for window in windows(texts):
            yield self.encode_document(window)[0]

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token begins and ends in the text, in characters."""
        return self._tokenizer.offsets(text)

    def _encode(self, texts: Sequence[str], prompt_name: str) -> tuple[Vectors, Counts]:
        self._process.check()
        check_texts(texts)
        prompt = self._spec.prompts.get(prompt_name, "")
        prompted = [prompt + text for text in texts]
        ids, dropped = self._tokenizer.token_ids(prompted)
        vectors = self._run(ids)
        _check_unit(vectors)
        return vectors, np.array(dropped, np.int32)


def _check_unit(vectors: Vectors) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3))
    if len(bad):
        raise ModelError(
            f"the model gave text {bad[0]} a vector of length {lengths[bad[0]]}; "
            "its weights may be damaged, or overflow in this dtype: try float32"
        )
