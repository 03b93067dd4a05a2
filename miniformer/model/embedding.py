"""From tokens or features to what the first layer reads."""

import math

import torch
from torch import Tensor, nn

from miniformer.config.model_config import TransformerConfig
from miniformer.model.dropout import Dropout
from miniformer.model.masks import first_real
from miniformer.model.norm import make_norm
from miniformer.model.position import Position


class Scale(nn.Module):
    """Multiply by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        """Multiply."""
        return x * self.factor


class TypeEmbedding(nn.Embedding):
    """BERT's segment embedding with every token in the first segment."""

    def forward(self, x: Tensor) -> Tensor:
        """Add the first row to [B, L, d_model]."""
        return x + self.weight[0]


class StackInput(nn.Module):
    """Scale token vectors, add positions and type, normalise, drop out; each step is a slot."""

    def __init__(self, config: TransformerConfig, position: Position) -> None:
        super().__init__()
        from_tokens = config.input_dim is None
        self.scale = (
            Scale(math.sqrt(config.d_model))
            if config.embed_scale and from_tokens
            else nn.Identity()
        )
        self.place = position.embed
        self.segment = (
            TypeEmbedding(config.type_vocab_size, config.d_model)
            if config.type_vocab_size
            else nn.Identity()
        )
        self.norm = make_norm(config, present=config.embed_norm)
        self.dropout = Dropout(config.dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Map token vectors [B, L, d_model] at ``positions`` [B or 1, L] to [B, L, d_model]."""
        placed = self.segment(self.place(self.scale(tokens), positions))
        dropped: Tensor = self.dropout(self.norm(placed))
        return dropped


def check_ids(ids: Tensor, vocab_size: int, what: str) -> None:
    """ValueError unless ids are whole numbers [B, L], not empty, each below ``vocab_size``."""
    if ids.dim() != 2 or not ids.numel():
        raise ValueError(f"{what} must be [batch, length], neither 0; got {list(ids.shape)}")
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise ValueError(f"{what} must be whole numbers, got {ids.dtype}")
    low, high = int(ids.min()), int(ids.max())
    if low < 0 or high >= vocab_size:
        wrong = low if low < 0 else high
        raise ValueError(f"{what} hold {wrong}, but vocab_size is {vocab_size}")


def check_mask(mask: Tensor, shape: torch.Size, what: str) -> None:
    """ValueError unless a mask is [B, L] like its ids."""
    if mask.shape != shape[:2]:
        raise ValueError(f"{what} has shape {list(mask.shape)}, its input {list(shape[:2])}")


def check_length(length: int, position: Position, what: str) -> None:
    """ValueError when there are not enough positions."""
    if position.max_length is not None and length > position.max_length:
        raise ValueError(
            f"{what} of {length} positions is longer than max_seq_len {position.max_length}; "
            "cut it, or build the model with a greater max_seq_len"
        )


def read_source(
    config: TransformerConfig, position: Position, x: Tensor, mask: Tensor | None, what: str
) -> tuple[Tensor, Tensor | None]:
    """Check what an encoder is to read: ids [B, L], or features [B, L, input_dim].

    Returns the positions [B or 1, L], which count from each row's first real token, and the mask
    [B, L] of real tokens: the given one, or for ids the one that ``pad_token_id`` tells; None where
    nothing is padding.
    """
    if config.input_dim is None:
        check_ids(x, config.vocab_size, f"{what} ids")
    elif x.dim() != 3 or x.size(-1) != config.input_dim or not x.numel():
        raise ValueError(
            f"{what} features must be [batch, length, {config.input_dim}], got {list(x.shape)}"
        )
    check_length(x.size(1), position, what)
    if mask is not None:
        check_mask(mask, x.shape, f"{what} mask")
    elif config.input_dim is None:
        mask = x != config.pad_token_id
    if mask is not None and mask.all():
        mask = None  # attention is faster without one
    positions = torch.arange(x.size(1), device=x.device)[None]
    if mask is not None:
        positions = (positions - first_real(mask)).clamp(min=0)
    return positions, mask


@torch.no_grad()
def initialise(model: nn.Module, std: float) -> None:
    """Normal weights of deviation ``std`` and biases of 0; norms keep their ones and zeros."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.normal_(0.0, std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()
