"""The encoder without torch: the torch model's vectors, fingerprint and refusals."""

import dataclasses
import json
import math
import os
import random
import shutil
import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors.numpy
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from transformers import BertTokenizer

from miniformer import weights
from miniformer.minilm import numpy_forward
from miniformer.minilm.folder import read_spec
from miniformer.minilm.mini_lm_model import DENSE_ACTIVATIONS as TORCH_DENSE_ACTIVATIONS
from miniformer.minilm.mini_lm_model import POOLINGS as TORCH_POOLINGS
from miniformer.minilm.mini_lm_model import SentenceTransformer
from miniformer.minilm.numpy_encoder import NumpyEncoder
from miniformer.minilm.numpy_forward import NumpySentenceTransformer
from miniformer.minilm.numpy_layers import ACTIVATIONS, DENSE_ACTIVATIONS, FORMATS, gelu
from miniformer.minilm.tokenizer import pad
from miniformer.model.feedforward import ACTIVATIONS as TORCH_ACTIVATIONS
from miniformer.weights import FoundModel, find_model, map_tensors
from retrieval import Encoder
from retrieval.encoding import RecordedEncoder

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "all-MiniLM-L6-v2"
CLOSE = 1e-5
WEIGHTS = "model.safetensors"
TEXTS = [
    "",
    " \n\t ",
    "word",
    "?!",
    "How do decorators work?",
    "The quick brown fox jumps over the lazy dog, again and again. " * 3,
    "a long text, of which the end is cut off " * 60,
    "机器学习是人工智能的一个分支",
    "한국어 문장입니다 मस्ते مرحبا",
    "Ünïcödé – naïve café, Ångström, İSTANBUL ΟΔΟΣ",
    "e\u0301 a\u0308 n\u0303 combining",
    "emoji 😀 👩‍👩‍👧 ❤️",
    "[CLS] special [SEP] tokens [MASK] [PAD] in the text",
    "a\u0000b\u200bc\ufeffd",
    "x" * 150,
    "UPPER CASE, Title Case",
]
# What a body is, and what stands behind it, each far from MiniLM's own choice.
FOLDERS = {
    "narrow": {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3},
    "one head": {"hidden_size": 16, "num_attention_heads": 1, "intermediate_size": 20},
    "one layer": {"num_hidden_layers": 1, "layer_norm_eps": 1e-2},
    "gelu_new": {"hidden_act": "gelu_new"},
    "relu": {"hidden_act": "relu"},
    "silu": {"hidden_act": "silu"},
    "three types": {"type_vocab_size": 3},
    "cls": {"pooling": "cls"},
    "F16": {"tensors": torch.float16},
    "BF16": {"tensors": torch.bfloat16},
    "F64": {"tensors": torch.float64},
    "lower case": {"settings": {"do_lower_case": True}},
    "prompts": {
        "prompts": {"query": "find: ", "document": "text: ", "other": "so: "},
        "default_prompt_name": "other",
    },
    "projected": {
        "dense": [("Tanh", 64, 12, True), ("Identity", 12, 20, False), ("GELU", 20, 8, True)]
    },
    "projected cls": {"dense": [("ReLU", 64, 48, True)], "pooling": "cls"},
    "projected BF16": {"dense": [("Identity", 64, 8, False)], "tensors": torch.bfloat16},
}
WAYS = ["encode", "encode_query", "encode_document"]


