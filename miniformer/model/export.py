"""The encoder as an ONNX file, for machines without torch; needs the ``export`` extra."""

import importlib.util
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from miniformer.model.masks import both, causal_mask, first_real, padding_mask
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.model.transformer import Transformer

INPUTS = ("input_ids", "attention_mask")
OUTPUT = "hidden_states"


class EncoderGraph(nn.Module):
    """Ids and mask to states, without the checks that depend on what the ids are."""

    def __init__(self, model: Transformer | Seq2SeqTransformer) -> None:
        super().__init__()
        self.tokens, self.encoder = model.input_projection, model.encoder
        self.causal = isinstance(model, Transformer) and model.config.causal

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask [B, L] to states [B, L, d_model]."""
        positions = torch.arange(input_ids.size(1))[None] - first_real(attention_mask)
        mask: Tensor | None = padding_mask(attention_mask)
        if self.causal:
            mask = both(mask, causal_mask(input_ids.size(1)))
        states: Tensor = self.encoder(self.tokens(input_ids), positions.clamp(min=0), mask)[0]
        return states


def export_onnx(model: Transformer | Seq2SeqTransformer, path: str | Path) -> Path:
    """Write the encoder half of a float32 model, which is put in eval mode; returns the path.

    The graph maps ``input_ids`` and ``attention_mask``, int64 [B, L] of any B and L that the
    positions allow, to ``hidden_states`` float32 [B, L, d_model]; the mask is 1 at real tokens.
    ImportError names the line that installs what is missing; ValueError for a model of features
    or with packed weights.
    """
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"the export needs {' and '.join(missing)}: pip install 'miniformer-retrieval[export]'"
        )
    if model.config.input_dim is not None:
        raise ValueError("only models of token ids are exported, this one takes features")
    if any(getattr(module, "packed", False) for module in model.modules()):
        raise ValueError("packed weights cannot be exported; export the model before it is packed")
    graph = EncoderGraph(model).eval()
    example = torch.full((2, 7), 3 % model.config.vocab_size)
    batch, length = torch.export.Dim("batch"), torch.export.Dim("length")
    axes = {0: batch, 1: length}
    path = Path(path)
    fresh = path.with_name(f"{path.name}.new")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own words to its developers
        torch.onnx.export(
            graph,
            (example, torch.ones_like(example)),
            str(fresh),
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes={name: axes for name in INPUTS},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    os.replace(fresh, path)
    return path
