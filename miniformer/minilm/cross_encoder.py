"""A cross-encoder over MiniLM's body (Nogueira & Cho 2019, arXiv:1901.04085): question and passage
are read together, and one number says how well the passage answers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from miniformer.minilm.folder import IGNORED, SentenceSpec, misfits, our_name, read_json, read_spec
from miniformer.minilm.mini_lm_model import MiniLMModel, SentenceTransformer
from miniformer.minilm.pair_tokenizer import PairRow, PairTokenizer, pad_pairs
from miniformer.minilm.saving import TOKENIZER_FILES, write_json, write_tensors
from miniformer.model.dropout import Dropout
from miniformer.weights import find_model, weights_file

# Padded tokens in one forward pass, as many as the encoder takes; rows are as wide as a multiple.
TOKEN_BUDGET = {"cpu": 2_048, "cuda": 131_072, "mps": 16_384}
WIDTH = 8
SPREAD = 0.02  # of fresh weights, where the body does not say
BUFFER_OF_OLD = "embeddings.position_ids"  # no weight: old exports of transformers have it
HEADS = ("pooler.", "classifier.")  # what an encoder's folder may lack
OF_PRETRAINING = "cls."  # and what it may have over
# How transformers and sentence-transformers know such a folder. The scores are the logits, as of
# ms-marco-MiniLM: without the second line sentence-transformers would put them through a sigmoid.
DESCRIBED = {
    "architectures": ["BertForSequenceClassification"],
    "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
}


class CrossEncoder(nn.Module):
    """Pairs of texts in, one score a pair out: higher is better, any number.

    The body, its pooler and a linear ``classifier`` of one output, named as transformers'
    BertForSequenceClassification names them. With a ``tokenizer`` it reads texts.
    """

    def __init__(
        self,
        body: MiniLMModel,
        dropout_rate: float = 0.1,
        *,
        tokenizer: PairTokenizer | None = None,
    ) -> None:
        super().__init__()
        self.bert = body
        self.dropout = Dropout(dropout_rate)
        self.classifier = nn.Linear(body.pooler.dense.out_features, 1)
        self.tokenizer = tokenizer

    @classmethod
    def from_spec(cls, spec: SentenceSpec, *, max_length: int | None = None) -> "CrossEncoder":
        """Build the untrained shape that a model folder describes."""
        body = SentenceTransformer.from_spec(spec, max_length=max_length).model
        rate = spec.body.get("classifier_dropout")
        return cls(body, spec.body.get("hidden_dropout_prob", 0.1) if rate is None else rate)

    @classmethod
    def from_pretrained(cls, model_name: str, *, max_length: int | None = None) -> "CrossEncoder":
        """Load a cross-encoder by name or folder, in eval mode (see :mod:`miniformer.weights`).

        ``max_length`` counts the tokens of a pair, special ones included, and defaults to the
        folder's own. FileNotFoundError where there is no such model, ValueError where its tensors
        are not those of a cross-encoder: every one is listed.
        """
        folder = find_model(model_name).path
        spec = read_spec(folder)
        model = cls.from_spec(spec, max_length=max_length)
        model.tokenizer = PairTokenizer(
            str(folder), model.bert.max_length, lower_case=spec.do_lower_case
        )
        return load_cross_encoder(model, folder).eval()

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Score ids [B, L] under a mask [B, L], with types 0 and 1 for the two texts: [B]."""
        _, pooled, _ = self.bert(input_ids, attention_mask, token_type_ids)
        pooled = self.dropout(pooled).to(self.classifier.weight.dtype)
        scores: Tensor = self.classifier(pooled)
        return scores[:, 0]

    @torch.inference_mode()
    def predict(
        self, pairs: Sequence[tuple[str, str]], *, token_budget: int | None = None
    ) -> npt.NDArray[np.float32]:
        """The score of each (question, passage): float32 [n].

        Pairs of like length are scored together, at most ``token_budget`` padded tokens at a time
        (a longer pair goes alone). Of a pair that is too long the longer text is cut.
        """
        if self.tokenizer is None:
            raise ValueError("this model has no tokenizer; open it with from_pretrained")
        rows = self.tokenizer.rows(pairs)
        device = self.classifier.weight.device
        budget = token_budget or TOKEN_BUDGET.get(device.type, TOKEN_BUDGET["cpu"])
        scores = np.empty(len(rows), np.float32)
        for batch in _batches(rows, budget):
            tensors = pad_pairs([rows[index] for index in batch], WIDTH)
            scored = self(*(tensor.to(device) for tensor in tensors))
            scores[batch] = scored.float().cpu().numpy()
        return scores


