"""Layers that look back at what was written and across at what was read, and the stack of them."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from miniformer.config.model_config import TransformerConfig
from miniformer.model.cache import Cache
from miniformer.model.dropout import Dropout
from miniformer.model.encoder import Stack, make_attention, make_feedforward
from miniformer.model.masks import biased
from miniformer.model.norm import make_norm
from miniformer.model.position import Position

LayerCache = tuple[Cache | None, Cache | None]  # self-attention's, cross-attention's


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention and feed-forward, each added to the stream."""

    def __init__(self, config: TransformerConfig, position: Position) -> None:
        super().__init__()
        before = partial(make_norm, config, present=config.pre_norm)
        after = partial(make_norm, config, present=not config.pre_norm)
        self.before_attention, self.after_attention = before(), after()
        self.self_attention = make_attention(config, position)
        self.before_cross, self.after_cross = before(), after()
        self.cross_attention = make_attention(config)
        self.before_feedforward, self.after_feedforward = before(), after()
        self.feedforward = make_feedforward(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        memory_mask: Tensor | None,
        past: LayerCache = (None, None),
        use_cache: bool = False,
    ) -> tuple[Tensor, tuple[Tensor | None, Tensor | None], LayerCache]:
        """Map [B, L, d_model] to itself beside a memory [M, S, d_model].

        B may be a multiple of M: rows that follow each other then read the same memory, which is
        neither copied nor projected again.
        """
        h = self.before_attention(x)
        h, own, seen = self.self_attention(h, h, h, mask, past[0], use_cache)
        x = self.after_attention(x + self.dropout(h))
        h = self.before_cross(x).reshape(memory.size(0), -1, x.size(-1))  # [M, B/M · L, d_model]
        h, across, read = self.cross_attention(h, memory, memory, memory_mask, past[1], use_cache)
        x = self.after_cross(x + self.dropout(h.view_as(x)))
        h = self.feedforward(self.before_feedforward(x))
        return self.after_feedforward(x + self.dropout(h)), (own, across), (seen, read)


class Decoder(Stack):
    """A stack of :class:`DecoderLayer`."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config, DecoderLayer, causal=True)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        past: Sequence[LayerCache] | None = None,
        use_cache: bool = False,
    ) -> tuple[Tensor, list[tuple[Tensor | None, Tensor | None]], list[LayerCache]]:
        """Decode token vectors [B, L, d_model] beside a memory [M, S, d_model].

        Returns the states [B, L, d_model], and of every layer its weights (self [B, H, L, T], cross
        [M, H, B/M · L, S]) and its caches, None where they were not asked for.
        """
        x = self.input(tokens, positions)
        pasts = past or [(None, None)] * len(self.layers)
        before = pasts[0][0].length if pasts[0][0] is not None else 0
        mask = biased(mask, self.position.bias(x.size(1), before + x.size(1)))
        weights, caches = [], []
        for layer, kept in zip(self.layers, pasts, strict=True):
            x, attended, cache = self.run(layer, x, memory, mask, memory_mask, kept, use_cache)
            weights.append(attended)
            caches.append(cache)
        return self.final_norm(x), weights, caches
