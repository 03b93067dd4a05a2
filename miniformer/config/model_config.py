"""The one description from which every model of :mod:`miniformer.model` is built; no torch."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from miniformer.config.foreign import bart_fields, minilm_fields, t5_fields

POSITIVE = ("vocab_size", "d_model", "n_heads", "n_layers", "d_ff", "max_seq_len")
POSITIVE_OR_NONE = ("input_dim", "output_dim", "n_kv_heads", "head_dim")
NOT_NEGATIVE = ("type_vocab_size", "position_offset")


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and choices of a model; ValueError names the field that does not fit.

    ``attention``, ``feedforward``, ``position``, ``activation``, ``norm`` and ``head`` are names of
    rows in the tables of :mod:`miniformer.model`; ``encoder`` and ``decoder`` override any field
    for one half of a :class:`~miniformer.model.seq2seq_transformer.Seq2SeqTransformer`.
    """

    vocab_size: int = 10_000
    d_model: int = 64
    n_heads: int = 4
    n_layers: int = 3
    d_ff: int = 256
    dropout: float = 0.1
    activation: str = "gelu"
    layer_norm_eps: float = 1e-5
    max_seq_len: int = 1024
    input_dim: int | None = None  # features [B, S, input_dim] instead of token ids
    output_dim: int | None = None  # None: one output a token of the vocabulary
    pre_norm: bool = True
    rotary_pct: float = 0.0  # the part of each head that is rotated, 0 … 1
    causal: bool = False  # Transformer only: a position sees itself and what is before it
    initializer_range: float = 0.02
    model_name: str = "miniformer"

    attention: str = "multi_head"
    feedforward: str = "mlp"
    position: str = "auto"  # rotary where rotary_pct > 0, else learned
    norm: str = "layernorm"
    head: str = "linear"
    attention_options: Mapping[str, Any] = field(default_factory=dict)
    feedforward_options: Mapping[str, Any] = field(default_factory=dict)
    use_sdpa: bool = True
    gradient_checkpointing: bool = False

    n_kv_heads: int | None = None  # fewer than n_heads: grouped-query attention
    head_dim: int | None = None  # None: d_model / n_heads
    attention_scale: bool = True  # divide scores by √head_dim
    use_bias: bool = True
    final_norm: bool = True  # behind the last layer of a pre-norm stack
    embed_norm: bool = False
    embed_scale: bool = True  # multiply token embeddings by √d_model
    rotary_base: float = 10_000.0
    relative_buckets: int = 32
    relative_max_distance: int = 128
    position_offset: int = 0  # rows of the position table that no position uses (BART: 2)
    type_vocab_size: int = 0
    tie_lm_head: bool = True
    logits_scale: bool = False  # multiply by 1/√d_model before the head (T5 1.0)
    logits_bias: bool = False

    pad_token_id: int = 0
    bos_token_id: int = 1
    eos_token_id: int = 2
    decoder_start_token_id: int | None = None  # None: bos_token_id
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None

    encoder: Mapping[str, Any] = field(default_factory=dict)
    decoder: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_sizes()
        self._check_rates()
        self._check_heads()
        self._check_tokens()
        for side in ("encoder", "decoder"):
            _check_keys(getattr(self, side), f"{side} override")
            if {"encoder", "decoder", "d_model", "vocab_size"} & getattr(self, side).keys():
                raise ValueError(f"{side}= cannot override d_model, vocab_size or itself")
            if getattr(self, side):
                self.half(side)

    def _check_sizes(self) -> None:
        for name in (*POSITIVE, *POSITIVE_OR_NONE, *NOT_NEGATIVE):
            value = getattr(self, name)
            if value is None and name in POSITIVE_OR_NONE:
                continue
            least = 0 if name in NOT_NEGATIVE else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}: {value!r}")

    def _check_rates(self) -> None:
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be in [0, 1): {self.dropout!r}")
        if not 0 <= self.rotary_pct <= 1:
            raise ValueError(f"rotary_pct must be in [0, 1]: {self.rotary_pct!r}")
        if self.layer_norm_eps <= 0 or self.initializer_range <= 0:
            raise ValueError("layer_norm_eps and initializer_range must be above 0")

    def _check_heads(self) -> None:
        if self.head_dim is None and self.d_model % self.n_heads:
            raise ValueError(
                f"d_model {self.d_model} is not divisible by n_heads {self.n_heads}; "
                "change one of them, or give head_dim"
            )
        if self.n_heads % (self.n_kv_heads or self.n_heads):
            raise ValueError(
                f"n_heads {self.n_heads} is not divisible by n_kv_heads {self.n_kv_heads}"
            )
        if self.rotary_pct and self.position not in ("auto", "rotary"):
            raise ValueError(
                f"rotary_pct {self.rotary_pct} asks for rotary positions, "
                f"position is {self.position!r}"
            )

    def _check_tokens(self) -> None:
        if self.input_dim is not None:
            return
        for name in ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"):
            token = getattr(self, name)
            if token is not None and not 0 <= token < self.vocab_size:
                raise ValueError(f"{name} {token} is not an id of vocab_size {self.vocab_size}")

    @property
    def width_of_head(self) -> int:
        """The width of one attention head."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def position_kind(self) -> str:
        """``position`` with ``auto`` resolved."""
        if self.position != "auto":
            return self.position
        return "rotary" if self.rotary_pct else "learned"

    @property
    def start_token_id(self) -> int:
        """The id that a decoder reads first."""
        start = self.decoder_start_token_id
        return self.bos_token_id if start is None else start

    def half(self, side: str) -> "TransformerConfig":
        """The configuration of one stack: ``encoder`` or ``decoder``."""
        changes = {**getattr(self, side), "encoder": {}, "decoder": {}}
        return replace(self, **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TransformerConfig":
        """Build from field names; ValueError lists every unknown key with its likeliest meaning."""
        _check_keys(values, "configuration")
        return cls(**values)

    @classmethod
    def from_json(cls, path: str | Path) -> "TransformerConfig":
        """Read what :meth:`save_json` wrote; the errors name the file."""
        path = Path(path)
        try:
            values = json.loads(path.read_bytes())
        except FileNotFoundError:
            raise FileNotFoundError(f"{path} is missing: no model configuration there") from None
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise ValueError(f"{path} must hold a JSON object, got {type(values).__name__}")
        values.pop("architecture", None)
        try:
            return cls.from_dict(values)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: {error}") from None

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON can hold it."""
        return asdict(self)

    def save_json(self, path: str | Path, **extra: Any) -> None:
        """Write every field, and ``extra`` beside them."""
        text = json.dumps({**extra, **self.to_dict()}, indent=2)
        Path(path).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def t5(cls, hf: Mapping[str, Any], **changes: Any) -> "TransformerConfig":
        """The shape that a T5, T5 1.1 or Flan-T5 ``config.json`` describes."""
        return cls(**{**t5_fields(hf), **changes})

    @classmethod
    def bart(cls, hf: Mapping[str, Any], **changes: Any) -> "TransformerConfig":
        """The shape that a BART ``config.json`` describes."""
        return cls(**{**bart_fields(hf), **changes})

    @classmethod
    def minilm(cls, hf: Mapping[str, Any], **changes: Any) -> "TransformerConfig":
        """A sequence-to-sequence model whose encoder half has the shape of this BERT
        ``config.json``; the decoder is what ``changes`` say.
        """
        return cls(**{**minilm_fields(hf), **changes})


def _check_keys(values: Mapping[str, Any], what: str) -> None:
    known = [field.name for field in fields(TransformerConfig)]
    unknown = sorted(values.keys() - set(known))
    if unknown:
        guesses = [difflib.get_close_matches(key, known, 1) for key in unknown]
        listed = [
            f"{key!r}" + (f" (did you mean {guess[0]!r}?)" if guess else "")
            for key, guess in zip(unknown, guesses, strict=True)
        ]
        raise ValueError(f"unknown keys in the {what}: {', '.join(listed)}")


TINY_CONFIG = TransformerConfig(model_name="tiny")
SMALL_CONFIG = TransformerConfig(
    vocab_size=32_000, d_model=256, n_heads=8, n_layers=6, d_ff=1024, model_name="small"
)
BASE_CONFIG = TransformerConfig(
    vocab_size=32_000, d_model=768, n_heads=12, n_layers=12, d_ff=3072, model_name="base"
)
