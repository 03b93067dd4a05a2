"""The blocks of the inference form: linear maps over packed tokens, attention within each text.

Tokens of many texts stand end to end as [T, hidden], without padding, so that a linear map, a norm
or an activation costs what the tokens cost. Only attention sees where a text begins.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miniformer.minilm.fused_linear import FusedLinear, Kernels
from miniformer.minilm.model_components import SelfAttention, TransformerLayer
from miniformer.model.feedforward import Activation

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Group:
    """Texts of one length that stand end to end: where their tokens are, how many texts, how long.

    Equal lengths need no mask, so that attention computes nothing that is thrown away.
    """

    tokens: slice
    texts: int
    length: int


class FusedLayer:
    """A layer of the readable model over packed tokens: the same arithmetic, fewer passes."""

    def __init__(self, layer: TransformerLayer, dtype: torch.dtype, kernels: Kernels) -> None:
        attention: SelfAttention = layer.attention.self
        self._heads = attention.num_attention_heads
        self._contiguous = kernels.contiguous

        def linear(*linears: nn.Linear, activation: Activation | None = None) -> FusedLinear:
            return kernels.linear([in_format(one, dtype) for one in linears], activation)

        self._qkv = linear(attention.query, attention.key, attention.value)
        self._mixed = linear(layer.attention.output.dense)
        self._mixed_norm = in_format(layer.attention.output.LayerNorm, dtype)
        self._widen = linear(layer.intermediate.dense, activation=layer.intermediate.activation)
        self._narrow = linear(layer.output.dense)
        self._norm = in_format(layer.output.LayerNorm, dtype)
        self.widest = max(3 * attention.query.out_features, layer.intermediate.dense.out_features)

    def __call__(
        self, hidden: Tensor, groups: Sequence[Group], mixed: Tensor, scratch: Tensor
    ) -> Tensor:
        """Map [T, hidden], which may be overwritten, to a new [T, hidden].

        ``mixed`` [T, hidden] and ``scratch`` (flat, T times ``widest``) are room to work in.
        """
        self._attend(self._qkv(hidden, scratch), groups, mixed)
        attended = self._mixed_norm(self._mixed.onto(mixed, hidden))
        wide = self._widen(attended, scratch)
        out: Tensor = self._norm(self._narrow.onto(wide, attended))
        return out

    def _attend(self, qkv: Tensor, groups: Sequence[Group], mixed: Tensor) -> None:
        """Each text within itself: [T, 3 · hidden] to ``mixed`` [T, hidden]."""
        for group in groups:
            by_head = (group.texts, group.length, 3, self._heads, -1)
            split = qkv[group.tokens].view(by_head).permute(2, 0, 3, 1, 4)  # [3, N, H, L, D]
            if self._contiguous:
                split = split.contiguous()
            out = F.scaled_dot_product_attention(split[0], split[1], split[2])  # [N, H, L, D]
            by_text = out.transpose(1, 2)
            mixed[group.tokens].view(by_text.shape).copy_(by_text)


def in_format(module: Module, dtype: torch.dtype) -> Module:
    """The module itself where its weights are of the format, else a converted copy."""
    if all(weight.dtype == dtype for weight in module.parameters()):
        return module
    return deepcopy(module).to(dtype)
