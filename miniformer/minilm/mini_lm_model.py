"""MiniLM, and the sentence encoder over it: pool the tokens, return a unit vector."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miniformer.minilm.folder import DenseSpec, SentenceSpec, read_spec
from miniformer.minilm.model_components import (
    NORM_EPS,
    Embeddings,
    TransformerEncoder,
    require_positive,
)
from miniformer.model.masks import padding_mask
from miniformer.weights import find_model

MIN_TOKENS = 1e-9  # keeps the mean of no tokens finite, as sentence-transformers does

POOLINGS = ("mean", "cls")
DENSE_ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}


class Pooler(nn.Module):
    """BERT's own summary of a sequence: tanh of a projection of the first token."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden: Tensor) -> Tensor:
        """Summarise [B, L, hidden] as [B, hidden]."""
        return torch.tanh(self.dense(hidden[:, 0]))


class MiniLMModel(nn.Module):
    """A BERT body of any size; the defaults are those of all-MiniLM-L6-v2.

    Parameter names are BERT's. Sequences longer than ``max_length`` (or than the position table)
    are cut, ids and mask alike.
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 384,
        num_hidden_layers: int = 6,
        num_attention_heads: int = 12,
        intermediate_size: int = 1536,
        dropout_rate: float = 0.1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        max_length: int | None = None,
        *,
        hidden_act: str = "gelu",
        layer_norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        require_positive(max_position_embeddings=max_position_embeddings)
        longest = max_position_embeddings if max_length is None else max_length
        require_positive(max_length=longest)
        self.max_length = min(longest, max_position_embeddings)
        self.embeddings = Embeddings(
            vocab_size,
            hidden_size,
            max_position_embeddings,
            type_vocab_size,
            dropout_rate,
            layer_norm_eps=layer_norm_eps,
        )
        self.encoder = TransformerEncoder(
            num_hidden_layers,
            hidden_size,
            num_attention_heads,
            intermediate_size,
            dropout_rate,
            hidden_act=hidden_act,
            layer_norm_eps=layer_norm_eps,
        )
        self.pooler = Pooler(hidden_size)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        *,
        need_weights: bool = False,
    ) -> tuple[Tensor, Tensor, list[Tensor | None]]:
        """Encode ids [B, L] under a mask [B, L] (non-zero = a real token).

        Returns the last layer [B, L, hidden], BERT's pooled vector [B, hidden], and one entry per
        layer for the attention weights [B, H, L, L], which is None unless ``need_weights``.
        ValueError when ids or mask are missing, not 2-D, or of different shapes.
        """
        check_batch(input_ids, attention_mask)
        kept = slice(self.max_length)
        types, positions = (
            None if given is None else given[:, kept] for given in (token_type_ids, position_ids)
        )
        embedded = self.embeddings(input_ids[:, kept], types, positions)
        mask = padding_mask(attention_mask[:, kept])
        layers, weights = self.encoder(embedded, mask, need_weights=need_weights)
        return layers[-1], self.pooler(layers[-1]), weights


def check_batch(input_ids: Tensor | None, attention_mask: Tensor | None) -> None:
    """Raise ValueError unless ids and mask are both given, 2-D and of one shape."""
    if input_ids is None or attention_mask is None:
        raise ValueError("input_ids and attention_mask must both be given")
    if input_ids.dim() != 2 or not input_ids.numel():
        raise ValueError(
            f"input_ids must be [batch, length], neither of them 0; got {list(input_ids.shape)}"
        )
    if attention_mask.shape != input_ids.shape:
        raise ValueError(
            f"attention_mask has shape {list(attention_mask.shape)}, "
            f"input_ids has {list(input_ids.shape)}"
        )


class Dense(nn.Module):
    """A projection behind the pooling, as sentence-transformers' ``Dense`` module."""

    def __init__(self, spec: DenseSpec) -> None:
        super().__init__()
        if spec.activation not in DENSE_ACTIVATIONS:
            known = ", ".join(DENSE_ACTIVATIONS)
            raise ValueError(f"unknown Dense activation {spec.activation!r}; known: {known}")
        self.spec = spec
        self.linear = nn.Linear(spec.in_features, spec.out_features, bias=spec.bias)
        self.activation_function = DENSE_ACTIVATIONS[spec.activation]()

    def forward(self, pooled: Tensor) -> Tensor:
        """Project [B, in] to float32 [B, out], computed in the weights' own format."""
        projected: Tensor = self.activation_function(
            self.linear(pooled.to(self.linear.weight.dtype))
        )
        return projected.float()


