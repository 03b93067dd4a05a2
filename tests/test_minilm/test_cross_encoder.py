"""Cross-encoders: equal to those of transformers and sentence-transformers, and strictly loaded."""

import json
import random
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, BertModel

from miniformer.minilm.cross_encoder import (
    CrossEncoder,
    load_cross_encoder,
    save_cross_encoder,
)
from miniformer.minilm.folder import read_spec
from miniformer.minilm.pair_tokenizer import PairTokenizer, longest_first, pad_pairs

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 64,
}
WORDS = ["the", "sat", "unbelievably", "antidisestablishmentarianism", "ünï", "漢字", "A?", "42"]


def build(kind=BertForSequenceClassification, **changes):
    """A BERT in which no bias is 0 and no norm is 1, and whose scores differ."""
    torch.manual_seed(0)
    config = {**SIZES, "num_labels": 1, "attn_implementation": "eager", **changes}
    bert = kind(BertConfig(**config)).eval()
    with torch.no_grad():
        for parameter in bert.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return bert


@pytest.fixture(scope="module")
def theirs():
    return build()


@pytest.fixture(scope="module")
def folder(theirs, tokenizer_files, tmp_path_factory):
    """What transformers writes, with MiniLM's tokenizer."""
    path = tmp_path_factory.mktemp("cross")
    theirs.save_pretrained(path)
    tokenizer_files(path)
    return path


@pytest.fixture
def copy(folder, tmp_path):
    """The same folder, to be changed: its tensors, and the function that writes others."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())

    def write(tensors):
        save_file(tensors, tmp_path / "model.safetensors")
        return tmp_path

    return load_file(folder / "model.safetensors"), write


def pairs_of(lengths, seed=0):
    chance = random.Random(seed)
    return [tuple(" ".join(chance.choices(WORDS, k=n)) for n in both) for both in lengths]


PAIRS = pairs_of(
    [(3, 5), (1, 90), (2, 1), (0, 4), (4, 0), (0, 0), (90, 3), (70, 80), (9, 30), (3, 5)]
)


def expected(theirs, folder, pairs, length=64):
    """What transformers makes of the pairs, one at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scores = []
    for question, passage in pairs:
        encoded = tokenizer(
            *([question], [passage]),
            truncation="longest_first",
            max_length=length,
            return_tensors="pt",
        )
        with torch.no_grad():
            scores.append(theirs(**encoded).logits.item())
    return np.array(scores)


def test_scores_of_ids_are_those_of_transformers(theirs, folder):
    ids = torch.randint(1, 30_000, (5, 24), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(24) < torch.tensor([24, 9, 1, 17, 23])[:, None]).long()
    types = (torch.arange(24) >= torch.tensor([4, 5, 1, 16, 2])[:, None]).long()
    ours = CrossEncoder.from_pretrained(str(folder))
    with torch.no_grad():
        logits = theirs(input_ids=ids, attention_mask=mask, token_type_ids=types).logits[:, 0]
        found = ours(ids, mask, types)
        untyped = ours(ids, mask)
    torch.testing.assert_close(found, logits, atol=1e-5, rtol=0)
    assert (untyped - logits).abs().max() > 1e-3  # the types count
    assert logits.std() > 0.1


@pytest.mark.parametrize("budget", [None, 1, 70, 130])
def test_scores_of_texts_are_those_of_transformers_whatever_the_batches(theirs, folder, budget):
    ours = CrossEncoder.from_pretrained(str(folder))
    scores = ours.predict(PAIRS, token_budget=budget)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected(theirs, folder, PAIRS), atol=1e-5, rtol=0)
    assert len(set(scores.round(4))) > 5


@pytest.mark.parametrize("length", [16, 33])
def test_a_shorter_length_is_obeyed(theirs, folder, length):
    ours = CrossEncoder.from_pretrained(str(folder), max_length=length)
    found = ours.predict(PAIRS)
    wanted = expected(theirs, folder, PAIRS, length)
    np.testing.assert_allclose(found, wanted, atol=1e-5, rtol=0)


def test_no_pairs_have_no_scores(folder):
    assert CrossEncoder.from_pretrained(str(folder)).predict([]).shape == (0,)


