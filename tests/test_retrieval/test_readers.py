"""Generators from folders: random weights that point, and a random T5 that writes."""

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from miniformer.model.passages import plain, read_passages, stack_rows
from miniformer.model.pointer import find_spans
from miniformer.model.pretrained import minilm_config, warm_start
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.train.train_config import POINTING
from miniformer.weights import find_model
from retrieval import Finding, ModelError, Span, open_generator, readers
from retrieval.generating import INSTRUCTION, make_prompt

BASE = "all-MiniLM-L6-v2"
QUESTION = "What is the capital of France?"
CAPITALS = [
    "Paris is the capital of France.",
    "Berlin is not. PARIS is nice, naïve and 日本語 👩‍👩‍👧.",
]
LONG = "Berlin is old. " * 130 + "Paris is the capital."  # in the second of two windows
SHARED = "Berlin is old. " * 85 + "Paris is the capital. " + "Berlin is old. " * 40  # in both


@pytest.fixture(scope="module")
def model():
    """MiniLM's encoder, one layer of it changed, and a random decoder that points."""
    torch.manual_seed(0)
    made = warm_start(Seq2SeqTransformer(minilm_config(**POINTING)))
    with torch.no_grad():
        for name, tensor in made.named_parameters():
            if tensor.dim() > 1 and name.startswith(("decoder.", "output_projection.")):
                tensor.normal_(0, 0.08)
        made.encoder.layers[0].self_attention.wq.weight *= 1.01
    return made.eval()


@pytest.fixture(scope="module")
def pointer(model, tmp_path_factory):
    """Its compact folder."""
    folder = tmp_path_factory.mktemp("pointer")
    model.save_pretrained(folder, base=BASE)
    return folder


@pytest.fixture(scope="module")
def reader(pointer):
    return open_generator(str(pointer), dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def tokenizer():
    return plain(Tokenizer.from_file(str(find_model(BASE).path / "tokenizer.json")))


@pytest.fixture
def changed(pointer, tmp_path):
    """A copy of a folder with files of other content; a dict changes fields, None removes."""

    def change(files, folder=pointer):
        copy = shutil.copytree(folder, tmp_path / "changed")
        for name, content in files.items():
            if isinstance(content, dict):
                content = json.dumps({**json.loads((copy / name).read_bytes()), **content})
            (copy / name).unlink(missing_ok=True)
            if content is not None:
                (copy / name).write_text(content)
        return str(copy)

    return change


@pytest.mark.parametrize("passages", [CAPITALS, ["", *CAPITALS, ""], [LONG, CAPITALS[1]], [SHARED]])
def test_an_answer_is_the_likeliest_text_wherever_it_stands(reader, pointer, tokenizer, passages):
    rows = read_passages(tokenizer, QUESTION, passages, readers.ROW_LENGTH)
    (spans,) = find_spans(Seq2SeqTransformer.from_pretrained(pointer), *stack_rows([rows]))
    chances, places = {}, {}
    for span in spans:
        place = Span(*rows.characters(span.row, span.first, span.last))
        text = passages[place.passage][place.start : place.end].casefold()
        chances[text] = chances.get(text, 0) + span.probability
        places.setdefault(text, []).append(place)
    best = max(chances, key=chances.get)
    (finding,) = reader.read([QUESTION], [passages])
    assert finding.spans == list(dict.fromkeys(places[best]))
    assert finding.confidence == pytest.approx(chances[best], rel=1e-3)
    assert best == "paris"  # with these weights; so the cases are what they are for
    assert {place.passage for place in finding.spans} == {n for n, t in enumerate(passages) if t}
    assert len(chances) > 1


def test_a_reader_says_the_same_every_time_and_to_every_question_alone(reader, pointer):
    questions, passages = [QUESTION, "who?", "?" * 999], [CAPITALS, CAPITALS[::-1], [CAPITALS[1]]]
    found = reader.read(questions, passages)
    assert found == open_generator(str(pointer), dtype="float32").read(questions, passages)
    alone = [reader.read([q], [p])[0] for q, p in zip(questions, passages, strict=True)]
    assert found == alone
    for finding, texts in zip(found, passages, strict=True):
        assert all(0 <= s.start < s.end <= len(texts[s.passage]) for s in finding.spans)


def test_what_lies_behind_the_most_tokens_is_not_read(reader, monkeypatch):
    monkeypatch.setattr(readers, "MOST_TOKENS", 50)
    first = "It rains here. " * 8
    assert reader.read([QUESTION], [[first, *CAPITALS]]) == reader.read([QUESTION], [[first]])
    (finding,) = reader.read([QUESTION], [[LONG]])
    assert LONG[finding.spans[0].start : finding.spans[0].end] != "Paris"  # of another window


@pytest.mark.parametrize("passages", [[], [""], ["", " \n", "\x00", "\u0301"]], ids=ascii)
def test_where_nothing_can_be_read_nothing_is_found(reader, passages):
    assert reader.read([QUESTION, "who?"], [passages, ["me"]]) == [
        None,
        Finding([Span(0, 0, 2)], pytest.approx(0.5, abs=0.5)),
    ]


def test_names_of_special_tokens_part_no_rows(reader, tokenizer):
    question, passage = "[SEP] who [CLS]", "one [SEP] two [CLS] three [PAD][MASK] [SEP]"
    rows = read_passages(tokenizer, question, [passage, passage], readers.ROW_LENGTH)
    for row in rows.rows:
        special = [place for place, token in enumerate(row) if token in (0, 101, 102, 103)]
        assert special == [0, rows.begins[0] - 1, len(row) - 1]
    text = "".join(passage[a:b] for a, b in rows.offsets[0])
    assert text == passage.replace(" ", "")


@pytest.mark.parametrize(
    "calibration",
    [{"slope": 0.5, "offset": -1.0, "threshold": 0.25}, {"threshold": 0.9}, {"slope": -2}],
)
def test_a_calibration_turns_probabilities_into_confidences(reader, changed, calibration):
    calibrated = open_generator(
        changed({"answering.json": json.dumps(calibration)}), dtype="float32"
    )
    assert (reader.threshold, calibrated.threshold) == (0.5, calibration.get("threshold", 0.5))
    (before,), (after,) = (each.read([QUESTION], [CAPITALS]) for each in (reader, calibrated))
    logit = math.log(before.confidence / (1 - before.confidence))
    logit = calibration.get("slope", 1) * logit + calibration.get("offset", 0)
    assert after.confidence == pytest.approx(1 / (1 + math.exp(-logit)))
    assert after.spans == before.spans


def test_a_compact_folder_holds_its_own_weights_within_the_rounding(model, pointer):
    loaded = Seq2SeqTransformer.from_pretrained(pointer).state_dict()
    stored = load_file(pointer / "model.safetensors")
    assert (pointer / "model.safetensors").stat().st_size < 3_000_000
    rounded = []
    for name, tensor in model.state_dict().items():
        if name not in stored:  # the base's
            assert torch.equal(loaded[name], tensor), name
        elif stored[name].dtype == torch.int8:
            rounded.append(name)
            step = tensor.abs().amax(dim=1, keepdim=True) / 127
            assert ((loaded[name] - tensor).abs() <= step).all(), name
            assert not torch.equal(loaded[name], tensor)
        else:
            assert torch.equal(loaded[name], tensor.half().float()), name
    assert "encoder.layers.0.self_attention.wq.weight" in rounded
    assert not {name for name in stored if "embedding" in name}


@pytest.fixture(scope="module")
def t5(tmp_path_factory):
    """A random T5, its tokenizer (no marker in a text is a token) and their folder."""
    torch.manual_seed(1)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    trainer = trainers.BpeTrainer(special_tokens=[*names.values()], show_progress=False)
    texts = [INSTRUCTION, QUESTION, *CAPITALS, "</s> <pad> < s / p a d > [1234567890]"]
    tokenizer.train_from_iterator(texts, trainer)
    ending = {"single": "$A </s>", "special_tokens": [("</s>", 1)]}
    tokenizer.post_processor = processors.TemplateProcessing(**ending)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 1, "num_heads": 4}
    sizes |= {"vocab_size": tokenizer.get_vocab_size(), "n_positions": 128}
    model = T5ForConditionalGeneration(T5Config(**sizes, decoder_start_token_id=0))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.5)
    folder = tmp_path_factory.mktemp("t5")
    model.eval().save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return model, plain(tokenizer), str(folder)


