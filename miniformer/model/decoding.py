"""The state of rows that are being written: what they have read, behind one interface.

``step`` reads the next tokens of every row and predicts what follows, ``select`` keeps rows,
``rewind`` forgets the last tokens. A model that cannot use a cache is recomputed each time.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from miniformer.model.cache import CrossCache, StaticCache
from miniformer.model.embedding import check_length, read_source
from miniformer.model.masks import both, causal_mask, first_real, padding_mask
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer

Generator = Seq2SeqTransformer | Transformer


class Decoding(Protocol):
    """What generation asks of a state; ``prompt`` int64 [B, P] is what it must be fed first."""

    prompt: Tensor
    prompt_mask: Tensor

    def step(self, tokens: Tensor) -> Tensor:
        """Read tokens [R, n] and predict what follows each: logits [R, n, V]."""

    def select(self, rows: Tensor) -> None:
        """Keep these rows in this order; those that share a source must stay together."""

    def drop(self, rows: Tensor) -> None:
        """Keep these rows and their sources only."""

    def rewind(self, length: int) -> None:
        """Forget what was read behind the first ``length`` tokens."""


class FromSource:
    """A sequence-to-sequence model at work: the source is read once, on the first step."""

    def __init__(
        self, model: Seq2SeqTransformer, source: Tensor, mask: Tensor | None, new_tokens: int
    ) -> None:
        self.model = model
        self.memory, self.memory_mask = model.encode(source, mask)
        check_length(new_tokens, model.decoder.position, "target")
        start = model.config.start_token_id
        self.prompt = torch.full((source.size(0), 1), start, device=source.device)
        self.prompt_mask = torch.ones_like(self.prompt)
        self.caches = [(StaticCache(new_tokens), CrossCache()) for _ in model.decoder.layers]

    def step(self, tokens: Tensor) -> Tensor:
        """Read tokens [R, n]: logits [R, n, V]."""
        length = tokens.size(1)
        before = self.caches[0][0].length
        mask = None if length == 1 else causal_mask(length, before, device=tokens.device)
        return self.model.decode(tokens, self.caches, self.memory, mask, self.memory_mask)

    def select(self, rows: Tensor) -> None:
        """Reorder what was written."""
        for own, _ in self.caches:
            own.select(rows)

    def drop(self, rows: Tensor) -> None:
        """Keep rows, with what they read."""
        self.select(rows)
        for _, across in self.caches:
            across.select(rows)
        self.memory = self.memory.index_select(0, rows)
        if self.memory_mask is not None:
            self.memory_mask = self.memory_mask.index_select(0, rows)

    def rewind(self, length: int) -> None:
        """Forget the last tokens."""
        for own, _ in self.caches:
            own.length = length


class FromPrompt:
    """A causal model at work. Prompts are moved to the right, so that all rows end together."""

    def __init__(
        self, model: Transformer, prompt: Tensor, mask: Tensor | None, new_tokens: int
    ) -> None:
        _, real = read_source(model.config, model.encoder.position, prompt, mask, "prompt")
        self.model = model
        mask = torch.ones_like(prompt) if real is None else real.long()
        order = mask.bool().long().argsort(dim=1, stable=True)
        self.prompt, self.prompt_mask = prompt.gather(1, order), mask.gather(1, order)
        capacity = prompt.size(1) + new_tokens - 1
        check_length(capacity, model.encoder.position, "prompt with its continuation")
        self.first = first_real(self.prompt_mask)
        self.seen = torch.ones(prompt.size(0), capacity, dtype=torch.bool, device=prompt.device)
        self.seen[:, : prompt.size(1)] = self.prompt_mask.bool()
        self.caches = [StaticCache(capacity) for _ in model.encoder.layers]

    def step(self, tokens: Tensor) -> Tensor:
        """Read tokens [R, n]: logits [R, n, V]."""
        start, length = self.caches[0].length, tokens.size(1)
        positions = torch.arange(start, start + length, device=tokens.device)[None]
        positions = (positions - self.first).clamp(min=0)
        mask = both(
            padding_mask(self.seen[:, : start + length]),
            causal_mask(length, start, device=tokens.device),
        )
        return self.model.decode(tokens, self.caches, positions, mask)

    def select(self, rows: Tensor) -> None:
        """Reorder everything."""
        self.first = self.first.index_select(0, rows)
        self.seen = self.seen.index_select(0, rows)
        for cache in self.caches:
            cache.select(rows)

    drop = select

    def rewind(self, length: int) -> None:
        """Forget the last tokens."""
        for cache in self.caches:
            cache.length = length


class Recomputed:
    """No cache: all tokens so far are read again at each step. For proofs, and foreign parts."""

    def __init__(
        self, model: Generator, source: Tensor, mask: Tensor | None, new_tokens: int
    ) -> None:
        self.fresh: Callable[[], FromSource | FromPrompt]
        if isinstance(model, Seq2SeqTransformer):
            state: FromSource | FromPrompt = FromSource(model, source, mask, new_tokens)
        else:
            state = FromPrompt(model, source, mask, new_tokens)
        self.state = state
        self.prompt, self.prompt_mask = state.prompt, state.prompt_mask
        self.read = self.prompt[:, :0]

    def step(self, tokens: Tensor) -> Tensor:
        """Read everything once more."""
        self.read = torch.cat([self.read, tokens], dim=1)
        self.state.rewind(0)
        return self.state.step(self.read)[:, -tokens.size(1) :]

    def select(self, rows: Tensor) -> None:
        """Reorder what was written."""
        self.read = self.read.index_select(0, rows)
        self.state.rewind(0)
        self.state.select(rows)

    def drop(self, rows: Tensor) -> None:
        """Keep rows, with what they read."""
        self.read = self.read.index_select(0, rows)
        self.state.rewind(0)
        self.state.drop(rows)

    def rewind(self, length: int) -> None:
        """Forget the last tokens."""
        self.read = self.read[:, :length]


def begin(
    model: Generator, source: Tensor, mask: Tensor | None, new_tokens: int, *, use_cache: bool
) -> Decoding:
    """A state for ``source`` with room for ``new_tokens`` more."""
    if isinstance(model, Transformer) and not (
        model.config.causal and model.config.input_dim is None
    ):
        raise ValueError("only a causal Transformer over token ids can generate: set causal=True")
    if not use_cache:
        return Recomputed(model, source, mask, new_tokens)
    if isinstance(model, Seq2SeqTransformer):
        return FromSource(model, source, mask, new_tokens)
    return FromPrompt(model, source, mask, new_tokens)