def test_batches_stay_within_their_tokens(folder):
    ours = CrossEncoder.from_pretrained(str(folder))
    shapes = []
    ours.register_forward_pre_hook(lambda module, inputs: shapes.append(tuple(inputs[0].shape)))
    ours.predict(PAIRS * 3, token_budget=150)
    assert sum(rows for rows, _ in shapes) == 30
    assert all(rows * width <= 150 for rows, width in shapes)
    assert len(shapes) < 20
    assert [width for _, width in shapes] == sorted((w for _, w in shapes), reverse=True)


def test_scores_are_those_of_sentence_transformers(st, folder):
    other = st.CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity())
    ours = CrossEncoder.from_pretrained(str(folder))
    wanted = other.predict(PAIRS, show_progress_bar=False)
    np.testing.assert_allclose(ours.predict(PAIRS), wanted, atol=1e-5, rtol=0)


@pytest.mark.parametrize("length", [5, 6, 17, 64])
def test_rows_are_those_of_the_original_tokenizer(folder, length):
    long = min(3 * length, 80)  # the original takes the square of what it cuts
    lengths = [(a, b) for a in (0, 1, 7, 8, long) for b in (0, 1, 6, 13, long)]
    pairs = pairs_of(lengths, seed=length)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    wanted = tokenizer(
        *map(list, zip(*pairs, strict=True)), truncation="longest_first", max_length=length
    )
    for row, ids, types in zip(
        PairTokenizer(str(folder), length).rows(pairs),
        wanted["input_ids"],
        wanted["token_type_ids"],
        strict=True,
    ):
        assert row.ids == ids
        assert [0] * row.first + [1] * (len(ids) - row.first) == types


def cut_one_by_one(first, second, room):
    longer = first > second
    while first + second > room:
        if first > second or (first == second and not longer):
            first -= 1
        else:
            second -= 1
    return first, second


def test_the_longer_text_is_cut_first():
    for first in range(12):
        for second in range(12):
            for room in range(2, 16):
                wanted = cut_one_by_one(first, second, room)
                assert longest_first(first, second, room) == wanted, (first, second, room)
    assert longest_first(8, 400, 509) == (8, 400)
    assert longest_first(8, 600, 509) == (8, 501)  # the question stays whole


def test_pairs_are_padded_with_type_0(folder):
    rows = PairTokenizer(str(folder), 16).rows([("a", "b"), ("a b c", "d e")])
    ids, mask, types = pad_pairs(rows, 8)
    assert ids.shape == mask.shape == types.shape == (2, 8)
    assert mask.tolist() == [[1] * 5 + [0] * 3, [1] * 8]
    assert types.tolist() == [[0, 0, 0, 1, 1, 0, 0, 0], [0] * 5 + [1] * 3]


@pytest.mark.parametrize(
    ("change", "problems"),
    [
        ({"classifier.bias": None}, ["missing classifier.bias [1]"]),
        (
            {"classifier.weight": (2, 32), "classifier.bias": (2,)},
            [
                "classifier.bias is [2] in the file, [1] in the model",
                "classifier.weight is [2, 32] in the file, [1, 32] in the model",
            ],
        ),
        (
            {
                "bert.pooler.dense.bias": None,
                "bert.encoder.layer.2.output.dense.bias": (32,),
                "bert.embeddings.LayerNorm.bias": (31,),
                "classifier.out.weight": (3,),
                "cls.predictions.bias": (7,),
            },
            [
                "missing pooler.dense.bias [32]",
                "unexpected encoder.layer.2.output.dense.bias [32]",
                "embeddings.LayerNorm.bias is [31] in the file, [32] in the model",
                "unexpected classifier.out.weight [3]",
                "unexpected cls.predictions.bias [7]",
            ],
        ),
    ],
    ids=["missing", "of two labels", "everything"],
)
def test_tensors_that_do_not_fit_are_one_error_that_names_them_all(copy, change, problems):
    tensors, write = copy
    for name, shape in change.items():
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = torch.zeros(shape)
    path = write(tensors)
    message = f"{path / 'model.safetensors'} is not that of a cross-encoder: {'; '.join(problems)}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        CrossEncoder.from_pretrained(str(path))


def test_old_names_are_understood(copy, theirs):
    tensors, write = copy
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
            "LayerNorm.bias", "LayerNorm.beta"
        ): tensor
        for name, tensor in tensors.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(64)[None]
    path = write(old)
    found = CrossEncoder.from_pretrained(str(path)).predict(PAIRS)
    np.testing.assert_allclose(found, expected(theirs, path, PAIRS), atol=1e-5, rtol=0)


