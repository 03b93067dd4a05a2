"""What a sentence-transformers folder says of its model, without torch."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from miniformer.weights import weights_file

POOLING_FLAGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}

# Settings that change the vectors, with the only values that are followed here.
BODY_DEFAULTS = {"position_embedding_type": "absolute", "is_decoder": False}
SETTINGS_DEFAULTS: Mapping[str, Any] = {
    "query_length": None,
    "document_length": None,
    "processing_kwargs": {},
}
TOKENIZER_DEFAULTS = {"truncation_side": "right"}
MODULE_DEFAULTS = {
    "module_input_name": "sentence_embedding",
    "module_output_name": "sentence_embedding",
    "use_residual": False,
}

# Old checkpoints: a `bert.` prefix, and LayerNorm's first names.
RENAMES = (
    (re.compile(r"^bert\."), ""),
    (re.compile(r"LayerNorm\.gamma$"), "LayerNorm.weight"),
    (re.compile(r"LayerNorm\.beta$"), "LayerNorm.bias"),
)
# A buffer of old BERT exports, and heads of other tasks: nothing an encoder has a place for.
IGNORED = re.compile(r"^(embeddings\.position_ids$|cls\.|classifier\.)")
UNUSED_BY_EMBEDDINGS = "pooler."


@dataclass(frozen=True)
class DenseSpec:
    """A projection behind the pooling; ``folder`` holds its weights."""

    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "Tanh"
    folder: str = ""


@dataclass(frozen=True)
class SentenceSpec:
    """What a sentence-transformers folder says about its model.

    ``body`` is BERT's config.json; ``max_length`` counts [CLS] and [SEP]; ``normalize`` tells
    whether the folder's own pipeline ends in unit vectors.
    """

    body: Mapping[str, Any]
    max_length: int
    pooling: str = "mean"
    dense: tuple[DenseSpec, ...] = ()
    normalize: bool = False
    do_lower_case: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def read_json(path: Path) -> Any:
    """A JSON file's content; FileNotFoundError and ValueError name the file."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing: {path.parent} is not a model folder") from None
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None


def read_spec(folder: Path) -> SentenceSpec:
    """Read a sentence-transformers folder, or a bare BERT folder (mean pooling).

    Both spellings of ``modules.json`` are understood. ValueError names any part that is not.
    """
    body = read_json(folder / "config.json")
    if body.get("model_type") != "bert":
        raise ValueError(
            f"{folder}: the body is {body.get('model_type')!r}; only 'bert' is supported"
        )
    settings = _optional_json(folder / "sentence_bert_config.json")
    tokenizer = _optional_json(folder / "tokenizer_config.json")
    _refuse_others("config.json", body, BODY_DEFAULTS, folder)
    _refuse_others("sentence_bert_config.json", settings, SETTINGS_DEFAULTS, folder)
    _refuse_others("tokenizer_config.json", tokenizer, TOKENIZER_DEFAULTS, folder)
    prompts = _optional_json(folder / "config_sentence_transformers.json")
    return SentenceSpec(
        body=body,
        max_length=_max_length(body, settings, tokenizer),
        do_lower_case=settings.get("do_lower_case", False),
        prompts=prompts.get("prompts") or {},
        default_prompt=prompts.get("default_prompt_name"),
        **_read_modules(folder),
    )


