"""The one place where attention masks are made: bool, True where a query may attend."""

import torch
from torch import Tensor


def padding_mask(attention_mask: Tensor) -> Tensor:
    """Turn a tokenizer's mask [B, S] (non-zero = a real token) into a bool [B, 1, 1, S]."""
    return attention_mask.bool()[:, None, None, :]


def causal_mask(length: int, past: int = 0, *, device: torch.device | None = None) -> Tensor:
    """Bool [length, past + length]: a query sees every key before it, and itself."""
    mask = torch.ones(length, past + length, dtype=torch.bool, device=device)
    return mask.tril(past)


def both(left: Tensor | None, right: Tensor | None) -> Tensor | None:
    """What two masks allow together; None allows everything."""
    if left is None or right is None:
        return right if left is None else left
    return left & right


def biased(mask: Tensor | None, bias: Tensor | None) -> Tensor | None:
    """One mask for scores that carry a bias [1, H, L, S]: float, the lowest number where a query
    may not attend. Without a bias the bool mask stays what it is.
    """
    if bias is None or mask is None:
        return mask if bias is None else bias
    return bias.masked_fill(~mask, torch.finfo(bias.dtype).min)


def first_real(attention_mask: Tensor) -> Tensor:
    """Where each row of a mask [B, S] begins: [B, 1], above 0 for padding on the left."""
    return attention_mask.bool().long().argmax(dim=1, keepdim=True)
