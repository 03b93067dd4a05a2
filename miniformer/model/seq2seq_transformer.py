"""The encoder-decoder model (Vaswani et al. 2017, figure 1)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from miniformer.config.model_config import TransformerConfig
from miniformer.model.attention import weights_of
from miniformer.model.decoder import Decoder, LayerCache
from miniformer.model.embedding import (
    check_ids,
    check_length,
    check_mask,
    initialise,
    read_source,
)
from miniformer.model.encoder import Encoder
from miniformer.model.head import make_head, make_output_scale, outputs_of
from miniformer.model.masks import both, causal_mask, padding_mask
from miniformer.model.pointer import Pointer


class Seq2SeqTransformer(nn.Module):
    """Source ids [B, S] and target ids [B, T] to logits [B, T, vocab_size] (or ``output_dim``).

    A source [B, k, S] is k texts that are encoded apart and decoded together (Fusion-in-Decoder;
    Izacard and Grave 2021): they make one memory of k · S places. With ``config.head="pointer"``
    what is written are places of the memory: see :class:`~miniformer.model.pointer.Pointer`.
    ``share_embeddings`` gives both halves one embedding table. ``config.encoder`` and
    ``config.decoder`` change one half: T5, BART and a MiniLM encoder are configurations.
    """

    def __init__(self, config: TransformerConfig, share_embeddings: bool = True) -> None:
        super().__init__()
        self.config = config
        self.share_embeddings = share_embeddings
        if config.input_dim is None:
            self.token_embedding = nn.Embedding(config.vocab_size, config.d_model)
            self.input_projection: nn.Module = self.token_embedding
        else:
            self.input_projection = nn.Linear(config.input_dim, config.d_model)
            self.share_embeddings = False
        self.target_embedding = (
            self.token_embedding
            if self.share_embeddings
            else nn.Embedding(config.vocab_size, config.d_model)
        )
        self.encoder = Encoder(config.half("encoder"))
        self.decoder = Decoder(config.half("decoder"))
        self.output_scale = make_output_scale(config)
        self.output_projection = make_head(config, self.target_embedding)
        initialise(self, config.initializer_range)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        use_cache: bool = False,
    ) -> tuple[Tensor, Tensor, list[LayerCache] | None]:
        """Logits [B, T, output], encoder states [B, S, d_model] and, on request, the caches.

        Masks [B, L] are non-zero at real tokens. Without ``src_mask``, ``pad_token_id`` in the
        source tells its padding; in the target it never does, for a model may begin with it.
        ValueError for ids out of range, empty or over-long inputs, or masks of another shape.
        """
        memory, real = self.encode(src, src_mask)
        self._check_target(tgt, tgt_mask, src)
        mask: Tensor | None = causal_mask(tgt.size(1), device=tgt.device)
        if tgt_mask is not None:
            mask = both(mask, padding_mask(tgt_mask))
        positions = torch.arange(tgt.size(1), device=tgt.device)[None]
        states, _, caches = self._run(tgt, positions, memory, mask, real, use_cache=use_cache)
        return self.predict(states, memory, real), memory, caches if use_cache else None

    def encode(self, src: Tensor, src_mask: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The encoder's states [B, S, d_model], and where a decoder may look: bool [B, 1, 1, S]."""
        memory, mask, _ = self._encode(src, src_mask)
        return memory, mask

    def predict(self, states: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """States [B, T, d_model] to logits [B, T, output]; only a pointer looks at the memory."""
        states = self.output_scale(states)
        reads = (memory, memory_mask) if isinstance(self.output_projection, Pointer) else ()
        logits: Tensor = self.output_projection(states, *reads)
        return logits

    def decode(
        self,
        tokens: Tensor,
        past: Sequence[LayerCache],
        memory: Tensor,
        mask: Tensor | None,
        memory_mask: Tensor | None,
    ) -> Tensor:
        """Read the next tokens [B, n] behind ``past`` and predict what follows each."""
        self_cache = past[0][0]
        start = self_cache.length if self_cache is not None else 0
        positions = torch.arange(start, start + tokens.size(1), device=tokens.device)[None]
        states, _, _ = self._run(
            tokens, positions, memory, mask, memory_mask, past=past, use_cache=True
        )
        return self.predict(states, memory, memory_mask)

    def get_attention_weights(
        self, src: Tensor, tgt: Tensor, src_mask: Tensor | None = None
    ) -> dict[str, list[Tensor]]:
        """``encoder`` [B, H, S, S], ``decoder`` [B, H, T, T] and ``cross`` [B, H, T, S], a layer an
        item, rows summing to 1, whatever the backend.
        """
        with weights_of(self), torch.no_grad():
            memory, real, read = self._encode(src, src_mask)
            self._check_target(tgt, None, src)
            mask = causal_mask(tgt.size(1), device=tgt.device)
            positions = torch.arange(tgt.size(1), device=tgt.device)[None]
            _, pairs, _ = self._run(tgt, positions, memory, mask, real)
        own, across = zip(*pairs, strict=True)
        return {"encoder": read, "decoder": list(own), "cross": list(across)}

    def _encode(self, src: Tensor, src_mask: Tensor | None) -> tuple[Tensor, Tensor | None, Any]:
        if src.dim() == 3 and self.config.input_dim is None:
            return self._encode_apart(src, src_mask)
        positions, real = read_source(self.config, self.encoder.position, src, src_mask, "source")
        mask = None if real is None else padding_mask(real)
        states, weights, _ = self.encoder(self.input_projection(src), positions, mask)
        return states, mask, weights

    def _encode_apart(
        self, src: Tensor, src_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None, Any]:
        if src_mask is not None and src_mask.shape != src.shape:
            raise ValueError(f"source mask has shape {list(src_mask.shape)}, not {list(src.shape)}")
        rows = src.flatten(0, 1)
        mask = (src != self.config.pad_token_id) if src_mask is None else src_mask.bool()
        there = mask.any(dim=2).flatten()  # sources may have fewer texts than others
        states, _, weights = self._encode(rows[there], mask.flatten(0, 1)[there])
        memory = states.new_zeros(len(rows), *states.shape[1:])
        memory[there] = states
        together = None if mask.all() else mask.reshape(len(src), 1, 1, -1)
        return memory.view(len(src), -1, states.size(-1)), together, weights

    def _run(
        self,
        tokens: Tensor,
        positions: Tensor,
        memory: Tensor,
        mask: Tensor | None,
        memory_mask: Tensor | None,
        **cache: Any,
    ) -> Any:
        if isinstance(self.output_projection, Pointer):
            embedded = self.output_projection.embed(tokens, memory)
        else:
            embedded = self.target_embedding(tokens)
        return self.decoder(embedded, positions, memory, mask, memory_mask, **cache)

    def _check_target(self, tgt: Tensor, tgt_mask: Tensor | None, src: Tensor) -> None:
        check_ids(tgt, outputs_of(self.config, src), "target ids")
        check_length(tgt.size(1), self.decoder.position, "target")
        if tgt.size(0) != src.size(0):
            raise ValueError(f"the source has {src.size(0)} rows, the target {tgt.size(0)}")
        if tgt_mask is not None:
            check_mask(tgt_mask, tgt.shape, "target mask")

    def generate(self, src: Tensor, src_mask: Tensor | None = None, **how: Any) -> Any:
        """Write target ids: see :func:`miniformer.model.generation.generate`."""
        from miniformer.model.generation import generate  # generation imports the models

        return generate(self, src, src_mask, **how)

    @classmethod
    def from_pretrained(cls, name: str | Path) -> "Seq2SeqTransformer":
        """Load our folder, or a T5 or BART folder of transformers, in eval mode."""
        from miniformer.model.pretrained import load_model

        return load_model(cls, name)

    def save_pretrained(
        self, folder: str | Path, tokenizer: Any = None, base: str | None = None
    ) -> None:
        """Write config.json, model.safetensors and, when given, the tokenizer beside them; compact
        where ``base`` names the model whose weights need not be written again.
        """
        from miniformer.model.pretrained import save_model

        save_model(self, folder, tokenizer, base)