PROMPTS = ["", "Paris", "is </s> the <pad> end </s>", *CAPITALS, "the capital of " * 200]


def test_a_prompt_is_answered_as_transformers_answers_it_greedily(t5):
    model, tokenizer, folder = t5
    generator = open_generator(folder, dtype="float32")
    written = generator.generate(PROMPTS)
    for prompt, text in zip(PROMPTS, written, strict=True):
        ids = tokenizer.encode(prompt).ids
        assert generator.count_tokens(prompt) == len(ids)
        source = torch.tensor([ids[: generator.room]])
        expected = model.generate(source, do_sample=False, max_new_tokens=64)[0]
        assert text == tokenizer.decode(expected.tolist(), skip_special_tokens=True)
        assert "".join(generator.stream(prompt)) == text
    assert generator.room == 128 < generator.count_tokens(PROMPTS[-1])
    assert len(set(written)) > 3


def test_a_prompt_is_made_to_fit_the_model(t5):
    generator = open_generator(t5[2])
    prompt = make_prompt(generator, QUESTION, [LONG, LONG])
    assert 100 < generator.count_tokens(prompt) <= generator.room


OTHER = {"base": {"name": BASE, "sha256": "0" * 64}}
POINTER_ERRORS = [
    ({"config.json": None}, {}, "config.json"),
    ({"config.json": "{"}, {}, "line 1 column 2"),
    ({"config.json": OTHER}, {}, f"was made from {BASE} with sha256 000000000000…, but the {BASE}"),
    ({"model.safetensors": "x" * 99}, {}, "model.safetensors is damaged: "),
    ({"model.safetensors": None}, {}, "holds no model.safetensors"),
    ({"tokenizer.json": "{"}, {}, "line 1 column 1"),
    ({"answering.json": "{"}, {}, "line 1 column 2"),
    ({}, {"dtype": "float64"}, "unknown precision 'float64'; known: float32, bfloat16, int8"),
    ({}, {"device": "tpu"}, "unknown device 'tpu'; known: auto, cpu, cuda, mps"),
]
T5_ERRORS = [
    ({"model.safetensors": "x" * 99}, {}, "model.safetensors is damaged: "),
    ({"tokenizer.json": None}, {}, "tokenizer"),
    ({"tokenizer.json": "{"}, {}, "line 1 column 2"),
]


@pytest.mark.parametrize(
    ("kind", "files", "how", "message"),
    [("pointer", *each) for each in POINTER_ERRORS] + [("t5", *each) for each in T5_ERRORS],
    ids=lambda value: str(value)[:40],
)
def test_what_cannot_be_opened_is_told_in_one_line(kind, files, how, message, pointer, t5, changed):
    folder = changed(files, {"pointer": pointer, "t5": t5[2]}[kind])
    with pytest.raises(ModelError) as caught:
        open_generator(folder, **how)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"generator '{folder}': ")
    assert len(str(caught.value).splitlines()) == 1