class SentenceTransformer(nn.Module):
    """Token ids in, one vector a text out; unit length unless ``normalize=False``.

    Takes every size of :class:`MiniLMModel` by keyword. The default ``max_length`` of 64 is the
    short-sentence setting; :meth:`from_pretrained` takes the model folder's own.
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        hidden_size: int = 384,
        num_hidden_layers: int = 6,
        num_attention_heads: int = 12,
        intermediate_size: int = 1536,
        dropout_rate: float = 0.1,
        max_position_embeddings: int = 512,
        type_vocab_size: int = 2,
        max_length: int | None = 64,
        *,
        hidden_act: str = "gelu",
        layer_norm_eps: float = NORM_EPS,
        pooling: str = "mean",
        dense: Sequence[DenseSpec] = (),
        normalize: bool = True,
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise ValueError(f"unknown pooling {pooling!r}; known: {', '.join(POOLINGS)}")
        self.model = MiniLMModel(
            vocab_size,
            hidden_size,
            num_hidden_layers,
            num_attention_heads,
            intermediate_size,
            dropout_rate,
            max_position_embeddings,
            type_vocab_size,
            max_length,
            hidden_act=hidden_act,
            layer_norm_eps=layer_norm_eps,
        )
        self.pooling = pooling
        self.dense = nn.ModuleList(Dense(spec) for spec in dense)
        self.normalize = normalize
        self.dim = dense[-1].out_features if dense else hidden_size

    @classmethod
    def from_spec(
        cls, spec: SentenceSpec, *, max_length: int | None = None
    ) -> "SentenceTransformer":
        """Build the untrained shape that a model folder describes; it always normalises."""
        return cls(
            vocab_size=spec.body["vocab_size"],
            hidden_size=spec.body["hidden_size"],
            num_hidden_layers=spec.body["num_hidden_layers"],
            num_attention_heads=spec.body["num_attention_heads"],
            intermediate_size=spec.body["intermediate_size"],
            dropout_rate=spec.body.get("hidden_dropout_prob", 0.1),
            max_position_embeddings=spec.body["max_position_embeddings"],
            type_vocab_size=spec.body.get("type_vocab_size", 2),
            max_length=spec.max_length if max_length is None else max_length,
            hidden_act=spec.body.get("hidden_act", "gelu"),
            layer_norm_eps=spec.body.get("layer_norm_eps", NORM_EPS),
            pooling=spec.pooling,
            dense=spec.dense,
        )

    @classmethod
    def from_pretrained(
        cls, model_name: str, *, max_length: int | None = None
    ) -> "SentenceTransformer":
        """Load a model by name or folder, in eval mode (see :mod:`miniformer.weights`)."""
        from miniformer.minilm.model_loader import (
            load_pretrained_weights,
        )  # the loader imports this module

        folder = find_model(model_name).path
        model = cls.from_spec(read_spec(folder), max_length=max_length)
        return load_pretrained_weights(model, model_name)

    def mean_pooling(
        self, model_output: Tensor | tuple[Tensor, ...], attention_mask: Tensor
    ) -> Tensor:
        """Average the real tokens of [B, L, hidden], in float32: [B, hidden]."""
        tokens = model_output[0] if isinstance(model_output, tuple) else model_output
        kept = attention_mask[:, : tokens.size(1), None].float()  # [B, L, 1]
        return (tokens.float() * kept).sum(1) / kept.sum(1).clamp(min=MIN_TOKENS)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed ids [B, L] under a mask [B, L] as float32 [B, dim]."""
        tokens, _, _ = self.model(input_ids, attention_mask)
        pooled = (
            tokens[:, 0].float()
            if self.pooling == "cls"
            else self.mean_pooling(tokens, attention_mask)
        )
        for dense in self.dense:
            pooled = dense(pooled)
        return F.normalize(pooled, dim=-1) if self.normalize else pooled


def cosine_similarity(left: Tensor, right: Tensor) -> Tensor:
    """Cosine of every row of left [N, dim] with every row of right [M, dim]: [N, M] in [-1, 1]."""
    return (F.normalize(left, dim=-1) @ F.normalize(right, dim=-1).T).clamp(-1, 1)
