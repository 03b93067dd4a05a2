"""Text to WordPiece ids and back, by the model folder's own ``tokenizer.json``.

Torch is imported where tensors are made, so that ids alone need none.
"""

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer, normalizers

from miniformer.weights import DEFAULT_MODEL, find_model

if TYPE_CHECKING:
    from torch import Tensor

Ids = Sequence[int] | npt.NDArray[np.integer]  # of one text
# One word gives at most this many pieces (WordPiece turns a longer word into [UNK]), so the cut end
# of a text can change no more than this many of its last tokens.
PIECES_OF_ONE_WORD = 100
CHARACTERS_PER_TOKEN = 12  # a first guess of how much text fills the length; doubled when short


class MiniLMTokenizer:
    """The tokenizer of one model at one maximum length (which counts [CLS] and [SEP]).

    ``lower_case`` lowers texts first, for a model folder that asks for it.

    The underlying object is set up once and never changed, so that any number of threads may use
    it. Texts far longer than ``max_length`` are cut before they are tokenized, to the same ids.
    """

    def __init__(
        self, model_name: str = DEFAULT_MODEL, max_length: int = 64, *, lower_case: bool = False
    ) -> None:
        if max_length < 3:
            raise ValueError(f"max_length must be at least 3 ([CLS], a token, [SEP]): {max_length}")
        self.max_length = max_length
        self._lower_case = lower_case
        self._file = find_model(model_name).path / "tokenizer.json"
        self._tokenizer = self._open()
        # The file carries its own truncation and padding to 128 tokens; ours replace them.
        self._tokenizer.enable_truncation(max_length)

    def _open(self) -> Tokenizer:
        if not self._file.is_file():
            raise FileNotFoundError(
                f"{self._file} is missing; write it with transformers: "
                f"AutoTokenizer.from_pretrained('{self._file.parent}')"
                f".save_pretrained('{self._file.parent}')"
            )
        try:
            tokenizer = Tokenizer.from_file(str(self._file))
        except Exception as error:  # the library raises nothing more specific
            raise ValueError(f"{self._file} is damaged: {error}; fetch it again") from None
        if self._lower_case:
            lower = normalizers.Lowercase()
            own = tokenizer.normalizer
            tokenizer.normalizer = normalizers.Sequence([lower, own] if own else [lower])
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _whole(self) -> Tokenizer:
        """The same tokenizer without a maximum length."""
        return self._open()

    @property
    def vocab_size(self) -> int:
        """How many ids there are: 30,522 for MiniLM."""
        return int(self._tokenizer.get_vocab_size())

    def token_ids(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """The ids of each text, cut at ``max_length``, and how many tokens each lost by the cut.

        The loss is exact for texts up to a few thousand characters; of a longer one only the
        beginning is tokenized, and the loss is what the rest would give at the same rate.
        """
        ids: list[list[int]] = []
        dropped: list[int] = []
        beginnings = [text[: self._first_cut] for text in texts]
        encodings = self._tokenizer.encode_batch_fast(beginnings)
        for text, beginning, encoding in zip(texts, beginnings, encodings, strict=True):
            lost = _overflow(encoding)
            while len(beginning) < len(text) and lost <= PIECES_OF_ONE_WORD:
                beginning = text[: 2 * len(beginning)]
                encoding = self._tokenizer.encode(beginning)
                lost = _overflow(encoding)
            if len(beginning) < len(text):
                seen = len(encoding.ids) + lost
                lost = round(seen * len(text) / len(beginning)) - len(encoding.ids)
            ids.append(encoding.ids)
            dropped.append(lost)
        return ids, dropped

    @property
    def _first_cut(self) -> int:
        return (self.max_length + PIECES_OF_ONE_WORD) * CHARACTERS_PER_TOKEN

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Where each token of the whole text begins and ends, in characters of ``text``."""
        spans: list[tuple[int, int]] = self._whole.encode(text, add_special_tokens=False).offsets
        return spans

    def encode(
        self,
        sentences: str | Sequence[str],
        padding: bool = True,
        truncation: bool = True,
        return_tensors: str = "pt",
    ) -> "dict[str, Tensor]":
        """Tokenize into ``input_ids``, ``attention_mask``, ``token_type_ids``, each int64 [B, L].

        Without ``padding`` all sentences must have one length; ``truncation=False`` keeps
        every token, up to what the model has positions for.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors must be 'pt', got {return_tensors!r}")
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        if truncation:
            rows, _ = self.token_ids(texts)
        else:
            rows = [encoding.ids for encoding in self._whole.encode_batch(texts)]
        lengths = sorted({len(row) for row in rows})
        if not padding and len(lengths) > 1:
            raise ValueError(f"without padding all lengths must agree, got {lengths}")
        ids, mask = pad(rows)
        types = ids.new_zeros(ids.shape)
        return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}

    def decode(self, ids: "Sequence[int] | Tensor", skip_special_tokens: bool = True) -> str:
        """The text of one row of ids."""
        row = [int(token) for token in ids]
        return str(self._tokenizer.decode(row, skip_special_tokens=skip_special_tokens))


def pad(rows: Sequence[Ids], multiple: int = 1) -> "tuple[Tensor, Tensor]":
    """Ids and mask, int64 [B, L]: rows on the left, zeros behind them; L is the longest, rounded
    up to a multiple.
    """
    import torch

    longest = max((len(row) for row in rows), default=0)
    ids = torch.zeros(len(rows), longest + -longest % multiple, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.as_tensor(row)
        mask[index, : len(row)] = 1
    return ids, mask


def _overflow(encoding: Encoding) -> int:
    """How many tokens of the text the truncation left out."""
    return sum(len(part.ids) - sum(part.special_tokens_mask) for part in encoding.overflowing)