def _batches(rows: Sequence[PairRow], budget: int) -> Iterator[list[int]]:
    """Positions of rows of like length, the longest first, within ``budget`` padded tokens."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].ids))
    start = 0
    while start < len(order):
        longest = len(rows[order[start]].ids)
        size = max(1, budget // (longest + -longest % WIDTH))
        yield order[start : start + size]
        start += size


def load_cross_encoder(
    model: CrossEncoder, folder: Path, *, fresh_heads: bool = False
) -> CrossEncoder:
    """Fill a model from a folder. ValueError lists every tensor that is missing, unexpected or of
    another shape.

    With ``fresh_heads`` a folder without classifier or pooler, such as an encoder's, is one to
    start from: they are drawn from torch's generator, as BERT draws them.
    """
    path = weights_file(folder)
    try:
        stored = {our_name(name): tensor for name, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; fetch it again") from None
    stored.pop(BUFFER_OF_OLD, None)
    wanted = {our_name(name): tensor for name, tensor in model.state_dict().items()}
    if fresh_heads:
        stored = {n: t for n, t in stored.items() if not n.startswith(OF_PRETRAINING)}
        stored |= _drawn_heads(wanted, stored, folder)
    shapes = {name: tensor.shape for name, tensor in stored.items()}
    problems = misfits(shapes, {name: tensor.shape for name, tensor in wanted.items()})
    others = sorted(n for n in shapes.keys() - wanted.keys() if IGNORED.match(n))
    problems += [f"unexpected {name} {list(shapes[name])}" for name in others]
    if problems:
        raise ValueError(f"{path} is not that of a cross-encoder: {'; '.join(problems)}")
    model.load_state_dict({name: stored[our_name(name)] for name in model.state_dict()})
    return model


def _drawn_heads(
    wanted: Mapping[str, Tensor], stored: Mapping[str, Tensor], folder: Path
) -> dict[str, Tensor]:
    """Of each head that is not stored the weights, normally distributed, and biases of 0."""
    spread = read_json(folder / "config.json").get("initializer_range", SPREAD)
    absent = tuple(h for h in HEADS if not any(name.startswith(h) for name in stored))
    return {
        name: torch.zeros(like.shape)
        if name.endswith("bias")
        else torch.empty(like.shape).normal_(std=spread)
        for name, like in wanted.items()
        if name.startswith(absent)
    }


def save_cross_encoder(
    model: CrossEncoder, spec: SentenceSpec, tokenizer_from: Path, folder: Path
) -> None:
    """Write a folder that transformers and sentence-transformers open too, config.json the last.

    ``spec`` is that of the folder the model came from; the tokenizer's files are copied from
    ``tokenizer_from`` and say the model's own length.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder, model)
    for name in TOKENIZER_FILES:
        if (tokenizer_from / name).is_file():
            (folder / name).write_bytes((tokenizer_from / name).read_bytes())
    stated = folder / "tokenizer_config.json"
    described: dict[str, Any] = json.loads(stated.read_bytes()) if stated.is_file() else {}
    write_json(stated, {**described, "model_max_length": model.bert.max_length})
    if spec.do_lower_case:
        write_json(folder / "sentence_bert_config.json", {"do_lower_case": True})
    layers = len(model.bert.encoder.layer)
    write_json(folder / "config.json", {**spec.body, **DESCRIBED, "num_hidden_layers": layers})
