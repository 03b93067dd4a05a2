"""Names to generators: our reader that points, T5 and BART folders that write."""

import json
import threading
from collections.abc import Iterator, Sequence
from math import exp, log
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from miniformer.minilm.devices import pick_device, pick_dtype
from miniformer.model.generation import stream
from miniformer.model.packing import pack
from miniformer.model.passages import PassageRows, plain, read_passages, stack_rows
from miniformer.model.pointer import find_spans
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.weights import find_model
from retrieval.errors import ModelError
from retrieval.generating import Finding, Span, one_line
from retrieval.runtimes import EXPECTED

DEFAULT_GENERATOR = "miniformer-quotes"
SHIPPED = Path(__file__).parent / "generators"
ROW_LENGTH = 384  # tokens of a row: question and window of a passage
MOST_TOKENS = 8_192  # of all passages of a question; what lies behind is not read
NEW_TOKENS = 64  # of a written answer


def open_generator(
    name: str | Path = DEFAULT_GENERATOR, *, dtype: str = "auto", device: str = "auto"
) -> "PointingReader | PromptedGenerator":
    """The generator of a name or folder: one that points at spans, or a T5 or BART that writes.

    ``dtype`` is ``auto``, ``float32``, ``bfloat16`` or ``int8``; on a CPU the weights are laid out
    for it once. ModelError when there is none, or when it cannot be read.
    """
    try:
        folder = generator_folder(str(name))
        described = json.loads((folder / "config.json").read_bytes())
        model = Seq2SeqTransformer.from_pretrained(folder)
        model = _placed(model, dtype, device)
        if described.get("head") == "pointer":
            return PointingReader(model, _tokenizer(folder, described), _calibration(folder))
        return PromptedGenerator(model, folder)
    except EXPECTED as error:
        raise ModelError(f"generator '{name}': {one_line(str(error))}") from error


def generator_folder(name: str) -> Path:
    """A folder of one's own, else the one of that name that comes with the library, else a model
    that is found by name. FileNotFoundError when there is none.
    """
    shipped = SHIPPED / name
    if not Path(name).is_dir() and shipped.parent == SHIPPED and shipped.is_dir():
        return shipped
    return find_model(name).path


def _placed(model: Seq2SeqTransformer, dtype: str, device: str) -> Seq2SeqTransformer:
    where = pick_device(device)
    if where.type == "cpu":
        precision = str(pick_dtype("auto", where)).removeprefix("torch.")
        return pack(model, precision if dtype == "auto" else dtype)
    return model.to(where, pick_dtype(dtype, where))


def _tokenizer(folder: Path, described: dict[str, Any]) -> Tokenizer:
    own = folder / "tokenizer.json"
    path = own if own.is_file() else find_model(described["base"]["name"]).path / "tokenizer.json"
    try:
        tokenizer: Tokenizer = plain(Tokenizer.from_file(str(path)))
    except Exception as error:  # tokenizers knows no narrower one
        raise ValueError(f"{path} is damaged: {error}") from None
    return tokenizer


def _calibration(folder: Path) -> dict[str, float]:
    path = folder / "answering.json"
    found = json.loads(path.read_bytes()) if path.is_file() else {}
    try:
        return {name: float(value) for name, value in found.items()}
    except (AttributeError, TypeError, ValueError):
        raise ValueError(f"{path}: expected numbers slope, offset and threshold") from None


class PointingReader:
    """Answers by the spans that a pointer model finds in passages encoded apart and read together.

    ``calibration`` has the ``slope`` and ``offset`` that make a probability a confidence (Platt
    1999): the logistic function of slope · logit + offset; and the ``threshold``.
    """

    def __init__(
        self, model: Seq2SeqTransformer, tokenizer: Tokenizer, calibration: dict[str, float]
    ) -> None:
        self._model, self._tokenizer = model, tokenizer
        self.slope = calibration.get("slope", 1.0)
        self.offset = calibration.get("offset", 0.0)
        self.threshold = calibration.get("threshold", 0.5)

    def read(
        self, questions: Sequence[str], passages: Sequence[Sequence[str]]
    ) -> list[Finding | None]:
        """The likeliest answer to each question, with every place where the same words stand."""
        return [self._read(*pair) for pair in zip(questions, passages, strict=True)]

    def _read(self, question: str, passages: Sequence[str]) -> Finding | None:
        if not passages:
            return None
        rows = read_passages(self._tokenizer, question, passages, ROW_LENGTH)
        cut = _within(rows, MOST_TOKENS)
        ids, mask, windows = stack_rows([cut])
        device = next(self._model.parameters()).device
        ids, mask, windows = ids.to(device), mask.to(device), windows.to(device)
        if not windows.any():
            return None
        (spans,) = find_spans(self._model, ids, mask, windows)
        places: dict[str, list[Span]] = {}
        chances: dict[str, float] = {}
        for span in spans:
            place = Span(*cut.characters(span.row, span.first, span.last))
            text = passages[place.passage][place.start : place.end].casefold()
            if place not in places.setdefault(text, []):
                places[text].append(place)
            chances[text] = chances.get(text, 0.0) + span.probability
        if not chances:
            return None
        best = max(chances, key=lambda text: chances[text])
        return Finding(places[best], self._confidence(chances[best]))

    def _confidence(self, probability: float) -> float:
        inside = min(max(probability, 1e-6), 1 - 1e-6)
        logit = log(inside / (1 - inside))
        return 1 / (1 + exp(-max(-50.0, min(50.0, self.slope * logit + self.offset))))


def _within(rows: PassageRows, most: int) -> PassageRows:
    """The first rows, as many as stay within so many tokens; at least one."""
    total, kept = 0, 0
    for row in rows.rows:
        total += len(row)
        if kept and total > most:
            break
        kept += 1
    return rows.first(kept)


class PromptedGenerator:
    """A T5 or BART that writes an answer from a prompt; greedy, so always the same one."""

    def __init__(self, model: Seq2SeqTransformer, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._model = model
        self._tokenizer = AutoTokenizer.from_pretrained(str(folder))
        self._tokenizer.model_max_length = int(1e9)
        self._reading = threading.Lock()  # a fast tokenizer is not for several threads
        self.room = model.config.half("encoder").max_seq_len

    def count_tokens(self, text: str) -> int:
        """How many tokens a text has, with those that end it."""
        return len(self._ids(text))

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """What the model writes for each prompt, one at a time."""
        return ["".join(self.stream(prompt)) for prompt in prompts]

    def stream(self, prompt: str) -> Iterator[str]:
        """The same, as it is written."""
        source = torch.tensor([self._ids(prompt)[: self.room]])
        source = source.to(next(self._model.parameters()).device)
        written: list[int] = []
        shown = ""
        for (token,) in stream(self._model, source, max_new_tokens=NEW_TOKENS):
            written.append(int(token))
            with self._reading:
                text = str(self._tokenizer.decode(written, skip_special_tokens=True))
            if text.startswith(shown) and not text.endswith("\ufffd"):  # a character in two tokens
                yield text[len(shown) :]
                shown = text

    def _ids(self, text: str) -> list[int]:
        with self._reading:
            ids: list[int] = self._tokenizer(text, split_special_tokens=True).input_ids
        return ids