def write_json(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def rewrite(path, change):
    save_file({name: t.contiguous() for name, t in change(load_file(path)).items()}, path)


def write_dense(folder, number, activation, inputs, outputs, bias):
    torch.manual_seed(number)
    tensors = {"linear.weight": torch.randn(outputs, inputs) / math.sqrt(inputs)}
    if bias:
        tensors["linear.bias"] = torch.randn(outputs)
    path = f"{number}_Dense"
    described = {"in_features": inputs, "out_features": outputs, "bias": bias}
    described["activation_function"] = f"torch.nn.modules.activation.{activation}"
    write_json(folder / path / "config.json", described)
    save_file(tensors, folder / path / WEIGHTS)
    return path


@pytest.fixture(scope="module")
def vocabulary():
    """Pieces of one letter and a few longer ones, so that a body is small."""
    letters = sorted({letter for text in TEXTS for letter in text.lower() if letter.isprintable()})
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##er", "find", "text", "long"]
    pieces += [prefix + letter for prefix in ("", "##") for letter in letters if letter != " "]
    return {piece: place for place, piece in enumerate(pieces)}


@pytest.fixture(scope="module")
def tokenizer(vocabulary, tmp_path_factory):
    """A folder with the tokenizer of the vocabulary, as transformers writes it."""
    folder = tmp_path_factory.mktemp("tokenizer")
    BertTokenizer(vocabulary).save_pretrained(folder)
    return folder


@pytest.fixture
def write(saved_bert, vocabulary, tokenizer):
    """Write a sentence-transformers folder of a random body with a small vocabulary."""

    def save(
        name="model",
        *,
        pooling="mean",
        dense=(),
        tensors=torch.float32,
        settings=None,
        prompts=None,
        default_prompt_name=None,
        **sizes,
    ):
        folder = saved_bert(name, vocab_size=len(vocabulary), **sizes)
        for file in tokenizer.iterdir():
            shutil.copy(file, folder)
        paths = [write_dense(folder, n, *each) for n, each in enumerate(dense, start=2)]
        listed = [("", "Transformer"), ("1_Pooling", "Pooling"), *((p, "Dense") for p in paths)]
        modules = [
            {"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in listed
        ]
        write_json(folder / "modules.json", modules)
        write_json(folder / "1_Pooling/config.json", {"pooling_mode": pooling})
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": 30} | (settings or {}))
        described = {"prompts": prompts or {}, "default_prompt_name": default_prompt_name}
        write_json(folder / "config_sentence_transformers.json", described)
        for file in folder.rglob(WEIGHTS):
            rewrite(file, lambda old: {name: tensor.to(tensors) for name, tensor in old.items()})
        return folder

    return save


def at(folder, name=None):
    return FoundModel(name or str(folder), folder, "a path")


def torch_encoder(folder, **keywords):
    return Encoder(str(folder), dtype="float32", device="cpu", **keywords)


def rows(result):
    return result[0] if isinstance(result, tuple) else result


def difference(ours, theirs):
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == np.float32
    return np.abs(ours - theirs).max()


def assert_torchs(folder, texts):
    """Our vectors of the texts, equal to torch's."""
    found = NumpyEncoder(at(folder)).encode(texts)
    assert difference(found, torch_encoder(folder).encode(texts)) <= CLOSE
    return found


@pytest.fixture(scope="module")
def encoder(wheel):
    return NumpyEncoder(find_model(NAME))


@pytest.fixture(scope="module")
def oracle(wheel):
    return Encoder(NAME, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def expected(oracle):
    return oracle.encode_document(TEXTS)


def test_the_real_model_gives_torchs_vectors_and_counts(encoder, expected):
    vectors, dropped = encoder.encode_document(TEXTS)
    assert difference(vectors, expected[0]) <= 1e-6
    assert dropped.dtype == np.int32
    assert dropped.tolist() == expected[1].tolist()
    assert dropped.max() > 100
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_a_text_alone_has_the_vector_that_it_has_among_others(encoder, expected):
    alone = np.concatenate([encoder.encode_query([text]) for text in TEXTS])
    assert difference(alone, expected[0]) <= 1e-6
    order = random.Random(0).sample(range(len(TEXTS)), len(TEXTS))
    shuffled = encoder.encode([TEXTS[position] for position in order])
    assert difference(shuffled, expected[0][order]) <= 1e-6


@pytest.mark.parametrize("tokens", [1, 9, 10_000])
def test_how_texts_are_grouped_changes_no_vector(encoder, expected, monkeypatch, tokens):
    monkeypatch.setattr(numpy_forward, "PASS_TOKENS", tokens)
    assert difference(encoder.encode(TEXTS), expected[0]) <= 1e-6


def test_a_pass_holds_no_more_tokens_than_it_may(encoder, monkeypatch):
    embed, sizes = NumpySentenceTransformer._embed, []

    def spy(model, rows):
        sizes.append([len(row) for row in rows])
        return embed(model, rows)

    monkeypatch.setattr(NumpySentenceTransformer, "_embed", spy)
    monkeypatch.setattr(numpy_forward, "PASS_TOKENS", 9)
    encoder.encode(["", "", "one two three", "a b c d e f g h i j", "", "a", "b", ""])
    assert sizes == [[2, 2, 5], [12], [2, 3, 3], [2]]


def test_many_threads_get_what_one_gets(encoder, expected):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda text: encoder.encode_query([text]), TEXTS))
    assert difference(np.concatenate(found), expected[0]) <= 1e-6


@pytest.mark.parametrize("max_length", [3, 300])
def test_a_given_length_is_followed(wheel, max_length):
    ours = NumpyEncoder(find_model(NAME), max_length=max_length)
    theirs = Encoder(NAME, dtype="float32", device="cpu", max_length=max_length)
    chosen = TEXTS[4:8]
    vectors, dropped = theirs.encode_document(chosen)
    assert difference(ours.encode_document(chosen)[0], vectors) <= 1e-6
    assert ours.encode_document(chosen)[1].tolist() == dropped.tolist()
    assert ours.fingerprint == theirs.fingerprint
    assert ours.max_length == max_length


def test_the_record_and_the_offsets_are_torchs(encoder, oracle):
    assert isinstance(encoder, RecordedEncoder)
    assert encoder.record == oracle.record
    assert encoder.fingerprint == oracle.fingerprint
    assert (encoder.dim, encoder.max_length) == (oracle.dim, oracle.max_length) == (384, 256)
    for text in TEXTS:
        assert encoder.offsets(text) == oracle.offsets(text)


def test_no_texts_give_no_rows(encoder):
    assert encoder.encode_query([]).shape == (0, 384)
    vectors, dropped = encoder.encode_document([])
    assert (vectors.shape, dropped.shape) == ((0, 384), (0,))


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_of_another_make_gives_torchs_vectors(write, case):
    folder = write(**FOLDERS[case])
    ours, theirs = NumpyEncoder(at(folder)), torch_encoder(folder)
    for way in WAYS:
        found, wanted = (rows(getattr(each, way)(TEXTS)) for each in (ours, theirs))
        assert difference(found, wanted) <= CLOSE
    assert ours.record == theirs.record
    assert ours.dim == theirs.dim


def test_what_a_configuration_leaves_out_is_berts(write):
    folder = write()
    config = json.loads((folder / "config.json").read_text())
    for name in ("hidden_act", "layer_norm_eps", "type_vocab_size"):
        del config[name]
    write_json(folder / "config.json", config)
    assert_torchs(folder, TEXTS)


def test_a_folder_that_asks_for_lower_case_gets_it(write):
    found = []
    for name, lower in (("lower", True), ("as it is", False)):
        folder = write(name, settings={"do_lower_case": lower})
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        tokenizer["normalizer"]["lowercase"] = False
        write_json(folder / "tokenizer.json", tokenizer)
        found.append(assert_torchs(folder, ["THE TEXT", "the text"]))
    assert np.array_equal(found[0][0], found[0][1])
    assert not np.allclose(found[1][0], found[1][1], atol=1e-3)


def test_attention_to_one_token_alone_overflows_nothing(write):
    folder = write()
    name = "encoder.layer.0.attention.self.query.weight"
    rewrite(folder / WEIGHTS, lambda old: old | {name: old[name] * 10_000})
    assert_torchs(folder, TEXTS)


@pytest.mark.parametrize("tensors", [torch.float16, torch.bfloat16])
def test_half_precision_weights_are_widened_without_loss(write, tensors):
    half = write("half", tensors=tensors)
    whole = write("whole")
    shutil.copy(half / WEIGHTS, whole / WEIGHTS)
    rewrite(whole / WEIGHTS, lambda old: {name: tensor.float() for name, tensor in old.items()})
    found, wanted = (NumpyEncoder(at(folder)).encode(TEXTS) for folder in (half, whole))
    assert np.array_equal(found, wanted)


def test_fingerprints_differ_where_vectors_do(write):
    cases = ["relu", "cls", "prompts", "projected", "lower case"]
    folders = [write(case, **FOLDERS[case]) for case in cases]
    assert len({NumpyEncoder(at(folder)).fingerprint for folder in folders}) == len(cases)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_the_poolings_are_those_of_torchs_tokens(write, pooling):
    folder = write()
    spec = read_spec(folder)
    model = SentenceTransformer.from_pretrained(str(folder))
    ids = [[2, 75, 20, 3], [2, 3], [2, *range(20, 40), 3]]
    reduce = {"mean": lambda t: t.mean(0), "cls": lambda t: t[0], "max": lambda t: t.amax(0)}
    with torch.no_grad():
        tokens = model.model(*pad(ids))[0]
    pooled = [reduce[pooling](row[: len(own)]) for row, own in zip(tokens, ids, strict=True)]
    ours = NumpySentenceTransformer(dataclasses.replace(spec, pooling=pooling), folder)
    assert difference(ours(ids), F.normalize(torch.stack(pooled), dim=1).numpy()) <= CLOSE


def test_the_first_checkpoints_names_are_known_and_other_heads_ignored(write):
    folder = write()
    wanted = NumpyEncoder(at(folder)).encode(TEXTS)

    def old(tensors):
        kept = {name: t for name, t in tensors.items() if not name.startswith("pooler.")}
        named = {
            "bert." + name.replace("Norm.weight", "Norm.gamma").replace("Norm.bias", "Norm.beta"): t
            for name, t in kept.items()
        }
        return named | {
            "bert.embeddings.position_ids": torch.arange(40)[None],
            "cls.predictions.bias": torch.zeros(3),
        }

    rewrite(folder / WEIGHTS, old)
    assert np.array_equal(NumpyEncoder(at(folder)).encode(TEXTS), wanted)


def test_gelu_is_exact_to_float32():
    x = np.linspace(-30, 30, 200_001).astype(np.float32)
    exact = np.array([value * math.erfc(-value / math.sqrt(2)) / 2 for value in x.tolist()])
    before = x.copy()
    assert (np.abs(gelu(x) - exact) / np.maximum(1, np.abs(x))).max() <= 1e-7
    assert np.array_equal(x, before)
    tail = (x > -9) & (x < -1)
    assert np.abs(gelu(x) - exact)[tail].max() <= 5e-8  # 1 + erf would be off by 1e-7 and more


def test_there_is_what_torch_has_and_no_more():
    assert ACTIVATIONS.keys() == TORCH_ACTIVATIONS.keys()
    assert DENSE_ACTIVATIONS.keys() == TORCH_DENSE_ACTIVATIONS.keys()
    assert FORMATS.keys() == weights.FLOATS.keys()
    assert set(TORCH_POOLINGS) < numpy_forward.POOLINGS.keys()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_torchs(name):
    x = np.concatenate([np.linspace(-12, 12, 10_001), [-200.0, 200.0]]).astype(np.float32)
    wanted = TORCH_ACTIVATIONS[name](torch.from_numpy(x)).numpy()
    # torch's own GELU is 8e-7 off with AVX-512; ours is held to the exact values above.
    np.testing.assert_allclose(ACTIVATIONS[name](x), wanted, rtol=3e-7, atol=1e-6)


def test_the_mapped_tensors_are_those_of_safetensors(wheel):
    mapped, loaded = map_tensors(wheel / WEIGHTS), safetensors.numpy.load_file(wheel / WEIGHTS)
    assert mapped.keys() == loaded.keys()
    for name, tensor in mapped.items():
        assert tensor.shape == loaded[name].shape
        assert tensor.data == loaded[name].tobytes()


def test_weights_stay_in_the_file(wheel):
    tracemalloc.start()
    model = NumpySentenceTransformer(read_spec(wheel), wheel)
    model([[101, 7592, 2088, 102]])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (wheel / WEIGHTS).stat().st_size > 90e6
    assert peak < 2e6


def test_a_question_imports_no_torch(wheel):
    heavy = ("torch", "transformers", "lightning", "safetensors", "scipy", "huggingface_hub")
    code = (
        "import sys\n"
        "from miniformer.minilm.numpy_encoder import NumpyEncoder\n"
        "from miniformer.weights import find_model\n"
        f"rows = NumpyEncoder(find_model({NAME!r})).encode_query(['a question'])\n"
        "assert rows.shape == (1, 384)\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_known_hash_holds_while_size_and_time_do(write):
    folder = write(dense=[("Tanh", 64, 12, True)])
    first = NumpyEncoder(at(folder))
    known = [stamp | {"sha256": "0" * 64} for stamp in first.record["files"]]
    trusting = NumpyEncoder(at(folder), known=known)
    assert trusting.record["files"] == known
    assert len(known) == 3
    assert trusting.fingerprint != first.fingerprint
    for stamp in known:
        os.utime(stamp["path"], ns=(0, stamp["mtime_ns"] + 1))
    assert NumpyEncoder(at(folder), known=known).fingerprint == first.fingerprint


def test_weights_other_than_the_published_are_refused(wheel, monkeypatch):
    monkeypatch.setitem(weights.SHA256, NAME, "0" * 64)
    with pytest.raises(ValueError, match="damaged or changed"):
        NumpyEncoder(find_model(NAME))


def reason(make):
    with pytest.raises(Exception, match=r".") as caught:
        make()
    return str(caught.value)


def misfit(tensors):
    del tensors["encoder.layer.1.output.dense.bias"]
    tensors["encoder.layer.0.extra.weight"] = torch.zeros(2, 5)
    tensors["embeddings.LayerNorm.weight"] = torch.zeros(63)
    tensors["pooler.dense.weight"] = torch.zeros(64, 32)
    return tensors


def test_tensors_that_do_not_fit_are_listed_as_torch_lists_them(write):
    folder = write()
    rewrite(folder / WEIGHTS, misfit)
    message = reason(lambda: NumpyEncoder(at(folder)))
    assert message == reason(lambda: torch_encoder(folder))
    assert message.count(";") == 3
    for part in ("missing encoder.layer.1.output.dense.bias [64]", "is [63] in the file, [64]"):
        assert part in message


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 32},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 0},
        {"num_attention_heads": 5},
        {"vocab_size": "many"},
        {"type_vocab_size": 1},
    ],
)
def test_sizes_that_cannot_be_are_refused_as_torch_refuses_them(write, change):
    folder = write()
    write_json(folder / "config.json", json.loads((folder / "config.json").read_text()) | change)
    with pytest.raises(ValueError, match=r".") as caught:
        NumpyEncoder(at(folder))
    assert str(caught.value) == reason(lambda: torch_encoder(folder))


