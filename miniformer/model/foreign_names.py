"""What other libraries call our tensors: one table a family, applied from the top."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from miniformer.config.model_config import TransformerConfig

Rules = tuple[tuple[str, str], ...]

T5: Rules = (
    (r"^shared\.weight$", "token_embedding.weight"),
    (r"^lm_head\.", "output_projection."),
    (
        r"^(encoder|decoder)\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias\.",
        r"\1.position.table.",
    ),
    (r"\.block\.(\d+)\.layer\.", r".layers.\1."),
    (r"\.0\.SelfAttention\.([qkvo])\.", r".self_attention.w\1."),
    (r"\.1\.EncDecAttention\.([qkvo])\.", r".cross_attention.w\1."),
    (r"\.0\.layer_norm\.", ".before_attention."),
    (r"(decoder\.layers\.\d+)\.1\.layer_norm\.", r"\1.before_cross."),
    (r"\.[12]\.layer_norm\.", ".before_feedforward."),
    (r"\.[12]\.DenseReluDense\.wi\.", ".feedforward.linear1."),
    (r"\.[12]\.DenseReluDense\.wi_([01])\.", r".feedforward.linear1.\1."),
    (r"\.[12]\.DenseReluDense\.wo\.", ".feedforward.linear2."),
    (r"\.final_layer_norm\.", ".final_norm."),
)
BART: Rules = (
    (r"^model\.", ""),
    (r"^shared\.weight$", "token_embedding.weight"),
    (r"^final_logits_bias$", "output_projection.bias"),
    (r"\.embed_positions\.", ".position.table."),
    (r"\.layernorm_embedding\.", ".input.norm."),
    (r"\.self_attn\.([qkv])_proj\.", r".self_attention.w\1."),
    (r"\.self_attn\.out_proj\.", ".self_attention.wo."),
    (r"\.encoder_attn\.([qkv])_proj\.", r".cross_attention.w\1."),
    (r"\.encoder_attn\.out_proj\.", ".cross_attention.wo."),
    (r"\.self_attn_layer_norm\.", ".after_attention."),
    (r"\.encoder_attn_layer_norm\.", ".after_cross."),
    (r"\.fc([12])\.", r".feedforward.linear\1."),
    (r"(layers\.\d+)\.final_layer_norm\.", r"\1.after_feedforward."),
)
BERT: Rules = (
    (r"^bert\.", ""),
    (r"^embeddings\.word_embeddings\.", "token_embedding."),
    (r"^embeddings\.position_embeddings\.", "encoder.position.table."),
    (r"^embeddings\.token_type_embeddings\.", "encoder.input.segment."),
    (r"^embeddings\.LayerNorm\.", "encoder.input.norm."),
    (r"^encoder\.layer\.", "encoder.layers."),
    (r"\.attention\.self\.query\.", ".self_attention.wq."),
    (r"\.attention\.self\.key\.", ".self_attention.wk."),
    (r"\.attention\.self\.value\.", ".self_attention.wv."),
    (r"\.attention\.output\.dense\.", ".self_attention.wo."),
    (r"\.attention\.output\.LayerNorm\.", ".after_attention."),
    (r"\.intermediate\.dense\.", ".feedforward.linear1."),
    (r"(layers\.\d+)\.output\.dense\.", r"\1.feedforward.linear2."),
    (r"(layers\.\d+)\.output\.LayerNorm\.", r"\1.after_feedforward."),
)


@dataclass(frozen=True)
class Family:
    """A model type of transformers: its configuration, its names, and what to leave behind."""

    config: Callable[..., TransformerConfig]
    rules: Rules
    embedding: str
    head: str = "lm_head.weight"
    ignored: str = r"$."
    architecture: str = "Seq2SeqTransformer"


FAMILIES: Mapping[str, Family] = {
    "t5": Family(
        TransformerConfig.t5,
        T5,
        "shared.weight",
        ignored=r"^(en|de)coder\.embed_tokens\.|EncDecAttention\.relative_attention_bias",
    ),
    "bart": Family(
        TransformerConfig.bart,
        BART,
        "model.shared.weight",
        ignored=r"^model\.(en|de)coder\.embed_tokens\.",
    ),
    "bert": Family(
        TransformerConfig.minilm,
        BERT,
        "embeddings.word_embeddings.weight",
        ignored=r"^(pooler|cls)\.|position_ids$",
        architecture="encoder half, by warm_start",
    ),
}


def translate(tensors: Mapping[str, Tensor], family: Family, *, tied: bool) -> dict[str, Tensor]:
    """The same tensors under our names; gates that come in two are put side by side."""
    ours: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if re.search(family.ignored, name) or (tied and name == family.head):
            continue
        for pattern, replacement in family.rules:
            name = re.sub(pattern, replacement, name)
        ours[name] = tensor[0] if name == "output_projection.bias" else tensor
    for name in [name for name in ours if re.search(r"linear1\.0\.", name)]:
        pair = ours.pop(name), ours.pop(name.replace("linear1.0.", "linear1.1."))
        ours[name.replace("linear1.0.", "linear1.")] = torch.cat(pair)
    return ours
