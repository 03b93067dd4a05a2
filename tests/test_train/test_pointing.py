"""Answers as places of passages, and a generator that learns to point at them."""

import random

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, T5Config

from miniformer.config.model_config import TransformerConfig
from miniformer.model.pointer import NOWHERE
from miniformer.model.pretrained import minilm_config, warm_start
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.train.collate import IGNORED, collate_passages
from miniformer.train.module import MiniFormerLitModule
from miniformer.train.pointing import point_out, pointing_example, pointing_loss
from miniformer.train.records import Record
from miniformer.train.tasks import Reading
from miniformer.train.train_config import POINTING, GeneratorConfig
from miniformer.train.trainer import train

DECODER = {"n_layers": 1, "n_heads": 2, "d_ff": 48, "max_seq_len": 2}
FRUIT = ("apple", "pear", "plum", "fig", "grape", "lemon", "peach", "cherry")


@pytest.fixture(scope="module")
def reading(small_encoder):
    return Reading(AutoTokenizer.from_pretrained(small_encoder), 128, "seq2seq")


@pytest.fixture
def pointing_config(small_encoder, tmp_path):
    def make(**changes):
        settings = {
            "base": str(small_encoder),
            "model_config": {"dropout": 0.0, "decoder": DECODER},
            "work_dir": str(tmp_path / "runs"),
            "gpus": 0,
            "precision": "32",
            "early_stopping_patience": 0,
            **{"max_length": 128, "lr": 8e-3, "warmup_steps": 10, "max_epochs": 8},
        }
        return GeneratorConfig(**(settings | changes))

    return make


def example_of(reading, **fields):
    record = Record({"question": "When did Ada found the club?", **fields})
    record.where = "qa.jsonl, line 3"
    return pointing_example(record, reading)


FILLER = "Nothing of note was ever written about these years by anybody who lived there. " * 2
BLUE = ["blue", "dark blue sky", "dark blue"]
SQUAD = {"text": ["1990", "In 1990"], "answer_start": [3, 0]}


@pytest.mark.parametrize(
    ("fields", "passage", "before", "gold"),
    [
        ({"passages": [f"1990 {FILLER} Ada had a club in 1990.", "1990"]}, 0, "club in ", "1990"),
        ({"passages": ["In 1990", {"text": "Ada found 1990"}]}, 1, "found ", "1990"),
        ({"context": "a dark blue sky", "answers": BLUE}, 0, "a ", "dark blue"),
        ({"context": "a blue sky", "answers": BLUE}, 0, "a ", "blue"),
        ({"context": "In 1990", "answers": SQUAD}, 0, "In ", "1990"),
        ({"context": "In 1990", "answers": "1990"}, 0, "In ", "1990"),
        ({"context": "one cafe\u0301", "answers": "cafe\u0301"}, 0, "one ", "cafe\u0301"),
    ],
)
def test_an_answer_is_the_likeliest_of_its_places(reading, fields, passage, before, gold):
    example = example_of(reading, **{"answers": ["1990"], **fields})
    own, start, end = example.source.characters(*example.target)
    text = example.source.texts[own]
    assert (own, text[start:end]) == (passage, gold)
    assert text[:start].endswith(before)
    golds = fields.get("answers", ["1990"])
    golds = golds["text"] if golds is SQUAD else golds
    assert example.golds == ((golds,) if isinstance(golds, str) else tuple(golds))


@pytest.mark.parametrize("answers", [[], "", [""], {"text": [], "answer_start": []}], ids=repr)
def test_without_answers_there_is_nothing_to_point_at(reading, answers):
    example = example_of(reading, context="Ada did.", answers=answers)
    assert (example.target, example.golds) == (None, ("",))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"context": "Ada did.", "answers": ["Bob"]}, "no passage has the answer 'Bob' in it"),
        ({"context": "Ada did."}, "no field 'answers'; it has question, context"),
        ({"answers": ["Ada"]}, "no field 'passages' or 'context'; it has question, answers"),
        ({"question": " ", "context": "Ada", "answers": ["Ada"]}, "'question' must be a text"),
        ({"passages": [], "answers": ["Ada"]}, "expected a passage; there is none"),
        ({"passages": [""], "answers": ["Ada"]}, "expected a passage; there is none"),
        ({"context": "5", "answers": [5]}, "'answers' must be a text or a list of texts"),
        ({"context": "5", "answers": 5}, "'answers' must be a text or a list of texts"),
        ({"context": 5, "answers": ["5"]}, "'context' must be a text or a list of texts"),
        ({"passages": [None], "answers": ["None"]}, "every passage must be a text or have one as"),
    ],
)
def test_a_record_without_what_it_takes_is_named(reading, fields, message):
    with pytest.raises(ValueError, match=f"^qa.jsonl, line 3: .*{message}"):
        example_of(reading, **fields)


