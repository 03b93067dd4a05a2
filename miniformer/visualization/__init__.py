"""Pictures of attention, embeddings and training; needs the ``viz`` extra."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from miniformer.visualization.attention import plot_attention
    from miniformer.visualization.curves import plot_training
    from miniformer.visualization.embeddings import visualize_embeddings

_HOMES = {
    "plot_attention": "attention",
    "plot_training": "curves",
    "visualize_embeddings": "embeddings",
}
__all__ = ["plot_attention", "plot_training", "visualize_embeddings"]


def __getattr__(name: str) -> object:
    """Import a public name the first time it is asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'miniformer.visualization' has no attribute {name!r}")
    return getattr(import_module(f"miniformer.visualization.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
