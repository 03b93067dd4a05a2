"""Model folders: config.json, model.safetensors, a tokenizer beside them; ours, T5's and BART's."""

import json
import os
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from miniformer.config.model_config import TransformerConfig
from miniformer.model.compact import check_base, compacted, expanded
from miniformer.model.foreign_names import FAMILIES, Family, translate
from miniformer.model.tables import row
from miniformer.weights import find_model, sha256_of, weights_file

Model = TypeVar("Model", bound=nn.Module)


def save_model(
    model: Any, folder: str | Path, tokenizer: Any = None, base: str | None = None
) -> None:
    """Write a folder that ``from_pretrained`` reads; config.json comes last and marks it whole.

    ``tokenizer`` has a ``save_pretrained`` (transformers) or is a ``tokenizers.Tokenizer``. With
    ``base``, the name of a BERT model, the folder is compact: int8 matrices, and nothing that the
    base has alike. ValueError for a model whose weights were packed for inference.
    """
    if any(getattr(module, "packed", False) for module in model.modules()):
        raise ValueError("packed weights cannot be saved; save the model before it is packed")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / "model.safetensors.new"
    tensors = _own_tensors(model)
    if base is not None:
        tensors = compacted(tensors, _bert_tensors(find_model(base).path))
    save_file(tensors, fresh, metadata={"format": "pt"})
    os.replace(fresh, folder / "model.safetensors")
    if tokenizer is not None:
        save_tokenizer(tokenizer, folder)
    extra: dict[str, Any] = {"architecture": type(model).__name__}
    if hasattr(model, "share_embeddings"):
        extra["share_embeddings"] = model.share_embeddings
    if base is not None:
        extra["base"] = {"name": base, "sha256": sha256_of(weights_file(find_model(base).path))}
    fresh = folder / "config.json.new"
    model.config.save_json(fresh, **extra)
    os.replace(fresh, folder / "config.json")


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Put a tokenizer beside a model, in files that ``AutoTokenizer`` opens."""
    if hasattr(tokenizer, "save_pretrained"):
        tokenizer.save_pretrained(folder)
        return
    tokenizer.save(str(folder / "tokenizer.json"))
    described = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(described))


def load_model(cls: type[Model], name: str | Path) -> Model:
    """Build the model that a folder (or a name that is found) describes, filled, in eval mode.

    FileNotFoundError when there is none; ValueError when it is of another kind, when its
    configuration is not understood, or when tensors are missing, extra or misshapen (all listed).
    """
    folder = find_model(str(name)).path
    described = _read_config(folder)
    tensors = _read_tensors(weights_file(folder))
    kind = described.get("model_type")
    if kind is not None:
        family = row(FAMILIES, kind, "model_type")
        if cls.__name__ != family.architecture:
            raise ValueError(f"{folder} holds a {kind} model: load it as {family.architecture}")
        return _load_foreign(cls, folder, described, tensors, family)
    architecture = described.get("architecture")
    if architecture not in (None, cls.__name__):
        raise ValueError(f"{folder} holds a {architecture}, not a {cls.__name__}")
    shared = described.pop("share_embeddings", None)
    base = described.pop("base", None)
    config = _config_from(described, folder)
    model = cls(config) if shared is None else cls(config, share_embeddings=shared)
    if base is not None:
        known = find_model(base["name"]).path
        check_base(base, sha256_of(weights_file(known)), folder)
        kept = _own_tensors(model).keys()
        tensors = expanded(tensors, {n: t for n, t in _bert_tensors(known).items() if n in kept})
    return fill(model, tensors, str(folder))


def _load_foreign(
    cls: type[Model],
    folder: Path,
    described: dict[str, Any],
    tensors: dict[str, Tensor],
    family: Family,
) -> Model:
    head = tensors.get(family.head)
    table = tensors.get(family.embedding)
    tied = head is None or (table is not None and torch.equal(head, table))
    config = family.config(described, tie_lm_head=tied)
    return fill(cls(config), translate(tensors, family, tied=tied), str(folder))


def fill(model: Model, tensors: dict[str, Tensor], where: str) -> Model:
    """Load strictly, by name; ValueError lists every tensor that does not fit. Eval mode."""
    wanted = _own_tensors(model)
    problems = [f"missing {name} {_shape(wanted[name])}" for name in wanted if name not in tensors]
    problems += [
        f"unexpected {name} {_shape(tensors[name])}" for name in tensors if name not in wanted
    ]
    problems += [
        f"{name} is {_shape(tensors[name])} in the file, {_shape(wanted[name])} in the model"
        for name in wanted
        if name in tensors and tensors[name].shape != wanted[name].shape
    ]
    if problems:
        raise ValueError(f"{where} does not fit the model: {'; '.join(problems)}")
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(tensors[name])
    return model.eval()


def warm_start(model: Any, name: str | Path = "all-MiniLM-L6-v2") -> Any:
    """Fill the encoder half of a ``TransformerConfig.minilm`` model, and the shared token table,
    with a BERT folder's weights; the decoder stays as it is. Returns the model.
    """
    folder = find_model(str(name)).path
    tensors = _bert_tensors(folder)
    wanted = {n for n in _own_tensors(model) if n.startswith(("encoder.", "token_embedding."))}
    half = nn.ModuleDict({"encoder": model.encoder, "token_embedding": model.token_embedding})
    fill(half, {name: tensors[name] for name in tensors if name in wanted}, str(folder))
    half.train(model.training)
    return model


def minilm_config(name: str | Path = "all-MiniLM-L6-v2", **changes: Any) -> TransformerConfig:
    """The configuration whose encoder half :func:`warm_start` fills from this folder."""
    return TransformerConfig.minilm(_read_config(find_model(str(name)).path), **changes)


def _bert_tensors(folder: Path) -> dict[str, Tensor]:
    """The tensors of a BERT folder under our names."""
    return translate(_read_tensors(weights_file(folder)), FAMILIES["bert"], tied=True)


def _own_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor once: of names that share one (a tied head), the first."""
    own: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in model.state_dict().items():
        own.setdefault(tensor.data_ptr(), (name, tensor))
    return {name: tensor.contiguous() for name, tensor in own.values()}


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {folder} is not a model folder")
    try:
        described = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(described, dict):
        raise ValueError(f"{path} must hold a JSON object")
    return described


def _config_from(described: dict[str, Any], folder: Path) -> TransformerConfig:
    described.pop("architecture", None)
    try:
        return TransformerConfig.from_dict(described)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from None


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; fetch it again") from None


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