def test_targets_of_a_batch_point_at_the_tokens_of_the_answers(reading):
    rows = [
        (["nothing", "word " * 150 + "the unbelievable end"], "unbelievable"),
        (["Ada did it."], "Ada did"),
        (["nobody knows", "when"], None),
    ]
    examples = [example_of(reading, passages=p, answers=[a] if a else []) for p, a in rows]
    batch = collate_passages(examples, pad_token_id=7)
    length = batch.source.size(2)
    assert (batch.source[batch.mask == 0] == 7).all()
    for index, (passages, answer) in enumerate(rows):
        if answer is None:
            assert batch.target[index].tolist() == [NOWHERE, IGNORED]
            continue
        first, last = (batch.target[index] - 1).tolist()
        assert batch.windows[index].flatten()[first : last + 1].all()
        tokens = batch.source[index].flatten()[first : last + 1].tolist()
        assert tokens == reading.tokenizer(answer, add_special_tokens=False).input_ids
        row = first // length
        passage, start, end = batch.read[index].characters(row, first % length, last % length)
        assert passages[passage][start:end] == answer


def test_the_loss_asks_for_no_second_place_where_there_is_none():
    torch.manual_seed(0)
    predicted, target = torch.randn(2, 2, 9), torch.tensor([[3, 5], [NOWHERE, IGNORED]])
    asked = predicted[[0, 0, 1], [0, 1, 0]], torch.tensor([3, 5, NOWHERE])
    for smoothing in (0.0, 0.1):
        torch.testing.assert_close(
            pointing_loss(predicted, target, smoothing), F.cross_entropy(*asked)
        )


def test_a_learned_span_is_written_and_a_learned_nowhere_is_not(pointing_config, reading):
    torch.manual_seed(0)
    module = MiniFormerLitModule(pointing_config(freeze_embeddings=False))
    examples = [
        example_of(reading, passages=["Bob did it", "Ada did it in May"], answers=["Ada did"]),
        example_of(reading, passages=["nobody knows"], answers=[]),
    ]
    batch = collate_passages(examples, 0)
    optimizer = torch.optim.Adam(module.model.parameters(), lr=0.01)
    for _ in range(30):
        optimizer.zero_grad()
        pointing_loss(module.predict(batch), batch.target).backward()
        optimizer.step()
    assert point_out(module.model.eval(), batch, reading.tokenizer) == ["Ada did", ""]


def test_the_base_decides_what_is_learned(small_encoder, tmp_path):
    T5Config(vocab_size=50, d_model=16, num_layers=1).save_pretrained(tmp_path / "t5")
    ours = TransformerConfig(vocab_size=50, **{**POINTING, "decoder": {}})
    Seq2SeqTransformer(ours).save_pretrained(tmp_path / "ours")
    made = GeneratorConfig()
    assert (made.task, made.model_config) == ("pointing", POINTING)
    made = GeneratorConfig(base=str(small_encoder), model_config={"decoder": DECODER, "dropout": 0})
    assert made.model_config == {**POINTING, "decoder": DECODER, "dropout": 0}
    for name, task in (("t5", "seq2seq"), ("ours", "pointing")):
        made = GeneratorConfig(base=str(tmp_path / name))
        assert (made.task, made.model_config) == (task, {})
    made = GeneratorConfig(base=str(small_encoder), task="seq2seq")
    assert (made.task, made.model_config) == ("seq2seq", {})


EMBEDDINGS = {
    "token_embedding.weight",
    "encoder.position.table.weight",
    *(f"encoder.input.{name}" for name in ("segment.weight", "norm.weight", "norm.bias")),
}


@pytest.mark.parametrize(("frozen", "names"), [(True, EMBEDDINGS), (False, set())])
def test_embeddings_alone_are_frozen(pointing_config, frozen, names):
    model = MiniFormerLitModule(pointing_config(freeze_embeddings=frozen)).model
    assert {n for n, p in model.named_parameters() if not p.requires_grad} == names


def test_a_seed_draws_the_same_fresh_decoder(pointing_config):
    one, two = (MiniFormerLitModule(pointing_config()).model.state_dict() for _ in range(2))
    assert all(torch.equal(tensor, two[name]) for name, tensor in one.items())


def test_a_generator_learns_to_point_at_what_is_asked_for(pointing_config, write):
    """Two passages, a number in each: what stands before it tells which is the code."""
    chance, files = random.Random(0), {}
    for split, count in (("train", 200), ("val", 40)):
        rows = []
        for _ in range(count):
            (before, behind), (code, size) = chance.sample(FRUIT, 2), chance.sample(range(999), 2)
            numbers = {"code": code, "size": size}
            passages = [f"{before} {what} : {n} {behind}" for what, n in numbers.items()]
            chance.shuffle(passages)
            rows.append({"question": "code?", "passages": passages, "answers": [str(code)]})
        files[f"{split}_path"] = str(write(f"{split}.jsonl", rows))
    torch.manual_seed(0)
    config = pointing_config(**files, checkpoint_metric="val_exact_match")
    assert train(config)["val_exact_match"] > 0.7  # 0.5 by any number
    best = Seq2SeqTransformer.from_pretrained(config.folder / "checkpoints" / "best_model")
    assert best.config.head == "pointer"
    base = Seq2SeqTransformer(minilm_config(config.base, **config.model_config))
    before = warm_start(base, config.base).state_dict()
    changed = {n for n, t in best.state_dict().items() if n in before and not before[n].equal(t)}
    assert changed.isdisjoint(EMBEDDINGS)
    assert {n for n, t in before.items() if "encoder.layers" in n and t.dim() == 2} <= changed
