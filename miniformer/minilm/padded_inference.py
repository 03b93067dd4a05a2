"""The sentence encoder on a device that is not the CPU: texts of like length, padded together."""

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from miniformer.minilm.mini_lm_model import SentenceTransformer
from miniformer.minilm.tokenizer import Ids, pad

# Padded tokens in one forward pass: enough to keep the device busy.
TOKEN_BUDGET = {"cuda": 131_072, "mps": 16_384}
WIDTH = 8  # batches are as wide as a multiple of this: each shape that is met costs memory


class PaddedSentenceTransformer:
    """A readable sentence encoder moved to a device and a number format.

    With ``deterministic`` each text goes alone, so that its vector is the same to the bit whatever
    it is batched with.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        dtype: torch.dtype,
        device: torch.device,
        *,
        deterministic: bool = False,
    ) -> None:
        self._model = model.to(device, dtype)
        self._device = device
        self._budget = 1 if deterministic else TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["mps"])

    def __call__(self, rows: Sequence[Ids]) -> npt.NDArray[np.float32]:
        """Embed the ids of each text as float32 [n, dim], in order."""
        vectors = np.empty((len(rows), self._model.dim), np.float32)
        for batch in self.batches([len(row) for row in rows]):
            ids, mask = pad([rows[place] for place in batch], WIDTH)
            with torch.inference_mode():
                found = self._model(ids.to(self._device), mask.to(self._device))
            vectors[batch] = found.cpu().numpy()
        return vectors

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Positions of the texts of each pass, the longest first."""
        return token_batches([length + -length % WIDTH for length in lengths], self._budget)


def token_batches(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Positions of texts of similar length, longest first, grouped so that a padded batch stays
    within ``budget`` tokens (a longer text goes alone).
    """
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable").tolist()
    start = 0
    while start < len(order):
        size = max(1, budget // max(1, lengths[order[start]]))
        yield order[start : start + size]
        start += size