def _optional_json(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _refuse_others(
    name: str, config: Mapping[str, Any], defaults: Mapping[str, Any], folder: Path
) -> None:
    """ValueError for a setting that would change the vectors and is not followed here."""
    for key, default in defaults.items():
        if config.get(key, default) not in (default, None):
            raise ValueError(
                f"{folder / name}: {key} = {config[key]!r} is not supported; expected {default!r}"
            )


def _max_length(
    body: Mapping[str, Any], settings: Mapping[str, Any], tokenizer: Mapping[str, Any]
) -> int:
    positions = int(body["max_position_embeddings"])
    stated = settings.get("max_seq_length") or tokenizer.get("model_max_length") or positions
    return min(int(stated), positions)


def _read_modules(folder: Path) -> dict[str, Any]:
    """The keywords of :class:`SentenceSpec` that modules.json decides."""
    listed = folder / "modules.json"
    parts: dict[str, Any] = {"dense": ()}
    for module in read_json(listed) if listed.is_file() else []:
        kind = module["type"].rsplit(".", 1)[-1]
        inside = folder / module.get("path", "")
        if kind in ("Dense", "Normalize"):
            config = _optional_json(inside / "config.json")
            _refuse_others(f"{module['path']}/config.json", config, MODULE_DEFAULTS, folder)
        if kind == "Pooling":
            parts["pooling"] = _pooling(read_json(inside / "config.json"), inside)
        elif kind == "Dense" and "normalize" not in parts:
            parts["dense"] += (_dense(read_json(inside / "config.json"), module["path"]),)
        elif kind == "Normalize":
            parts["normalize"] = True
        elif kind != "Transformer":
            raise ValueError(f"{listed}: the module {kind!r} is not supported in this place")
    return parts


def _pooling(config: Mapping[str, Any], folder: Path) -> str:
    flagged = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    chosen = config.get("pooling_mode") or [POOLING_FLAGS.get(flag, flag) for flag in flagged]
    pooling = chosen[0] if isinstance(chosen, list) and len(chosen) == 1 else chosen
    if pooling not in POOLING_FLAGS.values():
        known = ", ".join(POOLING_FLAGS.values())
        raise ValueError(f"{folder}: pooling {pooling!r} is not supported; known: {known}")
    if not config.get("include_prompt", True):
        raise ValueError(f"{folder}: pooling that leaves the prompt out is not supported")
    return str(pooling)


def _dense(config: Mapping[str, Any], folder: str) -> DenseSpec:
    return DenseSpec(
        in_features=config["in_features"],
        out_features=config["out_features"],
        bias=config.get("bias", True),
        activation=config["activation_function"].rsplit(".", 1)[-1],
        folder=folder,
    )


def vector_files(folder: Path, spec: SentenceSpec) -> list[Path]:
    """The files that decide a vector, the weights first; FileNotFoundError without weights."""
    dense = [weights_file(folder / part.folder) for part in spec.dense]
    return [weights_file(folder), folder / "tokenizer.json", *dense]


def fingerprint(spec: SentenceSpec, hashes: Iterable[str], max_length: int) -> str:
    """A hash of all that decides a unit vector; ``hashes`` are those of :func:`vector_files`."""
    parts = [
        list(hashes),
        spec.body.get("hidden_act"),
        spec.body["num_attention_heads"],
        spec.body.get("layer_norm_eps"),
        spec.pooling,
        [dense.activation for dense in spec.dense],
        max_length,
        True,  # normalised, whatever the folder's own pipeline ends in
        spec.do_lower_case,
        dict(sorted(spec.prompts.items())),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def our_name(name: str) -> str:
    """The name that a checkpoint's tensor has in our modules."""
    for pattern, ours in RENAMES:
        name = pattern.sub(ours, name)
    return name


def misfits(
    given: Mapping[str, Sequence[int]],
    wanted: Mapping[str, Sequence[int]],
    optional: str | None = None,
) -> list[str]:
    """One line for each tensor that is missing, unexpected or of another shape; names are ours.

    ``optional`` begins the names of those that may be missing.
    """
    missing = sorted(wanted.keys() - given.keys())
    unexpected = sorted(name for name in given.keys() - wanted.keys() if not IGNORED.match(name))
    problems = [
        f"missing {name} {list(wanted[name])}"
        for name in missing
        if not (optional and name.startswith(optional))
    ]
    problems += [f"unexpected {name} {list(given[name])}" for name in unexpected]
    problems += [
        f"{name} is {list(given[name])} in the file, {list(wanted[name])} in the model"
        for name in sorted(wanted.keys() & given.keys())
        if list(given[name]) != list(wanted[name])
    ]
    return problems
