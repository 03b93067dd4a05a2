"""The forward pass of a sentence encoder in float32 NumPy, equal to the torch model's.

For the few short texts of a cold question, where importing torch would cost far more than the
arithmetic. Weights stay mapped: a matrix is multiplied where it lies in the file, and of the word
embeddings only the rows of the texts' tokens are read. Texts are laid end to end, without padding,
a token in a column.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from miniformer.minilm.folder import (
    UNUSED_BY_EMBEDDINGS,
    DenseSpec,
    SentenceSpec,
    misfits,
    our_name,
)
from miniformer.minilm.numpy_layers import (
    ACTIVATIONS,
    DENSE_ACTIVATIONS,
    FORMATS,
    Activation,
    Floats,
    LayerNorm,
    Linear,
    Table,
)
from miniformer.weights import map_tensors, weights_file

Row = TypeVar("Row")
Shapes = dict[str, tuple[int, ...]]

NORM_EPS = 1e-12  # BERT's, where config.json says nothing
MIN_NORM = 1e-12  # keeps a zero vector finite, as torch's normalize does
PASS_TOKENS = 512  # in one pass: the widest activation of MiniLM stays at 3 MB
INSTEAD = "use the torch runtime"

# The tokens [hidden, L] of one text to its vector.
POOLINGS: Mapping[str, Activation] = {
    "mean": lambda tokens: np.asarray(tokens.mean(1)),
    "cls": lambda tokens: tokens[:, 0],
    "max": lambda tokens: np.asarray(tokens.max(1)),
}


class _Checkpoint:
    """One weights file by our names; ValueError unless it holds the wanted tensors."""

    def __init__(
        self, path: Path, wanted: Mapping[str, Sequence[int]], optional: str | None = None
    ) -> None:
        self._tensors = {our_name(name): tensor for name, tensor in map_tensors(path).items()}
        shapes = {name: tensor.shape for name, tensor in self._tensors.items()}
        if problems := misfits(shapes, wanted, optional):
            raise ValueError(f"{path} does not fit the model: {'; '.join(problems)}")
        for name in wanted.keys() & shapes.keys():
            found = self._tensors[name].format
            if found not in FORMATS:
                raise ValueError(
                    f"{path}: {name} holds {found}; expected {', '.join(FORMATS)}: {INSTEAD}"
                )

    def table(self, name: str) -> Table:
        return Table(self._tensors[f"{name}.weight"])

    def linear(self, name: str) -> Linear:
        bias = f"{name}.bias"
        return Linear(self.table(name)[:], self._column(bias) if bias in self._tensors else None)

    def norm(self, name: str, eps: float) -> LayerNorm:
        return LayerNorm(self._column(f"{name}.weight"), self._column(f"{name}.bias"), eps)

    def _column(self, name: str) -> Floats:
        return Table(self._tensors[name])[:, None]


class _Layer:
    """Attention, then a feed-forward step; each is added to the stream and normalised after."""

    def __init__(
        self, checkpoint: _Checkpoint, name: str, heads: int, act: Activation, eps: float
    ) -> None:
        self._heads = heads
        self._act = act
        self._query = checkpoint.linear(f"{name}.attention.self.query")
        self._key = checkpoint.linear(f"{name}.attention.self.key")
        self._value = checkpoint.linear(f"{name}.attention.self.value")
        self._mixed = checkpoint.linear(f"{name}.attention.output.dense")
        self._mixed_norm = checkpoint.norm(f"{name}.attention.output.LayerNorm", eps)
        self._widen = checkpoint.linear(f"{name}.intermediate.dense")
        self._narrow = checkpoint.linear(f"{name}.output.dense")
        self._norm = checkpoint.norm(f"{name}.output.LayerNorm", eps)

    def __call__(self, hidden: Floats, texts: Sequence[slice]) -> Floats:
        attended = self._mixed_norm(self._mixed(self._attend(hidden, texts)) + hidden)
        return self._norm(self._narrow(self._act(self._widen(attended))) + attended)

    def _attend(self, hidden: Floats, texts: Sequence[slice]) -> Floats:
        """Each text within itself: [hidden, T] to [hidden, T]."""
        by_head = (self._heads, len(hidden) // self._heads, hidden.shape[1])
        queries, keys, values = (
            projection(hidden).reshape(by_head)  # [H, D, T]
            for projection in (self._query, self._key, self._value)
        )
        queries *= np.float32(1 / math.sqrt(by_head[1]))
        mixed = np.empty(by_head, np.float32)
        for text in texts:
            weights = keys[..., text].swapaxes(1, 2) @ queries[..., text]  # [H, key, query]
            weights -= weights.max(1, keepdims=True)
            np.exp(weights, out=weights)
            weights /= weights.sum(1, keepdims=True)
            np.matmul(values[..., text], weights, out=mixed[..., text])
        return mixed.reshape(hidden.shape)


class NumpySentenceTransformer:
    """Token ids in, one unit vector float32 a text out, with the weights of a model folder.

    Safe to call from many threads. FileNotFoundError where there are no weights; ValueError where
    they are damaged or do not fit, each tensor listed, or for what only the torch model computes.
    """

    def __init__(self, spec: SentenceSpec, folder: Path) -> None:
        sizes = _sizes(spec.body)
        self.dim = spec.dense[-1].out_features if spec.dense else sizes["hidden_size"]
        eps = float(spec.body.get("layer_norm_eps", NORM_EPS))
        act = _row(ACTIVATIONS, spec.body.get("hidden_act", "gelu"), "activation")
        self._pool = _row(POOLINGS, spec.pooling, "pooling")
        body = _Checkpoint(weights_file(folder), _body_shapes(sizes), UNUSED_BY_EMBEDDINGS)
        self._words = body.table("embeddings.word_embeddings")
        self._positions = body.table("embeddings.position_embeddings")
        self._first_type = body.table("embeddings.token_type_embeddings")[0]
        self._norm = body.norm("embeddings.LayerNorm", eps)
        self._layers = [
            _Layer(body, f"encoder.layer.{layer}", sizes["num_attention_heads"], act, eps)
            for layer in range(sizes["num_hidden_layers"])
        ]
        self._dense = [_dense(dense, folder) for dense in spec.dense]

    def __call__(self, rows: Sequence[Sequence[int]]) -> Floats:
        """Embed the ids of each text as float32 [n, dim]; ValueError for a text of no tokens."""
        for index, row in enumerate(rows):
            if not row:
                raise ValueError(f"text {index} has no tokens, not even [CLS]")
        vectors = np.empty((len(rows), self.dim), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # as torch: the vectors show it
            for batch in _passes(rows):
                vectors[batch] = self._embed(rows[batch])
        return vectors

    def _embed(self, rows: Sequence[Sequence[int]]) -> Floats:
        ends = np.cumsum([len(row) for row in rows]).tolist()
        texts = [slice(end - len(row), end) for row, end in zip(rows, ends, strict=True)]
        hidden = self._words[np.concatenate(rows)]
        hidden += self._first_type
        for text in texts:
            hidden[text] += self._positions[: text.stop - text.start]
        hidden = self._norm(np.ascontiguousarray(hidden.T))
        for layer in self._layers:
            hidden = layer(hidden, texts)
        pooled = np.stack([self._pool(hidden[:, text]) for text in texts], axis=1)
        for linear, act in self._dense:
            pooled = act(linear(pooled))
        norms = np.linalg.norm(pooled, axis=0)
        unit: Floats = pooled / np.maximum(norms, MIN_NORM)
        return unit.T


def _passes(rows: Sequence[Sequence[int]]) -> Iterator[slice]:
    """Neighbours that come to PASS_TOKENS at most; a longer text goes alone."""
    start = tokens = 0
    for index, row in enumerate(rows):
        if index > start and tokens + len(row) > PASS_TOKENS:
            yield slice(start, index)
            start, tokens = index, 0
        tokens += len(row)
    if len(rows):
        yield slice(start, len(rows))


def _row(table: Mapping[str, Row], name: str, what: str) -> Row:
    if name not in table:
        known = ", ".join(table)
        raise ValueError(f"the {what} {name!r} is not known in NumPy (known: {known}); {INSTEAD}")
    return table[name]


def _sizes(body: Mapping[str, Any]) -> dict[str, int]:
    """The sizes of config.json; ValueError where one is no size or the heads do not divide."""
    names = ("vocab_size", "max_position_embeddings", "num_hidden_layers", "num_attention_heads")
    sizes = {name: body[name] for name in (*names, "hidden_size", "intermediate_size")}
    sizes["type_vocab_size"] = body.get("type_vocab_size", 2)
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ValueError(f"{name} must be a positive whole number, got {size!r}")
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise ValueError(
            f"hidden_size {sizes['hidden_size']} is not a multiple of "
            f"num_attention_heads {sizes['num_attention_heads']}"
        )
    return sizes


def _body_shapes(sizes: Mapping[str, int]) -> Shapes:
    """The tensors of a BERT body by name, and their shapes."""
    width, wide = sizes["hidden_size"], sizes["intermediate_size"]
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (sizes["vocab_size"], width),
        "embeddings.position_embeddings.weight": (sizes["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (sizes["type_vocab_size"], width),
        **_norm_shapes("embeddings.LayerNorm", width),
        **_linear_shapes("pooler.dense", width, width),
    }
    for layer in range(sizes["num_hidden_layers"]):
        name = f"encoder.layer.{layer}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _linear_shapes(f"{name}.attention.{part}", width, width)
        shapes |= _norm_shapes(f"{name}.attention.output.LayerNorm", width)
        shapes |= _linear_shapes(f"{name}.intermediate.dense", width, wide)
        shapes |= _linear_shapes(f"{name}.output.dense", wide, width)
        shapes |= _norm_shapes(f"{name}.output.LayerNorm", width)
    return shapes


def _linear_shapes(name: str, inputs: int, outputs: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm_shapes(name: str, width: int) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _dense(spec: DenseSpec, folder: Path) -> tuple[Linear, Activation]:
    """The projection and the activation of a Dense module behind the pooling."""
    act = _row(DENSE_ACTIVATIONS, spec.activation, "Dense activation")
    shapes = _linear_shapes("linear", spec.in_features, spec.out_features)
    if not spec.bias:
        del shapes["linear.bias"]
    return _Checkpoint(weights_file(folder / spec.folder), shapes).linear("linear"), act
