"""The encoder-only model; with ``causal=True`` a language model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from miniformer.config.model_config import TransformerConfig
from miniformer.model.attention import weights_of
from miniformer.model.cache import Cache
from miniformer.model.embedding import initialise, read_source
from miniformer.model.encoder import Encoded, Encoder
from miniformer.model.head import make_head, make_output_scale
from miniformer.model.masks import both, causal_mask, padding_mask


class Transformer(nn.Module):
    """Token ids [B, L] (or features [B, L, input_dim]) to predictions [B, L, output].

    ``output`` is ``output_dim``, or ``vocab_size`` with weights tied to the embedding. Not causal
    unless the configuration says so: every position, the first too, sees the whole sequence.
    """

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        if config.input_dim is None:
            self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
            self.input_projection: nn.Module = self.token_embedding
        else:
            self.input_projection = nn.Linear(config.input_dim, config.d_model)
        self.encoder = Encoder(config, causal=config.causal)
        self.output_scale = make_output_scale(config)
        self.output_projection = make_head(config, getattr(self, "token_embedding", None))
        initialise(self, config.initializer_range)

    def forward(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Predict [B, L, output].

        ``attention_mask`` [B, L] is non-zero at real tokens; without one, ``pad_token_id`` in the
        ids tells the padding. ValueError for ids out of range, an empty or over-long input, or a
        mask of another shape.
        """
        states, _, _ = self._encode(x, attention_mask)
        return self.predict(states)

    def predict(self, states: Tensor) -> Tensor:
        """States [B, L, d_model] to predictions [B, L, output]."""
        predictions: Tensor = self.output_projection(self.output_scale(states))
        return predictions

    def hidden_states(self, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """What the head reads: [B, L, d_model]."""
        return self._encode(x, attention_mask)[0]

    def get_attention_weights(
        self, x: Tensor, attention_mask: Tensor | None = None
    ) -> list[Tensor | None]:
        """Of every layer the weights [B, H, L, L], rows summing to 1, whatever the backend."""
        with weights_of(self), torch.no_grad():
            return self._encode(x, attention_mask)[1]

    def _encode(self, x: Tensor, attention_mask: Tensor | None) -> Encoded:
        positions, real = read_source(
            self.config, self.encoder.position, x, attention_mask, "input"
        )
        mask = None if real is None else padding_mask(real)
        if self.config.causal:
            mask = both(mask, causal_mask(x.size(1), device=x.device))
        return self._run(x, positions, mask)

    def _run(self, x: Tensor, positions: Tensor, mask: Tensor | None, **cache: Any) -> Encoded:
        encoded: Encoded = self.encoder(self.input_projection(x), positions, mask, **cache)
        return encoded

    def decode(
        self,
        tokens: Tensor,
        past: Sequence[Cache],
        positions: Tensor,
        mask: Tensor | None,
    ) -> Tensor:
        """Read the next tokens [B, n] behind ``past`` and predict what follows each."""
        states, _, _ = self._run(tokens, positions, mask, past=past, use_cache=True)
        return self.predict(states)

    def generate(self, input_ids: Tensor, attention_mask: Tensor | None = None, **how: Any) -> Any:
        """Continue prompts [B, L]: see :func:`miniformer.model.generation.generate`."""
        from miniformer.model.generation import generate  # generation imports the models

        return generate(self, input_ids, attention_mask, **how)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "Transformer":
        """Load a folder that :meth:`save_pretrained` wrote, in eval mode."""
        from miniformer.model.pretrained import load_model

        return load_model(cls, name)

    def save_pretrained(self, folder: str | Path, tokenizer: Any = None) -> None:
        """Write config.json, model.safetensors and, when given, the tokenizer beside them."""
        from miniformer.model.pretrained import save_model

        save_model(self, folder, tokenizer)
