"""Miniformer: small, exact transformer models and how they learn."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miniformer.config.model_config import TransformerConfig
    from miniformer.minilm.mini_lm_model import MiniLMModel, SentenceTransformer
    from miniformer.minilm.model_loader import load_pretrained_weights
    from miniformer.minilm.tokenizer import MiniLMTokenizer
    from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
    from miniformer.model.transformer import Transformer

_HOMES = {
    "MiniLMModel": "miniformer.minilm.mini_lm_model",
    "MiniLMTokenizer": "miniformer.minilm.tokenizer",
    "Seq2SeqTransformer": "miniformer.model.seq2seq_transformer",
    "SentenceTransformer": "miniformer.minilm.mini_lm_model",
    "Transformer": "miniformer.model.transformer",
    "TransformerConfig": "miniformer.config.model_config",
    "load_pretrained_weights": "miniformer.minilm.model_loader",
}
__all__ = [
    "MiniLMModel",
    "MiniLMTokenizer",
    "SentenceTransformer",
    "Seq2SeqTransformer",
    "Transformer",
    "TransformerConfig",
    "load_pretrained_weights",
]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    """Import a public name the first time it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'miniformer' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
