"""Scaled dot-product attention (Vaswani et al. 2017, equation 1) and the head axis."""

import math

import torch.nn.functional as F
from torch import Tensor, finfo


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
) -> tuple[Tensor, Tensor | None]:
    """Mix ``values`` by softmax(QKᵀ/√D).

    queries [B, H, L, D], keys and values [B, H, S, D]; ``mask`` is bool, broadcastable to
    [B, H, L, S], and True where a query may attend. Returns the mix [B, H, L, D] and, when
    ``need_weights``, the weights [B, H, L, S]. A row that may attend nowhere gets finite values.
    """
    if not need_weights:
        mixed = F.scaled_dot_product_attention(
            queries, keys, values, attn_mask=mask, dropout_p=dropout
        )
        return mixed, None
    scores = queries @ keys.transpose(-2, -1) / math.sqrt(queries.size(-1))  # [B, H, L, S]
    if mask is not None:
        scores = scores.masked_fill(~mask, finfo(scores.dtype).min)
    weights = F.dropout(scores.softmax(dim=-1), dropout)
    return weights @ values, weights