def test_a_missing_bias_of_a_projection_is_refused(write):
    folder = write(dense=[("Tanh", 64, 12, True)])
    rewrite(folder / "2_Dense" / WEIGHTS, lambda old: {"linear.weight": old["linear.weight"]})
    with pytest.raises(ValueError, match=r"2_Dense.*missing linear\.bias \[12\]"):
        NumpyEncoder(at(folder))


ONLY_TORCH = {
    "an activation": ({"hidden_act": "mish"}, {}, "'mish'.*gelu, gelu_new, relu, silu.*torch"),
    "a projection": ({}, {"dense": [("Mish", 64, 8, True)]}, "'Mish'.*Tanh.*torch runtime"),
    "whole numbers": ({}, {"tensors": torch.int32}, "I32; expected F64, F32.*torch runtime"),
}


@pytest.mark.parametrize("case", ONLY_TORCH)
def test_what_is_not_computed_here_is_refused_with_the_way_out(write, case):
    config, keywords, message = ONLY_TORCH[case]
    folder = write(**keywords)
    write_json(folder / "config.json", json.loads((folder / "config.json").read_text()) | config)
    with pytest.raises(ValueError, match=message):
        NumpyEncoder(at(folder))


def test_a_pooling_that_torch_refuses_is_refused_alike(write):
    folder = write(pooling="max")
    message = reason(lambda: NumpyEncoder(at(folder)))
    assert message == reason(lambda: torch_encoder(folder))
    assert "'max' is not supported" in message
    spec = dataclasses.replace(read_spec(write("other")), pooling="last")
    with pytest.raises(ValueError, match=r"'last' is not known in NumPy.*torch runtime"):
        NumpySentenceTransformer(spec, folder)


