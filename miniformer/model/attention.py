"""Scaled dot-product attention (Vaswani et al. 2017, equation 1), its heads and its module."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, finfo, nn

from miniformer.model.cache import Cache, KeyValues, NoPast
from miniformer.model.dropout import dropout as drop_out

Rotation = Callable[[Tensor, int], Tensor]


def split_heads(x: Tensor, n_heads: int) -> Tensor:
    """Give each head its own axis: [B, L, H·D] becomes [B, H, L, D]."""
    batch, length, width = x.shape
    return x.view(batch, length, n_heads, width // n_heads).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """Undo :func:`split_heads`: [B, H, L, D] becomes [B, L, H·D]."""
    return x.transpose(1, 2).flatten(2)


def attend(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    mask: Tensor | None = None,
    *,
    dropout: float = 0.0,
    need_weights: bool = False,
    scale: float | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Mix ``values`` by softmax(scale · QKᵀ); ``scale`` is 1/√D unless given.

    queries [B, H, L, D], keys and values [B, H, S, D]; ``mask``, broadcastable to [B, H, L, S], is
    bool and True where a query may attend, or float and added to the scores. Returns the mix
    [B, H, L, D] and, when ``need_weights``, the weights [B, H, L, S]. A row that may attend
    nowhere gets finite values.
    """
    # On a CPU two plain products beat the fused kernel for one query a row (decoding), and where
    # there is dropout, which that kernel does not know.
    fused = (queries.size(2) > 1 and not dropout) or queries.device.type != "cpu"
    if fused and not need_weights:
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, dropout_p=dropout, scale=scale
        )
        return mixed, None
    scale = 1 / math.sqrt(queries.size(-1)) if scale is None else scale
    scores = queries @ keys.transpose(-2, -1) * scale  # [B, H, L, S]
    if mask is not None and mask.is_floating_point():
        scores = (scores + mask).clamp(min=finfo(scores.dtype).min)
    elif mask is not None:
        scores = scores.masked_fill(~mask, finfo(scores.dtype).min)
    weights = drop_out(scores.softmax(dim=-1), dropout)
    return weights @ values, weights if need_weights else None


def unrotated(x: Tensor, start: int) -> Tensor:
    """The rotation of models whose heads know nothing of positions."""
    return x


class MultiHeadAttention(nn.Module):
    """Attention with learned projections; grouped-query when ``n_kv_heads`` < ``n_heads``.

    ``rotate`` maps queries and keys [B, H, L, D] whose first position is ``start``. Set
    ``need_weights`` to have the weights returned by the fused backend too. ValueError where heads
    do not divide, with both numbers.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        dropout: float = 0.1,
        *,
        n_kv_heads: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        scaled: bool = True,
        use_sdpa: bool = True,
        rotate: Rotation = unrotated,
    ) -> None:
        super().__init__()
        kv_heads = n_kv_heads or n_heads
        if head_dim is None and d_model % n_heads:
            raise ValueError(f"d_model {d_model} is not divisible by n_heads {n_heads}")
        if n_heads % kv_heads:
            raise ValueError(f"n_heads {n_heads} is not divisible by n_kv_heads {kv_heads}")
        width = head_dim or d_model // n_heads
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, kv_heads, width
        self.scale = 1 / math.sqrt(width) if scaled else 1.0
        self.dropout = dropout
        self.need_weights = not use_sdpa
        self.rotate = rotate
        self.wq = nn.Linear(d_model, n_heads * width, bias=bias)
        self.wk = nn.Linear(d_model, kv_heads * width, bias=bias)
        self.wv = nn.Linear(d_model, kv_heads * width, bias=bias)
        self.wo = nn.Linear(n_heads * width, d_model, bias=bias)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        past_kv: Cache | tuple[Tensor, Tensor] | None = None,
        use_cache: bool = False,
    ) -> tuple[Tensor, Tensor | None, Cache | None]:
        """Attend from q [B, L, d_model] to k, v [B, S, d_model] behind what ``past_kv`` holds.

        ``mask`` is as :func:`attend` takes it, over past and present keys. Returns the output
        [B, L, d_model], the weights [B, H, L, S] where they were asked for, and the cache with k
        and v in it where ``use_cache``.
        """
        past = _as_cache(past_kv)
        start = past.length
        queries = self.rotate(split_heads(self.wq(q), self.n_heads), start)
        cache = past.extend(lambda: self.project(k, v, start))
        mixed, weights = attend(
            queries,
            self._per_query_head(cache.keys),
            self._per_query_head(cache.values),
            mask,
            dropout=self.dropout if self.training else 0.0,
            need_weights=self.need_weights,
            scale=self.scale,
        )
        return self.wo(merge_heads(mixed)), weights, cache if use_cache else None

    def project(self, k: Tensor, v: Tensor, start: int) -> tuple[Tensor, Tensor]:
        """Keys and values [B, H_kv, S, D] of positions that begin at ``start``."""
        keys = self.rotate(split_heads(self.wk(k), self.n_kv_heads), start)
        return keys, split_heads(self.wv(v), self.n_kv_heads)

    def _per_query_head(self, x: Tensor) -> Tensor:
        """Repeat each key head for the queries that share it."""
        shared = self.n_heads // self.n_kv_heads
        return x if shared == 1 else x.repeat_interleave(shared, dim=1)


ATTENTIONS: dict[str, Callable[..., nn.Module]] = {"multi_head": MultiHeadAttention}


def _as_cache(past_kv: Any) -> Cache | NoPast:
    if past_kv is None:
        return NoPast()
    return past_kv if hasattr(past_kv, "extend") else KeyValues(*past_kv)


@contextmanager
def weights_of(model: nn.Module) -> Iterator[None]:
    """Have every attention of ``model`` return its weights while the block runs."""
    modules = [m for m in model.modules() if isinstance(m, MultiHeadAttention)]
    before = [module.need_weights for module in modules]
    for module in modules:
        module.need_weights = True
    try:
        yield
    finally:
        for module, needed in zip(modules, before, strict=True):
            module.need_weights = needed
