"""The sentence encoder's inference form: made once from the readable model, equal to it, faster."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from miniformer.minilm.fused_linear import pick_format
from miniformer.minilm.inference_layers import FusedLayer, Group, in_format
from miniformer.minilm.mini_lm_model import SentenceTransformer
from miniformer.minilm.model_components import TransformerLayer
from miniformer.minilm.tokenizer import Ids

Floats = npt.NDArray[np.float32]

# Tokens of one pass: enough for the matrix library to be at its best, few enough that the widest
# activation (1,536 numbers a token) stays in the processor's cache.
TOKEN_BUDGET = 2_048

# The tokens [N, L, hidden] of texts of one length to their vectors, float32 [N, hidden].
POOLINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda tokens: tokens.float().mean(1),
    "cls": lambda tokens: tokens[:, 0].float(),
    "max": lambda tokens: tokens.float().amax(1),
}


class FusedSentenceTransformer:
    """A sentence encoder for inference on a CPU, with the weights of a readable one.

    ``dtype`` is float32, bfloat16, or auto: bfloat16 where the processor multiplies it. Weights are
    converted once; those that stay as they are remain the model's own memory: do not train it on.
    In float32 the layers' weights are copied once more when few tokens first come by themselves.
    Texts are laid end to end, so that padding costs nothing, at most ``token_budget`` tokens in a
    pass (a longer text goes alone), which bounds the memory.

    With ``deterministic`` each text goes alone, so that its vector is the same to the bit whatever
    it is batched with, on one machine with one number of threads: a matrix product of another shape
    adds in another order. Safe to call from many threads. ValueError for an unknown dtype, a
    budget below 1, a model elsewhere than on the CPU or not in float32.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        dtype: str = "auto",
        *,
        token_budget: int = TOKEN_BUDGET,
        deterministic: bool = False,
    ) -> None:
        _check(model, token_budget)
        self.dtype, kernels = pick_format(dtype)
        self.dim = model.dim
        self.max_length = model.model.max_length
        self.deterministic = deterministic
        self._budget = token_budget
        self._normalize = model.normalize
        self._pool = POOLINGS[model.pooling]
        self._multiple = kernels.multiple
        embeddings = model.model.embeddings
        types = embeddings.token_type_embeddings.weight.detach()
        positions = embeddings.position_embeddings.weight.detach()
        self._words = embeddings.word_embeddings.weight.detach().to(self.dtype)
        self._positions = (positions + types[0]).to(self.dtype)  # every token is of the first type
        self._norm = in_format(embeddings.LayerNorm, self.dtype)
        layers = cast(Iterable[TransformerLayer], model.model.encoder.layer)
        self._layers = [FusedLayer(layer, self.dtype, kernels) for layer in layers]
        self._widest = max(layer.widest for layer in self._layers)
        self._dense = [in_format(dense, self.dtype) for dense in model.dense]

    def __call__(self, rows: Sequence[Ids]) -> Floats:
        """Embed the ids of each text, cut at ``max_length``, as float32 [n, dim], in order.

        Unit length where the model normalises. ValueError for a text of no tokens.
        """
        ids = [np.asarray(row[: self.max_length], np.int64) for row in rows]
        vectors = np.empty((len(ids), self.dim), np.float32)
        batches = list(self.batches([len(row) for row in ids]))
        longest = max((sum(len(ids[index]) for index in batch) for batch in batches), default=0)
        with torch.inference_mode():
            # The widest tensors are made once for all passes: fresh pages of memory are dear.
            scratch = torch.empty(self._padded(longest) * self._widest, dtype=self.dtype)
            for batch in batches:
                vectors[batch] = self._embed([ids[index] for index in batch], scratch).numpy()
        return vectors

    def batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Positions of the texts of each pass, the longest first; called with the texts of some
        neighbouring passes it makes the same passes again.
        """
        batch: list[int] = []
        tokens = 0
        for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
            if not lengths[index]:
                raise ValueError(f"text {index} has no tokens, not even [CLS]")
            if batch and (self.deterministic or tokens + lengths[index] > self._budget):
                yield batch
                batch, tokens = [], 0
            batch.append(index)
            tokens += lengths[index]
        if batch:
            yield batch

    def _padded(self, tokens: int) -> int:
        return tokens + -tokens % self._multiple(tokens)

    def _embed(self, rows: Sequence[npt.NDArray[np.int64]], scratch: Tensor) -> Tensor:
        """One pass over texts of falling length: [n, dim]."""
        groups = _groups([len(row) for row in rows])
        hidden = self._embed_tokens(np.concatenate(rows), groups)
        mixed = torch.empty_like(hidden)
        for layer in self._layers:
            hidden = layer(hidden, groups, mixed, scratch)
        pooled = torch.cat([self._pool(_by_text(hidden, group)) for group in groups])
        for dense in self._dense:
            pooled = dense(pooled)
        return F.normalize(pooled, dim=-1) if self._normalize else pooled

    def _embed_tokens(self, ids: npt.NDArray[np.int64], groups: Sequence[Group]) -> Tensor:
        """Words and positions, added and normalised: [T, hidden], T rounded up."""
        padded = np.pad(ids, (0, self._padded(len(ids)) - len(ids)))
        hidden = F.embedding(torch.from_numpy(padded), self._words)
        for group in groups:
            _by_text(hidden, group).add_(self._positions[: group.length])
        normed: Tensor = self._norm(hidden)
        return normed


def _check(model: SentenceTransformer, token_budget: int) -> None:
    kinds = {(weight.device.type, weight.dtype) for weight in model.parameters()}
    if kinds != {("cpu", torch.float32)}:
        found = ", ".join(sorted(f"{dtype} on {device}" for device, dtype in kinds))
        raise ValueError(f"the model holds {found}; expected torch.float32 on cpu")
    if token_budget < 1:
        raise ValueError(f"token_budget must be at least 1, got {token_budget}")


def _groups(lengths: Sequence[int]) -> list[Group]:
    """Neighbours of one length."""
    groups: list[Group] = []
    start = 0
    for length, equal in groupby(lengths):
        texts = len(list(equal))
        groups.append(Group(slice(start, start + texts * length), texts, length))
        start += texts * length
    return groups


def _by_text(hidden: Tensor, group: Group) -> Tensor:
    """The tokens of a group: [T, hidden] to a view [N, L, hidden]."""
    return hidden[group.tokens].view(group.texts, group.length, hidden.size(1))
