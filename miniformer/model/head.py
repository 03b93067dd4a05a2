"""What turns states into predictions, by name."""

from collections.abc import Callable

from torch import Tensor, nn

from miniformer.config.model_config import TransformerConfig
from miniformer.model.embedding import Scale
from miniformer.model.pointer import Pointer
from miniformer.model.tables import row

# name -> a module made of (d_model, number of outputs), [..., d_model] to [..., outputs].
HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": nn.Linear,
    "pointer": lambda d_model, outputs: Pointer(d_model),  # Seq2SeqTransformer only
}


def make_head(config: TransformerConfig, embedding: nn.Embedding | None) -> nn.Module:
    """``output_dim`` outputs, else one a token, whose weights are then those of ``embedding``."""
    make = row(HEADS, config.head, "head")
    if config.output_dim is not None or config.head != "linear":
        return make(config.d_model, config.output_dim or config.vocab_size)
    head = nn.Linear(config.d_model, config.vocab_size, bias=config.logits_bias)
    if config.tie_lm_head and embedding is not None:
        head.weight = embedding.weight
    return head


def outputs_of(config: TransformerConfig, source: Tensor) -> int:
    """How many ids a model can write for a source [B, ...]: a pointer's are places and nowhere."""
    return 1 + source[0].numel() if config.head == "pointer" else config.vocab_size


def make_output_scale(config: TransformerConfig) -> nn.Module:
    """T5 1.0 shrinks the states before a tied head; others leave them."""
    return Scale(config.d_model**-0.5) if config.logits_scale else nn.Identity()
