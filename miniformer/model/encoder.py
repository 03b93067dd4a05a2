"""Layers of self-attention and feed-forward, and the stack of them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from miniformer.config.model_config import TransformerConfig
from miniformer.model.attention import ATTENTIONS, unrotated
from miniformer.model.cache import Cache
from miniformer.model.dropout import Dropout
from miniformer.model.embedding import StackInput
from miniformer.model.feedforward import FEEDFORWARDS
from miniformer.model.masks import biased
from miniformer.model.norm import make_norm
from miniformer.model.position import Position, make_position
from miniformer.model.tables import row


def make_attention(config: TransformerConfig, position: Position | None = None) -> nn.Module:
    """The configuration's attention; without ``position`` nothing is rotated (cross-attention)."""
    return row(ATTENTIONS, config.attention, "attention")(
        config.d_model,
        config.n_heads,
        dropout=config.dropout,
        n_kv_heads=config.n_kv_heads,
        head_dim=config.head_dim,
        bias=config.use_bias,
        scaled=config.attention_scale,
        use_sdpa=config.use_sdpa,
        rotate=unrotated if position is None else position.rotate,
        **config.attention_options,
    )


def make_feedforward(config: TransformerConfig) -> nn.Module:
    """The configuration's feed-forward network."""
    return row(FEEDFORWARDS, config.feedforward, "feedforward")(
        config.d_model,
        config.d_ff,
        dropout=config.dropout,
        activation=config.activation,
        bias=config.use_bias,
        **config.feedforward_options,
    )


# States [B, L, d_model], then of every layer the weights [B, H, L, S] and the cache, or None.
Encoded = tuple[Tensor, list[Tensor | None], list[Cache | None]]


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each added to the stream.

    Pre-norm fills the slots before the two steps, post-norm those after them (Xiong et al. 2020).
    """

    def __init__(self, config: TransformerConfig, position: Position) -> None:
        super().__init__()
        before = partial(make_norm, config, present=config.pre_norm)
        after = partial(make_norm, config, present=not config.pre_norm)
        self.before_attention, self.after_attention = before(), after()
        self.self_attention = make_attention(config, position)
        self.before_feedforward, self.after_feedforward = before(), after()
        self.feedforward = make_feedforward(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, mask: Tensor | None, past: Cache | None = None, use_cache: bool = False
    ) -> tuple[Tensor, Tensor | None, Cache | None]:
        """Map [B, L, d_model] to itself, with the weights [B, H, L, S] and the cache on request."""
        h = self.before_attention(x)
        h, weights, cache = self.self_attention(h, h, h, mask, past, use_cache)
        x = self.after_attention(x + self.dropout(h))
        h = self.feedforward(self.before_feedforward(x))
        return self.after_feedforward(x + self.dropout(h)), weights, cache


class Stack(nn.Module):
    """What encoder and decoder are made of: an input, layers of one class, a last norm."""

    def __init__(
        self, config: TransformerConfig, layer: Callable[..., nn.Module], *, causal: bool
    ) -> None:
        super().__init__()
        self.position = make_position(config, causal=causal)
        self.input = StackInput(config, self.position)
        self.layers = nn.ModuleList(layer(config, self.position) for _ in range(config.n_layers))
        self.final_norm = make_norm(config, present=config.pre_norm and config.final_norm)
        self.run = runner(config)


class Encoder(Stack):
    """A stack of :class:`EncoderLayer`; ``causal`` when each position only looks back."""

    def __init__(self, config: TransformerConfig, *, causal: bool = False) -> None:
        super().__init__(config, EncoderLayer, causal=causal)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        mask: Tensor | None = None,
        past: Sequence[Cache | None] | None = None,
        use_cache: bool = False,
    ) -> Encoded:
        """Encode token vectors [B, L, d_model].

        ``mask`` is bool, broadcastable to [B, H, L, S]. Returns the states [B, L, d_model], and of
        every layer the weights and the cache, None where they were not asked for.
        """
        x = self.input(tokens, positions)
        pasts = past or [None] * len(self.layers)
        seen = pasts[0].length if pasts[0] is not None else 0
        mask = biased(mask, self.position.bias(x.size(1), seen + x.size(1)))
        weights, caches = [], []
        for layer, before in zip(self.layers, pasts, strict=True):
            x, attended, cache = self.run(layer, x, mask, before, use_cache)
            weights.append(attended)
            caches.append(cache)
        return self.final_norm(x), weights, caches


def runner(config: TransformerConfig) -> Callable[..., Any]:
    """How a stack calls its layers: as they are, or forgetting what the backward can recompute."""
    return partial(checkpoint, use_reentrant=False) if config.gradient_checkpointing else _call


def _call(layer: nn.Module, *arguments: Any) -> Any:
    return layer(*arguments)