HEADERS = {
    "no JSON": b"nonsense",
    "no table": b"[1]",
    "no entry": b'{"a": 1}',
    "no offsets": b'{"a": {"dtype": "F32", "shape": [1]}}',
    "beyond the end": b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}',
    "before the start": b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-4, 0]}}',
    "back to front": b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}',
    "another size": b'{"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("case", HEADERS)
def test_a_header_that_cannot_be_is_damage(tmp_path, case):
    header = HEADERS[case]
    (tmp_path / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged: .*fetch it again"):
        map_tensors(tmp_path / WEIGHTS)


@pytest.mark.parametrize("size", [0, 4, 1_000, 100_000])
def test_a_file_cut_short_is_damage(write, size):
    folder = write()
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:size])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        NumpyEncoder(at(folder))


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json", "config.json"])
def test_a_missing_file_is_named(write, name):
    folder = write()
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        NumpyEncoder(at(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_weights_that_give_no_vector_are_found_out(write, value):
    folder = write()
    name = "encoder.layer.0.output.dense.weight"
    rewrite(folder / WEIGHTS, lambda old: old | {name: torch.full_like(old[name], value)})
    with pytest.raises(ValueError, match="text 0 a vector of length nan"):
        NumpyEncoder(at(folder)).encode(["a text"])


@pytest.mark.parametrize("max_length", [2, 41])
def test_a_length_without_room_or_positions_is_refused(write, max_length):
    with pytest.raises(ValueError, match=f"max_length {max_length} is not in 3…40"):
        NumpyEncoder(at(write()), max_length=max_length)


@pytest.mark.parametrize(
    ("texts", "error", "message"),
    [
        ("a text", TypeError, "put it in a list"),
        (["a", None], TypeError, "text 1 is NoneType; expected str"),
        (["a", "b", "\ud800"], ValueError, "text 2 is not Unicode text"),
    ],
)
def test_what_is_no_text_is_named(encoder, texts, error, message):
    for way in WAYS:
        with pytest.raises(error, match=message):
            getattr(encoder, way)(texts)


def test_a_text_without_tokens_is_an_error(write):
    folder = write()
    with pytest.raises(ValueError, match="text 1 has no tokens"):
        NumpySentenceTransformer(read_spec(folder), folder)([[2, 3], []])
