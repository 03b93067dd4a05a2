"""The blocks of a BERT encoder (Devlin et al. 2019), named as BERT's checkpoints name them.

The attribute names are a file format: a checkpoint's tensors fit by name, with no renaming table.
"""

import torch
from torch import Tensor, nn

from miniformer.model.attention import attend, merge_heads, split_heads
from miniformer.model.dropout import Dropout
from miniformer.model.feedforward import activation

NORM_EPS = 1e-12  # BERT's; torch's default of 1e-5 moves the embeddings


def require_positive(**sizes: int) -> None:
    """Raise ValueError naming the first size that is not a positive whole number."""
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a positive whole number, got {size!r}")


def require_rate(dropout_rate: float) -> None:
    """Raise ValueError unless 0 ≤ dropout_rate < 1."""
    if not 0 <= dropout_rate < 1:
        raise ValueError(f"dropout_rate must be in [0, 1), got {dropout_rate!r}")


class Embeddings(nn.Module):
    """Word, position and type embeddings, added, normalised, dropped out."""

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        dropout_rate: float = 0.1,
        *,
        layer_norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        require_positive(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            max_position_embeddings=max_position_embeddings,
            type_vocab_size=type_vocab_size,
        )
        require_rate(dropout_rate)
        self.word_embeddings = nn.Embedding(vocab_size, hidden_size, padding_idx=0)
        self.position_embeddings = nn.Embedding(max_position_embeddings, hidden_size)
        self.token_type_embeddings = nn.Embedding(type_vocab_size, hidden_size)
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(dropout_rate)

    def forward(
        self,
        input_ids: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
    ) -> Tensor:
        """Embed ids [B, L] as [B, L, hidden]; types default to 0, positions to 0, 1, 2, …"""
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        if position_ids is None:
            position_ids = torch.arange(input_ids.size(1), device=input_ids.device)[None]
        words = self.word_embeddings(input_ids)
        positions = self.position_embeddings(position_ids)
        types = self.token_type_embeddings(token_type_ids)
        embedded: Tensor = self.dropout(self.LayerNorm(words + types + positions))
        return embedded


class SelfAttention(nn.Module):
    """Multi-head self-attention over a sequence."""

    def __init__(
        self, hidden_size: int, num_attention_heads: int, dropout_rate: float = 0.1
    ) -> None:
        super().__init__()
        require_positive(hidden_size=hidden_size, num_attention_heads=num_attention_heads)
        require_rate(dropout_rate)
        if hidden_size % num_attention_heads:
            raise ValueError(
                f"hidden_size {hidden_size} is not a multiple of "
                f"num_attention_heads {num_attention_heads}"
            )
        self.num_attention_heads = num_attention_heads
        self.dropout_rate = dropout_rate
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)

    def forward(
        self, hidden: Tensor, mask: Tensor | None = None, *, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Attend within hidden [B, L, hidden]; weights [B, H, L, L] only when asked for."""
        queries, keys, values = (
            split_heads(projection(hidden), self.num_attention_heads)
            for projection in (self.query, self.key, self.value)
        )
        dropout = self.dropout_rate if self.training else 0.0
        mixed, weights = attend(
            queries, keys, values, mask, dropout=dropout, need_weights=need_weights
        )
        return merge_heads(mixed), weights


class ResidualOutput(nn.Module):
    """Project, drop out, add to the residual stream and normalise: BERT's post-norm step."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        dropout_rate: float = 0.1,
        layer_norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        require_positive(input_size=input_size, hidden_size=hidden_size)
        require_rate(dropout_rate)
        self.dense = nn.Linear(input_size, hidden_size)
        self.LayerNorm = nn.LayerNorm(hidden_size, eps=layer_norm_eps)
        self.dropout = Dropout(dropout_rate)

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        """Return LayerNorm(residual + dropout(dense(hidden))): [B, L, hidden]."""
        normed: Tensor = self.LayerNorm(residual + self.dropout(self.dense(hidden)))
        return normed


class AttentionOutput(ResidualOutput):
    """The residual step behind self-attention."""

    def __init__(
        self, hidden_size: int, dropout_rate: float = 0.1, layer_norm_eps: float = NORM_EPS
    ) -> None:
        super().__init__(hidden_size, hidden_size, dropout_rate, layer_norm_eps)


class Attention(nn.Module):
    """Self-attention and its residual step."""

    def __init__(
        self, hidden_size: int, num_attention_heads: int, dropout_rate: float, layer_norm_eps: float
    ) -> None:
        super().__init__()
        self.self = SelfAttention(hidden_size, num_attention_heads, dropout_rate)
        self.output = AttentionOutput(hidden_size, dropout_rate, layer_norm_eps)

    def forward(
        self, hidden: Tensor, mask: Tensor | None, *, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Attend and add: [B, L, hidden] and, when asked for, the weights [B, H, L, L]."""
        mixed, weights = self.self(hidden, mask, need_weights=need_weights)
        return self.output(mixed, hidden), weights


class Intermediate(nn.Module):
    """The widening half of the feed-forward step."""

    def __init__(self, hidden_size: int, intermediate_size: int, hidden_act: str) -> None:
        super().__init__()
        require_positive(intermediate_size=intermediate_size)
        self.dense = nn.Linear(hidden_size, intermediate_size)
        self.activation = activation(hidden_act)

    def forward(self, hidden: Tensor) -> Tensor:
        """Widen [B, L, hidden] to [B, L, intermediate]."""
        return self.activation(self.dense(hidden))


class TransformerLayer(nn.Module):
    """Attention, then a feed-forward step; each is added to the stream and normalised after."""

    def __init__(
        self,
        hidden_size: int,
        num_attention_heads: int,
        intermediate_size: int,
        dropout_rate: float = 0.1,
        *,
        hidden_act: str = "gelu",
        layer_norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        self.attention = Attention(hidden_size, num_attention_heads, dropout_rate, layer_norm_eps)
        self.intermediate = Intermediate(hidden_size, intermediate_size, hidden_act)
        self.output = ResidualOutput(intermediate_size, hidden_size, dropout_rate, layer_norm_eps)

    def forward(
        self, hidden: Tensor, mask: Tensor | None = None, *, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """Map [B, L, hidden] to [B, L, hidden], with the attention weights when asked for."""
        attended, weights = self.attention(hidden, mask, need_weights=need_weights)
        return self.output(self.intermediate(attended), attended), weights


class TransformerEncoder(nn.Module):
    """A stack of layers."""

    def __init__(
        self,
        num_hidden_layers: int,
        hidden_size: int,
        num_attention_heads: int,
        intermediate_size: int,
        dropout_rate: float = 0.1,
        *,
        hidden_act: str = "gelu",
        layer_norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        require_positive(num_hidden_layers=num_hidden_layers)
        self.layer = nn.ModuleList(
            TransformerLayer(
                hidden_size,
                num_attention_heads,
                intermediate_size,
                dropout_rate,
                hidden_act=hidden_act,
                layer_norm_eps=layer_norm_eps,
            )
            for _ in range(num_hidden_layers)
        )

    def forward(
        self, hidden: Tensor, mask: Tensor | None = None, *, need_weights: bool = False
    ) -> tuple[list[Tensor], list[Tensor | None]]:
        """Return every layer's output [B, L, hidden] and its weights (None unless asked for)."""
        outputs: list[Tensor] = []
        all_weights: list[Tensor | None] = []
        for layer in self.layer:
            hidden, weights = layer(hidden, mask, need_weights=need_weights)
            outputs.append(hidden)
            all_weights.append(weights)
        return outputs, all_weights
