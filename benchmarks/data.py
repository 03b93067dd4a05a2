"""Where the benchmark texts come from, and what machine this is."""

import os
import platform
import random
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DATA = Path(os.environ.get("RETRIEVAL_BENCHMARK_DATA", "../shared/data"))
COLLECTIONS = ("cranfield", "cisi", "vaswani")


def data(name: str) -> Path:
    """A file or folder of the benchmark data; the run ends with a word where it is absent."""
    path = DATA / name
    if not path.exists():
        sys.exit(f"{path} is missing; set $RETRIEVAL_BENCHMARK_DATA to the folder that holds it")
    return path


def passages(count: int, seed: int = 0) -> list[str]:
    """Titles and texts drawn at random from the technical prose."""
    import pyarrow.parquet as pq

    table = pq.read_table(data("prose/docs.parquet"), columns=["title", "text"])
    rows = random.Random(seed).sample(range(table.num_rows), count)
    drawn = table.take(rows).to_pylist()
    return [f"{row['title']} {row['text']}" for row in drawn]


def wheel_model() -> str:
    """The folder of the installed all-MiniLM-L6-v2 weights."""
    from miniformer.weights import find_model

    return str(find_model("all-MiniLM-L6-v2", hub=False).path)


def machine(*packages: str) -> str:
    """The processor, its threads and the versions that a figure depends on."""
    import torch

    capabilities = torch.cpu.get_capabilities()
    formats = [name for name in ("amx_bf16", "avx512_bf16") if capabilities.get(name)]
    versions = ", ".join(filter(None, map(_named, ("torch", "numpy", *packages))))
    return (
        f"{capabilities.get('cpu_name', platform.processor())}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} torch threads, {' '.join(formats) or 'no bf16 unit'}; "
        f"Python {platform.python_version()}, {versions}"
    )


def _named(package: str) -> str | None:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return None


VERBOSE = """
import torch
print("ATen:", torch.backends.cpu.get_cpu_capability())
torch.mm(torch.ones(64, 64), torch.ones(64, 64))
torch.conv2d(torch.ones(4, 16, 64, 64), torch.ones(16, 16, 3, 3))
"""
SAID = {
    "ATen": r"ATen: (.*)",
    "oneDNN": r"onednn_verbose,.*cpu,isa:(.*)",
    "MKL": r"MKL_VERBOSE .*architecture (.*?)(?: with support.*| enabled proc.*|, Lnx.*)",
}


def instruction_sets() -> str:
    """What torch, oneDNN and MKL say that they use, in a process of this one's environment."""
    told = {**os.environ, "ONEDNN_VERBOSE": "1", "MKL_VERBOSE": "1"}
    command = [sys.executable, "-c", VERBOSE]
    lines = subprocess.run(command, env=told, capture_output=True, text=True, check=True).stdout
    found = {name: re.search(pattern, lines) for name, pattern in SAID.items()}
    return ", ".join(f"{name} {match[1] if match else 'not told'}" for name, match in found.items())
