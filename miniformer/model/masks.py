"""The one place where attention masks are made: bool, True where a query may attend."""

from torch import Tensor


def padding_mask(attention_mask: Tensor) -> Tensor:
    """Turn a tokenizer's mask [B, S] (non-zero = a real token) into a bool [B, 1, 1, S]."""
    return attention_mask.bool()[:, None, None, :]
