"""What a model is made of, as plain data."""

from miniformer.config.model_config import (
    BASE_CONFIG,
    SMALL_CONFIG,
    TINY_CONFIG,
    TransformerConfig,
)

__all__ = ["BASE_CONFIG", "SMALL_CONFIG", "TINY_CONFIG", "TransformerConfig"]
