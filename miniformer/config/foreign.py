"""What the ``config.json`` of another library's model says, in our field names; no torch."""

from collections.abc import Mapping
from typing import Any

# T5's feed_forward_proj -> our activation.
T5_ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gated-gelu": "geglu_new",  # T5 1.1 means the tanh form by it
    "gated-gelu_new": "geglu_new",
    "gated-silu": "swiglu",
    "gated-relu": "reglu",
}


def t5_fields(hf: Mapping[str, Any]) -> dict[str, Any]:
    """T5 1.0, T5 1.1 and Flan-T5 (Raffel et al. 2020): ValueError names an unknown activation."""
    projection = hf.get("feed_forward_proj", "relu")
    if projection not in T5_ACTIVATIONS:
        known = ", ".join(T5_ACTIVATIONS)
        raise ValueError(f"unknown feed_forward_proj {projection!r}; known: {known}")
    scaled = hf.get("scale_decoder_outputs", hf.get("tie_word_embeddings") is not False)
    layers = hf.get("num_layers", 6)
    return {
        "vocab_size": hf.get("vocab_size", 32128),
        "d_model": hf.get("d_model", 512),
        "n_heads": hf.get("num_heads", 8),
        "n_layers": layers,
        "d_ff": hf.get("d_ff", 2048),
        "head_dim": hf.get("d_kv", 64),
        "dropout": hf.get("dropout_rate", 0.1),
        "activation": T5_ACTIVATIONS[projection],
        "layer_norm_eps": hf.get("layer_norm_epsilon", 1e-6),
        "max_seq_len": hf.get("n_positions", 512),
        "norm": "rmsnorm",
        "position": "relative",
        "relative_buckets": hf.get("relative_attention_num_buckets", 32),
        "relative_max_distance": hf.get("relative_attention_max_distance", 128),
        "attention_scale": False,
        "use_bias": False,
        "embed_scale": False,
        "logits_scale": scaled,
        "pad_token_id": _token(hf, "pad_token_id", 0),
        "bos_token_id": _token(hf, "decoder_start_token_id", 0),
        "eos_token_id": _token(hf, "eos_token_id", 1),
        "decoder_start_token_id": _token(hf, "decoder_start_token_id", 0),
        "decoder": {"n_layers": hf.get("num_decoder_layers") or layers},
        "model_name": "t5",
    }


def bart_fields(hf: Mapping[str, Any]) -> dict[str, Any]:
    """BART (Lewis et al. 2020): post-norm, learned positions that begin at row 2."""
    return {
        "vocab_size": hf.get("vocab_size", 50265),
        "d_model": hf.get("d_model", 1024),
        "n_heads": hf.get("encoder_attention_heads", 16),
        "n_layers": hf.get("encoder_layers", 12),
        "d_ff": hf.get("encoder_ffn_dim", 4096),
        "dropout": hf.get("dropout", 0.1),
        "activation": hf.get("activation_function", "gelu"),
        "max_seq_len": hf.get("max_position_embeddings", 1024),
        "pre_norm": False,
        "final_norm": False,
        "embed_norm": True,
        "embed_scale": bool(hf.get("scale_embedding", False)),
        "position": "learned",
        "position_offset": 2,
        "logits_bias": True,
        "pad_token_id": _token(hf, "pad_token_id", 1),
        "bos_token_id": _token(hf, "bos_token_id", 0),
        "eos_token_id": _token(hf, "eos_token_id", 2),
        "decoder_start_token_id": _token(hf, "decoder_start_token_id", 2),
        "forced_bos_token_id": hf.get("forced_bos_token_id"),
        "forced_eos_token_id": hf.get("forced_eos_token_id", 2),
        "decoder": {
            "n_heads": hf.get("decoder_attention_heads", 16),
            "n_layers": hf.get("decoder_layers", 12),
            "d_ff": hf.get("decoder_ffn_dim", 4096),
        },
        "model_name": "bart",
    }


def minilm_fields(hf: Mapping[str, Any]) -> dict[str, Any]:
    """A BERT encoder as one half; what belongs to both halves stands at the top."""
    encoder = {
        "n_heads": hf["num_attention_heads"],
        "n_layers": hf["num_hidden_layers"],
        "d_ff": hf["intermediate_size"],
        "activation": hf.get("hidden_act", "gelu"),
        "layer_norm_eps": hf.get("layer_norm_eps", 1e-12),
        "max_seq_len": hf.get("max_position_embeddings", 512),
        "type_vocab_size": hf.get("type_vocab_size", 2),
        "pre_norm": False,
        "final_norm": False,
        "embed_norm": True,
        "embed_scale": False,
        "position": "learned",
        "rotary_pct": 0.0,
    }
    return {
        "vocab_size": hf["vocab_size"],
        "d_model": hf["hidden_size"],
        "n_heads": hf["num_attention_heads"],
        "d_ff": hf["intermediate_size"],
        "pad_token_id": _token(hf, "pad_token_id", 0),
        "bos_token_id": 101,  # [CLS]
        "eos_token_id": 102,  # [SEP]
        "embed_scale": False,
        "encoder": encoder,
        "model_name": "minilm",
    }


def _token(hf: Mapping[str, Any], name: str, default: int) -> int:
    token = hf.get(name)
    return default if token is None else int(token[0] if isinstance(token, list) else token)
