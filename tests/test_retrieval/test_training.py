"""What training gets from search, and ``retrieval train`` from end to end with a small encoder."""

import json
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from miniformer.train.pairs import Example
from retrieval import Encoder, Searcher
from retrieval.sts import spearman
from retrieval.training import evaluator, mine_negatives

FRUIT = "apple pear plum fig grape lemon peach cherry melon quince date lime"
WORDS = FRUIT.split()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A random encoder with the real tokenizer."""
    from miniformer.weights import find_model

    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(
        BertConfig(**sizes, intermediate_size=48, max_position_embeddings=32)
    ).save_pretrained(folder)
    real = find_model("all-MiniLM-L6-v2").path
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        shutil.copy(real / name, folder / name)
    return folder


@pytest.fixture
def write(tmp_path):
    def write(name, rows):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


@pytest.fixture
def beir(write, tmp_path):
    """Every word asked for in a sentence of its own."""
    write("fruit/corpus.jsonl", [{"_id": w, "text": f"the {w} is ripe"} for w in WORDS])
    write("fruit/queries.jsonl", [{"_id": f"q{w}", "text": f"{w} tree"} for w in WORDS])
    rows = "".join(f"q{w}\t{w}\t1\n" for w in WORDS)
    (tmp_path / "fruit" / "qrels.tsv").write_text(rows)
    return tmp_path / "fruit"


def test_evaluation_is_a_search_through_an_index(small, beir, write):
    rows = [{"sentence1": a, "sentence2": b, "score": len(a)} for a, b in pairwise(WORDS)]
    scored = write("scored.jsonl", rows)
    alone = evaluator([beir], dtype="float32")(small)
    assert list(alone) == ["ndcg@10", "recall@100"]
    assert 0 < alone["ndcg@10"] <= alone["recall@100"] == 1
    both = evaluator([scored, beir], dtype="float32")(small)
    encoder = Encoder(str(small), dtype="float32", device="cpu")
    vectors = encoder.encode(WORDS)
    cosines = (vectors[:-1] * vectors[1:]).sum(1)
    expected = spearman(cosines, [len(word) for word in WORDS[:-1]])
    assert both["spearman/scored"] == pytest.approx(expected, abs=1e-6)
    assert both["ndcg@10/fruit"] == alone["ndcg@10"]
    assert both["spearman"] == pytest.approx((expected + alone["ndcg@10"]) / 2)


def test_mined_negatives_are_the_nearest_that_are_no_answers(small):
    examples = [Example((f"{w} tree", f"the {w} is ripe")) for w in WORDS]
    examples += [Example(("apple tree", "the pear is ripe"))]  # a question with two answers
    mined = mine_negatives(small, examples, 3)
    encoder = Encoder(str(small))
    queries, positives = (
        encoder.encode(list(dict.fromkeys(e.texts[column] for e in examples))) for column in (0, 1)
    )
    similar = queries @ positives.T
    for row, (before, example) in enumerate(zip(examples[:-1], mined, strict=False)):
        assert example.texts[:2] == before.texts
        known = {e.texts[1] for e in examples if e.texts[0] == before.texts[0]}
        assert known.isdisjoint(example.texts[2:])
        assert len(set(example.texts)) == 5
        limit = 0.95 * similar[row, row]
        for text in example.texts[2:]:
            column = [e.texts[1] for e in examples].index(text)
            allowed = [s for n, s in enumerate(similar[row]) if n != row and s < limit]
            assert len(allowed) < 3 or similar[row, column] < limit + 1e-3


def test_more_negatives_than_passages_is_one_clear_error(small, real_cli, write):
    pairs = write("few.jsonl", [{"query": w, "positive": f"a {w}"} for w in WORDS[:3]])
    done = real_cli("train", "encoder", pairs, "-o", "x", "--base", small, "--hard-negatives", 3)
    assert (done.code, done.err.splitlines()[-1]) == (
        1,
        "retrieval: 3 hard negatives are asked for, but only 2 of 3 passages do not answer "
        "'apple'; bring more passages, or ask for fewer",
    )


def test_train_encoder_and_search_with_it(real_cli, small, beir, write, caplog):
    pairs = write(
        "pairs.jsonl", [{"query": f"{w} tree", "positive": f"the {w} is ripe"} for w in WORDS]
    )
    common = ("--base", small, "--batch-size", 4, "--gpus", 0, "--warmup-steps", 1, "--lr", 3e-3)
    trained = real_cli(
        *("train", "encoder", pairs, "-o", "mine", *common, "--max-epochs", 4, "--eval", beir),
        *("--hard-negatives", 1),
    )
    assert trained.code == 0, trained.err
    results = json.loads(trained.out)
    assert results["ndcg@10"] > results["before_ndcg@10"]
    assert "epoch 1 of 4: " in caplog.text
    indexed = real_cli("index", beir / "corpus.jsonl", "--model", "mine", "-i", "fruit-index")
    assert indexed.code == 0, indexed.err
    found = real_cli("query", "plum tree", "-i", "fruit-index", "-k", 1)
    assert json.loads(found.out)["id"] in WORDS
    again = real_cli("train", "encoder", pairs, "-o", "mine", *common)
    assert (again.code, again.out) == (1, "")
    assert again.err == "retrieval: mine holds a model; choose another folder, or resume its run\n"
    more = real_cli("train", "encoder", pairs, "-o", "mine", *common, "--max-epochs", 5, "--resume")
    assert more.code == 0, more.err
    with Searcher("fruit-index") as searcher, pytest.raises(Exception, match="another model"):
        searcher.search("plum")  # the weights are others now


def test_an_encoder_adapts_to_an_index_without_labels(real_cli, small, write):
    rows = [
        {"id": w, "title": f"the {w}", "text": f"The {w} is ripe now. Eat the {w} today, my dear."}
        for w in WORDS
    ]
    assert real_cli("index", write("c.jsonl", rows), "--model", small, "-i", "index").code == 0
    how = ("train", "encoder", "--from-index", "index", "--gpus", 0, "--lr", 1e-3)
    done = real_cli(*how, "-o", "mine", "--max-epochs", 2, "--batch-size", 4)
    assert done.code == 0, done.err
    made = [*map(json.loads, Path("mine/training/pairs.jsonl").read_text().splitlines())]
    assert len(made) == 2 * len(WORDS)
    assert {"query": "the fig", "positive": rows[WORDS.index("fig")]["text"]} in made
    run = json.loads(Path("mine/training/results.json").read_text())["config"]
    assert (run["base"], run["base_share"], run["batch_size"]) == (str(small), 0.75, 4)
    moved = real_cli("compact", "-i", "index", "--model", "mine")
    assert moved.code == 0, moved.err
    assert real_cli("query", "the plum", "-i", "index").code == 0
    again = real_cli(
        *how, "-o", "mine", "--max-epochs", 3, "--batch-size", 4, "--resume", "--base", small
    )
    assert again.code == 0, again.err
    assert real_cli(*how, "-o", "few", "--pairs", 3).code == 0
    assert len(Path("few/training/pairs.jsonl").read_text().splitlines()) == 3


def test_an_index_without_pairs_teaches_nothing(real_cli, small, write):
    path = write("c.jsonl", [{"id": "a", "text": "too few words"}, {"id": "b", "text": "no"}])
    assert real_cli("index", path, "--model", small).code == 0
    done = real_cli("train", "encoder", "--from-index", "retrieval-index", "-o", "x")
    assert (done.code, done.err) == (
        1,
        "retrieval: retrieval-index: its 2 rows make 0 pairs, two are needed at least; "
        "pairs are made of titles with texts, and of texts of eight words or more\n",
    )
    for sources in ((), ("a.jsonl", "--from-index", "retrieval-index")):
        done = real_cli("train", "encoder", *sources, "-o", "x")
        assert done.code == 2
        assert "give FILES to learn from, or --from-index DIR" in done.err
    assert not Path("x").exists()


def test_train_generator_writes_a_model_folder(real_cli, small, write):
    from miniformer.model.seq2seq_transformer import Seq2SeqTransformer

    rows = [
        {"question": f"what {n}?", "context": f"it is {w}", "answers": [w]}
        for n, w in enumerate(WORDS)
    ]
    path = write("qa.jsonl", rows)
    done = real_cli(
        *("train", "generator", path, "-o", "writer", "--base", small, "--val-path", path),
        *("--max-epochs", 2, "--gpus", 0, "--batch-size", 4, "--warmup-steps", 1),
        *("--model-config", '{"decoder": {"n_layers": 1}, "n_heads": 2}'),
    )
    assert done.code == 0, done.err
    assert json.loads(done.out).keys() >= {"val_f1", "val_exact_match", "val_rouge_l"}
    Seq2SeqTransformer.from_pretrained("writer")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("encoder", "nowhere.jsonl", "-o", "x"), 1, "nowhere.jsonl: no such file"),
        (
            ("encoder", "pairs.csv", "-o", "x"),
            1,
            "unknown ending of pairs.csv '.csv'; known: .jsonl",
        ),
        (("encoder", "pairs.jsonl", "-o", "x", "--lr", "fast"), 2, "'fast' is not a valid float"),
        (("encoder", "pairs.jsonl", "-o", "x", "--loss", "best"), 1, "unknown loss 'best'"),
        (("encoder", "pairs.jsonl", "-o", "x", "--base", "nosuch"), 1, "nosuch"),
        (("encoder", "pairs.jsonl"), 2, "Missing option '-o'"),
        (("generator", "pairs.jsonl", "-o", "x"), 1, "line 1: no field 'passages' or 'context'"),
        (("half", "pairs.jsonl"), 2, "No such command 'half'"),
    ],
)
def test_what_cannot_be_trained_is_one_line(real_cli, write, arguments, code, message, tmp_path):
    write("pairs.jsonl", [{"query": "a", "source": "b", "positive": "c"}])
    (tmp_path / "pairs.csv").write_text("query,positive\na,b\n")
    done = real_cli("train", *arguments)
    assert done.code == code
    assert message in done.err.strip().splitlines()[-1]
    assert not (tmp_path / "x").exists()
