"""Normalisations by name."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miniformer.config.model_config import TransformerConfig
from miniformer.model.tables import row


class RMSNorm(nn.Module):
    """x / √(mean(x²) + eps) · weight, the mean in float32 (Zhang and Sennrich 2019)."""

    def __init__(self, d_model: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last axis of [..., d_model]."""
        weight = self.weight.float()
        normed: Tensor = F.rms_norm(x.float(), x.shape[-1:], weight, eps=self.eps)
        return normed.to(x.dtype)


NORMS: dict[str, Callable[..., nn.Module]] = {
    "layernorm": lambda d_model, eps, bias: nn.LayerNorm(d_model, eps=eps, bias=bias),
    "rmsnorm": lambda d_model, eps, bias: RMSNorm(d_model, eps),
}


def make_norm(config: TransformerConfig, *, present: bool = True) -> nn.Module:
    """The configuration's norm, or a slot that does nothing."""
    if not present:
        return nn.Identity()
    make = row(NORMS, config.norm, "norm")
    return make(config.d_model, config.layer_norm_eps, config.use_bias)
