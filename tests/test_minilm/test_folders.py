"""Folders that sentence-transformers itself has written: they agree with it or are refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn
from transformers import (
    BertTokenizer,
    DistilBertConfig,
    DistilBertModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaModel,
)

from miniformer.minilm.folder import read_spec
from retrieval import Encoder
from retrieval.errors import ModelError

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH = 32
TEXTS = [
    "",
    "word",
    "The quick brown fox jumps over the lazy dog",
    "A far longer sentence, of which the end is cut off: " + "one two three " * 9,
    "Ünïcödé – naïve café",
    "机器学习",
    "  spaces\n and\tlines ",
    "UPPER CASE, Title Case",
]
CASES = ["Hello WORLD", "ΟΔΟΣ", "ΜΕΓΑΛΟΣ ΑΣ", "İSTANBUL DİYARBAKIR", "STRASSE ẞ", "Привет МИР"]
WAYS = ["encode", "encode_query", "encode_document"]


@pytest.fixture(scope="module")
def parts(st):
    """The modules of sentence-transformers, by name."""
    from sentence_transformers.sentence_transformer import modules

    return modules


@pytest.fixture(scope="module")
def body(random_bert, tmp_path_factory):
    """A random BERT with a tokenizer that spells words out, as transformers writes them."""
    folder = tmp_path_factory.mktemp("body")
    letters = sorted({letter for text in TEXTS + CASES for letter in text + text.lower()} - {" "})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##er", "σας", "##ος"]
    vocabulary += [prefix + letter for prefix in ("", "##") for letter in letters]
    random_bert(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=48,
        max_position_embeddings=64,
    ).save_pretrained(folder)
    BertTokenizer({word: place for place, word in enumerate(vocabulary)}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def transformer(parts, body):
    return parts.Transformer(str(body), max_seq_length=16)


@pytest.fixture
def write(st, transformer, tmp_path):
    """Let sentence-transformers write a folder of the body and the given modules behind it."""

    def save(*modules: nn.Module, first: nn.Module = transformer, **keywords: Any) -> Path:
        model = st.SentenceTransformer(modules=[first, *modules], device="cpu", **keywords)
        model.save(str(tmp_path / "saved"), create_model_card=False)
        return tmp_path / "saved"

    return save


def edit(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(content | changes))


FLAGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token"}


def spell_as_before(folder: Path) -> None:
    """Rewrite a folder as sentence-transformers 2 would have written it."""
    listed = json.loads((folder / "modules.json").read_text())
    for module in listed:
        module["type"] = "sentence_transformers.models." + module["type"].rsplit(".", 1)[-1]
        if module["type"].endswith("Pooling"):
            config = json.loads((folder / module["path"] / "config.json").read_text())
            flags = {flag: mode == config["pooling_mode"] for mode, flag in FLAGS.items()}
            flags |= {"word_embedding_dimension": WIDTH, "pooling_mode_max_tokens": False}
            (folder / module["path"] / "config.json").write_text(json.dumps(flags))
        if module["type"].endswith("Normalize"):
            (folder / module["path"] / "config.json").unlink()
    (folder / "modules.json").write_text(json.dumps(listed))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    settings = {"max_seq_length": tokenizer["model_max_length"], "do_lower_case": False}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    edit(folder / "tokenizer_config.json", model_max_length=512)


def rows(result: Any) -> np.ndarray:
    return result[0] if isinstance(result, tuple) else result


def open_both(st, folder: Path) -> tuple[Any, Encoder]:
    oracle = st.SentenceTransformer(str(folder), device="cpu")
    return oracle, Encoder(str(folder), dtype="float32", device="cpu")


def difference(oracle: Any, encoder: Encoder, way: str, texts: list[str]) -> float:
    """The largest difference of any number between our rows and sentence-transformers'."""
    ours = rows(getattr(encoder, way)(texts))
    theirs = getattr(oracle, way)(texts, normalize_embeddings=True)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


QUERY, DOCUMENT = "search for this: ", "a passage: "
RECIPES = {
    "mean": lambda m: ([m.Pooling(WIDTH, "mean")], {}),
    "mean, normalized": lambda m: ([m.Pooling(WIDTH, "mean"), m.Normalize()], {}),
    "cls": lambda m: ([m.Pooling(WIDTH, "cls")], {}),
    "cls, normalized": lambda m: ([m.Pooling(WIDTH, "cls"), m.Normalize()], {}),
    "dense": lambda m: ([m.Pooling(WIDTH, "mean"), m.Dense(WIDTH, 10)], {}),
    "cls, dense without bias, normalized": lambda m: (
        [
            m.Pooling(WIDTH, "cls"),
            m.Dense(WIDTH, 10, bias=False, activation_function=nn.GELU()),
            m.Normalize(),
        ],
        {},
    ),
    "two dense": lambda m: (
        [
            m.Pooling(WIDTH, "mean"),
            m.Dense(WIDTH, 40, activation_function=nn.ReLU()),
            m.Dense(40, 12, activation_function=None),
        ],
        {},
    ),
    "prompts": lambda m: (
        [m.Pooling(WIDTH, "mean"), m.Normalize()],
        {"prompts": {"query": QUERY, "document": DOCUMENT}},
    ),
    "a prompt for queries only": lambda m: (
        [m.Pooling(WIDTH, "mean")],
        {"prompts": {"query": QUERY}},
    ),
    "a default prompt": lambda m: (
        [m.Pooling(WIDTH, "mean")],
        {"prompts": {"query": QUERY, "other": "other: "}, "default_prompt_name": "other"},
    ),
}


