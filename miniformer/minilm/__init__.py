"""MiniLM sentence encoders (Wang et al. 2020, arXiv:2002.10957), equal to the originals."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miniformer.minilm.cross_encoder import CrossEncoder
    from miniformer.minilm.inference import FusedSentenceTransformer
    from miniformer.minilm.mini_lm_model import MiniLMModel, SentenceTransformer, cosine_similarity
    from miniformer.minilm.model_components import (
        AttentionOutput,
        Embeddings,
        SelfAttention,
        TransformerEncoder,
        TransformerLayer,
    )
    from miniformer.minilm.model_loader import load_pretrained_weights
    from miniformer.minilm.numpy_encoder import NumpyEncoder
    from miniformer.minilm.tokenizer import MiniLMTokenizer

_HOMES = {
    "AttentionOutput": "model_components",
    "CrossEncoder": "cross_encoder",
    "Embeddings": "model_components",
    "FusedSentenceTransformer": "inference",
    "MiniLMModel": "mini_lm_model",
    "MiniLMTokenizer": "tokenizer",
    "NumpyEncoder": "numpy_encoder",
    "SelfAttention": "model_components",
    "SentenceTransformer": "mini_lm_model",
    "TransformerEncoder": "model_components",
    "TransformerLayer": "model_components",
    "cosine_similarity": "mini_lm_model",
    "load_pretrained_weights": "model_loader",
}
__all__ = [
    "AttentionOutput",
    "CrossEncoder",
    "Embeddings",
    "FusedSentenceTransformer",
    "MiniLMModel",
    "MiniLMTokenizer",
    "NumpyEncoder",
    "SelfAttention",
    "SentenceTransformer",
    "TransformerEncoder",
    "TransformerLayer",
    "cosine_similarity",
    "load_pretrained_weights",
]


def __getattr__(name: str) -> object:
    """Import a public name the first time it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'miniformer.minilm' has no attribute {name!r}")
    return getattr(import_module(f"miniformer.minilm.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
