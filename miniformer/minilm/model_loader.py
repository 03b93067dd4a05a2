"""Pretrained weights into our modules: by name, strictly, and with a word about every tensor."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from miniformer.minilm.folder import IGNORED, UNUSED_BY_EMBEDDINGS, misfits, our_name
from miniformer.minilm.mini_lm_model import Dense, MiniLMModel, SentenceTransformer
from miniformer.weights import DEFAULT_MODEL, check_pin, find_model, sha256_of, weights_file

logger = logging.getLogger(__name__)

Model = TypeVar("Model", MiniLMModel, SentenceTransformer)


def load_pretrained_weights(model: Model, model_name: str = DEFAULT_MODEL) -> Model:
    """Fill a model with pretrained weights and return it in eval mode.

    ``model_name`` is a name or a folder, found as :func:`miniformer.weights.find_model` says.
    What was loaded, ignored or missing is logged. TypeError for another kind of model,
    FileNotFoundError when there are no weights, ValueError when a tensor is missing, unexpected
    or of another shape (every one is listed, with both shapes) or when the file is not the
    published one.
    """
    if not isinstance(model, (MiniLMModel, SentenceTransformer)):
        raise TypeError(
            f"model must be a MiniLMModel or SentenceTransformer, got {type(model).__name__}"
        )
    found = find_model(model_name)
    check_pin(found, sha256_of(weights_file(found.path)))
    return load_folder(model, found.path)


def load_folder(model: Model, folder: Path) -> Model:
    """Fill a model from a model folder whose hash the caller vouches for; eval mode."""
    body = model.model if isinstance(model, SentenceTransformer) else model
    _fill(body, weights_file(folder), optional=UNUSED_BY_EMBEDDINGS if body is not model else None)
    if isinstance(model, SentenceTransformer):
        for dense in cast(Iterable[Dense], model.dense):
            _fill(dense, weights_file(folder / dense.spec.folder))
    return model.eval()


def _fill(module: nn.Module, path: Path, *, optional: str | None = None) -> None:
    """Load one file into one module: names and shapes must fit."""
    tensors = {our_name(name): tensor for name, tensor in _read(path).items()}
    wanted = module.state_dict()
    problems = misfits(_shapes(tensors), _shapes(wanted), optional)
    if problems:
        logger.error("%s does not fit the model: %s", path, "; ".join(problems))
        raise ValueError(f"{path} does not fit the model: {'; '.join(problems)}")
    with torch.no_grad():
        module.load_state_dict({n: tensors[n] for n in wanted if n in tensors}, strict=False)
    ignored = sorted(name for name in tensors if IGNORED.match(name))
    missing = sorted(wanted.keys() - tensors.keys())
    loaded = len(wanted) - len(missing)
    logger.info("%s: loaded %d tensors, ignored %s, missing %s", path, loaded, ignored, missing)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged: {error}; fetch it again") from None


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, Sequence[int]]:
    return {name: tensor.shape for name, tensor in tensors.items()}