@pytest.mark.parametrize("spelling", ["new", "old"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_folder_agrees_with_sentence_transformers(st, parts, write, recipe, spelling):
    modules, keywords = RECIPES[recipe](parts)
    folder = write(*modules, **keywords)
    if spelling == "old":
        spell_as_before(folder)
    oracle, encoder = open_both(st, folder)
    assert encoder.max_length == oracle.max_seq_length == 16
    assert encoder.dim == oracle.get_embedding_dimension()
    assert {way: d for way in WAYS if (d := difference(oracle, encoder, way, TEXTS)) > 2e-6} == {}


def test_a_prompt_changes_the_vectors_it_belongs_to(parts, write):
    modules, keywords = RECIPES["prompts"](parts)
    encoder = Encoder(str(write(*modules, **keywords)), dtype="float32", device="cpu")
    plain = encoder.encode(TEXTS)
    for way, prompt in (("encode_query", QUERY), ("encode_document", DOCUMENT)):
        prompted = rows(getattr(encoder, way)(TEXTS))
        expected = encoder.encode([prompt + text for text in TEXTS])
        np.testing.assert_allclose(prompted, expected, rtol=0, atol=1e-6)
        assert np.abs(prompted - plain).max() > 1e-2


@pytest.mark.parametrize("name", ["passage", "corpus"])
def test_other_names_of_the_document_prompt_mean_what_they_mean_there(st, parts, write, name):
    folder = write(
        parts.Pooling(WIDTH, "mean"), prompts={"query": QUERY, "document": "", name: DOCUMENT}
    )
    assert difference(*open_both(st, folder), "encode_document", TEXTS) <= 2e-6


LENGTHS = {
    # max_seq_length in sentence_bert_config.json, model_max_length in tokenizer_config.json
    "old style": (9, 512, 9),
    "old style, the tokenizer knows it too": (9, 9, 9),
    "old style, the tokenizer says less": (12, 9, 12),
    "new style": (None, 11, 11),
    "new style, more than there are positions": (None, 512, 64),
    "new style, no limit": (None, 1_000_000_000_000_000_019_884_624_838_656, 64),
}


@pytest.mark.parametrize("style", LENGTHS)
def test_the_length_is_the_one_that_sentence_transformers_reads(st, parts, write, style):
    stated, of_tokenizer, expected = LENGTHS[style]
    folder = write(parts.Pooling(WIDTH, "mean"))
    (folder / "sentence_bert_config.json").unlink()
    if stated:
        edit(folder / "sentence_bert_config.json", max_seq_length=stated, do_lower_case=False)
    edit(folder / "tokenizer_config.json", model_max_length=of_tokenizer)
    oracle, encoder = open_both(st, folder)
    assert oracle.max_seq_length == encoder.max_length == expected
    assert difference(oracle, encoder, "encode", TEXTS) <= 2e-6


def test_a_bare_bert_folder_is_pooled_by_the_mean(st, body):
    assert difference(*open_both(st, body), "encode", TEXTS) <= 2e-6
    spec = read_spec(body)
    assert (spec.pooling, spec.dense, spec.normalize) == ("mean", (), False)


def test_a_spec_tells_whether_the_folder_normalizes(parts, write):
    pooling = parts.Pooling(WIDTH, "mean")
    assert not read_spec(write(pooling)).normalize
    assert read_spec(write(pooling, parts.Normalize())).normalize


@pytest.mark.parametrize("cased", [False, True])
def test_lower_casing_by_the_folders_wish_equals_sentence_transformers(st, parts, write, cased):
    folder = write(parts.Pooling(WIDTH, "mean"))
    edit(folder / "sentence_bert_config.json", do_lower_case=True)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] |= {"lowercase": not cased, "strip_accents": not cased}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    edit(folder / "tokenizer_config.json", do_lower_case=not cased, strip_accents=not cased)
    oracle, encoder = open_both(st, folder)
    deltas = {text: difference(oracle, encoder, "encode", [text]) for text in CASES}
    assert {text: delta for text, delta in deltas.items() if delta > 2e-6} == {}


TINY = {"vocab_size": 60, "max_position_embeddings": 20}
NARROW = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
BODIES = {
    "mpnet": lambda: MPNetModel(MPNetConfig(**TINY, **NARROW)),
    "roberta": lambda: RobertaModel(RobertaConfig(**TINY, **NARROW)),
    "distilbert": lambda: DistilBertModel(
        DistilBertConfig(**TINY, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    ),
}


@pytest.mark.parametrize("kind", BODIES)
def test_another_body_is_refused_by_name(tmp_path, tokenizer_files, kind):
    BODIES[kind]().save_pretrained(tmp_path)
    tokenizer_files(tmp_path)
    with pytest.raises(ModelError, match=f"'{kind}'.*bert"):
        Encoder(str(tmp_path), device="cpu")


def test_relative_positions_are_refused(parts, write):
    folder = write(parts.Pooling(WIDTH, "mean"))
    edit(folder / "config.json", position_embedding_type="relative_key")
    with pytest.raises(ModelError, match="absolute"):
        Encoder(str(folder), device="cpu")


OTHER_FLAGS = {
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


@pytest.mark.parametrize("spelling", ["new", "old"])
@pytest.mark.parametrize("pooling", OTHER_FLAGS)
def test_another_pooling_is_refused_by_name(parts, write, pooling, spelling):
    folder = write(parts.Pooling(WIDTH, pooling))
    if spelling == "old":
        flags = {"pooling_mode_mean_tokens": False, OTHER_FLAGS[pooling]: True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    with pytest.raises(ModelError, match=f"{pooling}.* mean"):
        Encoder(str(folder), device="cpu")


@pytest.mark.parametrize("spelling", ["new", "old"])
def test_two_poolings_side_by_side_are_refused_by_name(parts, write, spelling):
    folder = write(parts.Pooling(WIDTH, ("cls", "mean")))
    if spelling == "old":
        flags = {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(flags))
    with pytest.raises(ModelError, match=r"'cls'.*'mean'.*not supported"):
        Encoder(str(folder), device="cpu")


REFUSED = {
    "a residual Dense": (
        lambda m: [m.Pooling(WIDTH, "mean"), m.Dense(WIDTH, WIDTH, use_residual=True)],
        "Dense.*residual",
    ),
    "a Dense of another activation": (
        lambda m: [m.Pooling(WIDTH, "mean"), m.Dense(WIDTH, 8, activation_function=nn.Sigmoid())],
        "'Sigmoid'.*Tanh",
    ),
    "a Dense behind the normalization": (
        lambda m: [m.Pooling(WIDTH, "mean"), m.Normalize(), m.Dense(WIDTH, 8)],
        "'Dense'",
    ),
    "a Dense over the tokens": (
        lambda m: [
            m.Dense(WIDTH, WIDTH, module_input_name="token_embeddings"),
            m.Pooling(WIDTH, "mean"),
        ],
        "Dense",
    ),
    "a normalization of the tokens": (
        lambda m: [m.Normalize(module_input_name="token_embeddings"), m.Pooling(WIDTH, "mean")],
        "Normalize",
    ),
    "a pooling without the prompt": (
        lambda m: [m.Pooling(WIDTH, "mean", include_prompt=False)],
        "prompt",
    ),
    "a layer norm": (
        lambda m: [m.Pooling(WIDTH, "mean"), m.LayerNorm(WIDTH)],
        "'LayerNorm'",
    ),
    "a recurrent net": (
        lambda m: [m.LSTM(WIDTH, 16), m.Pooling(WIDTH, "mean")],
        "'LSTM'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_would_give_other_vectors_is_refused_by_name(parts, write, case):
    modules, message = REFUSED[case]
    folder = write(*modules(parts))
    with pytest.raises(ModelError, match=message):
        Encoder(str(folder), device="cpu")


SETTINGS = {
    "query_length": {"query_length": 5},
    "document_length": {"document_length": 5},
    "processing_kwargs": {"processing_kwargs": {"text": {"max_length": 5, "truncation": True}}},
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_that_would_change_the_vectors_is_refused_by_name(parts, body, write, setting):
    first = parts.Transformer(str(body), max_seq_length=16, **SETTINGS[setting])
    folder = write(parts.Pooling(WIDTH, "mean"), first=first)
    with pytest.raises(ModelError, match=setting):
        Encoder(str(folder), device="cpu")


FILES = {
    "is_decoder": ("config.json", {"is_decoder": True}),
    "truncation_side": ("tokenizer_config.json", {"truncation_side": "left"}),
}


@pytest.mark.parametrize("key", FILES)
def test_a_key_that_would_change_the_vectors_is_refused_by_name(st, parts, write, key):
    folder = write(parts.Pooling(WIDTH, "mean"))
    file, change = FILES[key]
    before = st.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    edit(folder / file, **change)
    after = st.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    assert np.abs(before - after).max() > 1e-3  # sentence-transformers heeds it
    with pytest.raises(ModelError, match=key):
        Encoder(str(folder), device="cpu")