def test_what_is_no_model_is_refused(copy, tmp_path):
    _, write = copy
    with pytest.raises(FileNotFoundError, match="was not found in: a path"):
        CrossEncoder.from_pretrained(str(tmp_path / "nowhere"))
    (write({}) / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        CrossEncoder.from_pretrained(str(tmp_path))
    with pytest.raises(ValueError, match="max_length must be at least 5"):
        CrossEncoder.from_pretrained(str(tmp_path), max_length=4)


def test_a_model_without_a_tokenizer_says_so(folder):
    with pytest.raises(ValueError, match="no tokenizer; open it with from_pretrained"):
        CrossEncoder.from_spec(read_spec(folder)).predict([("a", "b")])


@pytest.fixture
def saved(folder, tmp_path):
    """A model that reads 20 tokens, written by us."""
    ours = CrossEncoder.from_pretrained(str(folder), max_length=20)
    save_cross_encoder(ours, read_spec(folder), folder, tmp_path / "out")
    return ours.predict(PAIRS), tmp_path / "out"


def test_a_saved_folder_is_the_same_to_us_and_to_transformers(saved):
    scores, path = saved
    np.testing.assert_array_equal(CrossEncoder.from_pretrained(str(path)).predict(PAIRS), scores)
    theirs, report = BertForSequenceClassification.from_pretrained(path, output_loading_info=True)
    assert not any(report.values())
    assert theirs.config.num_labels == 1
    assert AutoTokenizer.from_pretrained(path).model_max_length == 20
    found = expected(theirs.eval(), path, PAIRS, 20)
    np.testing.assert_allclose(found, scores, atol=1e-5, rtol=0)


def test_a_saved_folder_is_the_same_to_sentence_transformers(saved, st):
    scores, path = saved
    other = st.CrossEncoder(str(path), device="cpu")
    found = other.predict(PAIRS, show_progress_bar=False)  # logits: no sigmoid over them
    np.testing.assert_allclose(found, scores, atol=1e-5, rtol=0)


def test_a_folder_of_sentence_transformers_is_read(folder, st, tmp_path):
    other = st.CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity())
    other.save_pretrained(str(tmp_path / "theirs"))
    ours = CrossEncoder.from_pretrained(str(tmp_path / "theirs"))
    wanted = other.predict(PAIRS, show_progress_bar=False)
    np.testing.assert_allclose(ours.predict(PAIRS), wanted, atol=1e-5, rtol=0)


def test_what_is_saved_over_a_model_is_whole(saved, folder):
    _, path = saved
    ours = CrossEncoder.from_pretrained(str(path))
    spec = read_spec(path)
    save_cross_encoder(ours, spec, path, path)
    again = CrossEncoder.from_pretrained(str(path))
    np.testing.assert_array_equal(again.predict(PAIRS), ours.predict(PAIRS))
    assert json.loads((path / "config.json").read_text())["architectures"] == [
        "BertForSequenceClassification"
    ]


def from_encoder(path, seed):
    spec = read_spec(path)
    model = CrossEncoder.from_spec(spec)
    torch.manual_seed(seed)
    return load_cross_encoder(model, path, fresh_heads=True).state_dict()


@pytest.mark.parametrize("pooler", [True, False])
def test_an_encoder_is_a_body_to_start_from(pooler, tmp_path, tokenizer_files):
    encoder = build(BertModel, add_pooling_layer=pooler, initializer_range=0.5)
    encoder.save_pretrained(tmp_path)
    tokenizer_files(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    if not pooler:
        tensors = {name: t for name, t in tensors.items() if "pooler" not in name}
        save_file(
            {**tensors, "cls.predictions.bias": torch.ones(3)}, tmp_path / "model.safetensors"
        )
    first, second, other = (from_encoder(tmp_path, seed) for seed in (1, 1, 2))
    for name, tensor in tensors.items():
        assert torch.equal(first[f"bert.{name}"], tensor)
    fresh = ["classifier.weight", *["bert.pooler.dense.weight"] * (not pooler)]
    for name in fresh:
        assert torch.equal(first[name], second[name])
        assert not torch.equal(first[name], other[name])
        assert 0.25 < first[name].std() < 0.75
    assert first["classifier.bias"] == 0
    with pytest.raises(ValueError, match=r"missing classifier\.bias \[1\]; missing classifier\.w"):
        CrossEncoder.from_pretrained(str(tmp_path))
