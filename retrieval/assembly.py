"""Names to encoders: the one room that knows both the models and what retrieval asks of them."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
import torch

from indexes.forks import Process
from miniformer.minilm.devices import pick_device, pick_dtype
from miniformer.minilm.folder import fingerprint, read_spec, vector_files
from miniformer.minilm.inference import FusedSentenceTransformer
from miniformer.minilm.mini_lm_model import SentenceTransformer
from miniformer.minilm.model_loader import load_folder
from miniformer.minilm.padded_inference import PaddedSentenceTransformer
from miniformer.minilm.tokenizer import MiniLMTokenizer
from miniformer.weights import DEFAULT_MODEL, FoundModel, check_pin, file_stamps, find_model
from retrieval.background import Background, Ids, Window
from retrieval.encoding import Counts, Vectors, check_texts, windows
from retrieval.errors import ModelError
from retrieval.runtimes import EXPECTED, check_same, find_recorded, reason

# Tokens of a piece of work: small beside a window, and an interruption waits for no more than one.
PIECE = 8_192
# Documents whose lengths are sorted together. What an interruption loses is a window at most, some
# seconds of work: in float32 the processor takes ten times as long as in bfloat16 in hardware.
WINDOWS = {True: Window(4_096, 2**19), False: Window(4_096, 2**22)}  # by whether it is slow


class Encoder:
    """A MiniLM sentence encoder by name or folder; see :mod:`miniformer.weights` for the names.

    ``max_length`` defaults to the model's own, ``dtype="auto"`` is bfloat16 where the processor
    has it in hardware, ``device="auto"`` is CUDA, MPS or the CPU. With ``deterministic`` a text has
    the same vector to the bit whatever it is batched with, on one machine with one number of
    threads; it is slower. Every row that leaves is float32, finite and of unit length. Safe to call
    from many threads. ModelError when the model is not there, damaged or of another kind;
    QueryError for a text that is no text.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        *,
        dtype: str = "auto",
        device: str = "auto",
        max_length: int | None = None,
        deterministic: bool = False,
    ) -> None:
        self._deterministic = deterministic
        try:
            self._load(find_model(model), {}, dtype, device, max_length)
        except EXPECTED as error:
            raise ModelError(reason(error)) from error

    @classmethod
    def from_record(
        cls,
        record: Mapping[str, Any],
        *,
        dtype: str = "auto",
        device: str = "auto",
        deterministic: bool = False,
    ) -> "Encoder":
        """The encoder that built an index, found on this machine only.

        ModelError when it is not here, or when another model is here under its name.
        """
        encoder = cls.__new__(cls)
        encoder._deterministic = deterministic
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
        self._dtype, self._model = self._laid_out(model, dtype)
        slow = self._device.type == "cpu" and self._dtype == torch.float32
        self.window = WINDOWS[slow]

    def _laid_out(
        self, model: SentenceTransformer, dtype: str
    ) -> tuple[torch.dtype, FusedSentenceTransformer | PaddedSentenceTransformer]:
        alone = self._deterministic
        if self._device.type == "cpu":
            fused = FusedSentenceTransformer(model, dtype, deterministic=alone)
            return fused.dtype, fused
        chosen = pick_dtype(dtype, self._device)
        padded = PaddedSentenceTransformer(model, chosen, self._device, deterministic=alone)
        return chosen, padded

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
            **({"deterministic": True} if self._deterministic else {}),
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

    def encode_stream(self, texts: Iterable[str], *, workers: int = 1) -> Iterator[Vectors]:
        """Rows of documents in order, up to some thousands at a time, in bounded memory; the next
        texts are read and tokenized meanwhile. With ``workers`` so many processes encode.
        """
        with Background(self, workers) as background:
            for _, vectors in background.stream(texts, str):
                yield vectors

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token begins and ends in the text, in characters."""
        return self._tokenizer.offsets(text)

    def _encode(self, texts: Sequence[str], prompt_name: str) -> tuple[Vectors, Counts]:
        rows, lost = self.tokenize(texts, prompt_name)
        return self.embed(rows), lost

    def tokenize(
        self, texts: Sequence[str], prompt_name: str = "document"
    ) -> tuple[list[Ids], Counts]:
        """The ids of each text behind a prompt of the folder, and the tokens that each lost."""
        self._process.check()
        check_texts(texts)
        prompt = self._spec.prompts.get(prompt_name, "")
        rows: list[Ids] = []
        lost: list[int] = []
        for some in windows(texts):  # ids as arrays take a tenth of what the tokenizer gives
            ids, dropped = self._tokenizer.token_ids([prompt + text for text in some])
            rows += [np.array(row, np.int32) for row in ids]
            lost += dropped
        return rows, np.array(lost, np.int32)

    def pieces(self, rows: Sequence[Ids]) -> Iterator[list[int]]:
        """Positions of rows, in whole batches of like length, some thousands of tokens together."""
        lengths = [len(row) for row in rows]
        piece: list[int] = []
        tokens = 0
        for batch in self._model.batches(lengths):
            piece.extend(batch)
            tokens += sum(lengths[place] for place in batch)
            if tokens >= PIECE:
                yield piece
                piece, tokens = [], 0
        if piece:
            yield piece

    def embed(self, rows: Sequence[Ids]) -> Vectors:
        """Unit rows float32 [n, dim] of rows of ids."""
        self._process.check()
        vectors = self._model(rows)
        _check_unit(vectors)
        return vectors

    def elsewhere(self, workers: int) -> Callable[[Sequence[Ids]], Vectors]:
        """:meth:`embed` for one of so many processes, which share the threads of this one."""
        threads = max(1, torch.get_num_threads() // workers)
        dtype = str(self._dtype).removeprefix("torch.")
        how = (str(self._folder), dtype, self._device.type, self.max_length, self._deterministic)
        return partial(_embed, threads, *how)


def _embed(threads: int, *how: Any) -> Vectors:
    """What :meth:`Encoder.elsewhere` gives: the rows of ids come last."""
    *opened, rows = how
    return _opened(threads, *opened).embed(rows)


@cache
def _opened(
    threads: int, folder: str, dtype: str, device: str, max_length: int, deterministic: bool
) -> Encoder:
    """The encoder of a process that does nothing else, on a GPU of its own where there are some."""
    torch.set_num_threads(threads)
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    how: dict[str, Any] = {"dtype": dtype, "device": device, "max_length": max_length}
    return Encoder(folder, deterministic=deterministic, **how)


def _check_unit(vectors: Vectors) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1) < 1e-3))
    if len(bad):
        raise ModelError(
            f"the model gave text {bad[0]} a vector of length {lengths[bad[0]]}; "
            "its weights may be damaged, or overflow in this dtype: try float32"
        )
