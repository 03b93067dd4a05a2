"""Judged collections from folder to figures, in Python and by ``retrieval evaluate``."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from retrieval import CorpusError, Hit, Qrel, Searcher, build_index
from retrieval.evaluation import (
    Evaluation,
    evaluate,
    evaluate_run,
    read_beir,
    search_all,
    write_per_query,
)
from retrieval.metrics import means, ranked
from retrieval.runs import read_run, write_qrels, write_run
from retrieval.significance import compare, estimate_mean

FRUIT = ("apple", "pear", "plum", "fig", "grape", "lemon", "peach", "cherry", "melon", "quince")


def write_beir(folder, qrels="qrels.tsv"):
    rows = [
        {"_id": f"d{i}", "title": word, "text": f"a {word} tree"} for i, word in enumerate(FRUIT)
    ]
    rows.append({"_id": "empty", "title": "", "text": ""})
    queries = [{"_id": f"q{i}", "text": f"{FRUIT[i]} {FRUIT[i - 1]}"} for i in range(6)]
    queries.append({"_id": "unjudged", "text": "what"})
    judgments = [f"q{i}\td{i}\t2\nq{i}\td{(i + i % 2) % 10}\t1\n" for i in range(5)]
    folder.mkdir(exist_ok=True)
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "queries.jsonl").write_text("".join(json.dumps(each) + "\n" for each in queries))
    (folder / qrels).parent.mkdir(exist_ok=True)
    header = "query-id\tcorpus-id\tscore\n"
    (folder / qrels).write_text(header + "".join(judgments) + "q5\td1\t0\n")
    return folder


@pytest.fixture
def beir(tmp_path):
    """Questions of two fruits each; q5 has nothing relevant."""
    return write_beir(tmp_path / "beir")


@pytest.fixture
def over(beir, tmp_path, bag):
    """A searcher over the folder's corpus."""
    build_index(beir / "corpus.jsonl", tmp_path / "index", encoder=bag)
    return Searcher(tmp_path / "index", encoder=bag)


@pytest.mark.parametrize("qrels", ["qrels.tsv", "qrels/test.tsv"])
def test_a_beir_folder_is_read(tmp_path, qrels):
    judged = read_beir(write_beir(tmp_path / "beir", qrels))
    assert judged.queries["q1"] == "pear apple"
    assert len(judged.queries) == 7
    assert judged.qrels[:2] == [Qrel("q0", "d0", 2), Qrel("q0", "d0", 1)]
    assert judged.qrels[-1] == Qrel("q5", "d1", 0)


def test_judgments_may_come_from_another_file(beir, tmp_path):
    write_qrels(tmp_path / "other.trec", [Qrel("q5", "d3", 1)])
    assert read_beir(beir, qrels=tmp_path / "other.trec").qrels == [Qrel("q5", "d3", 1)]
    with pytest.raises(CorpusError, match=r"no judgments; expected one of .*nowhere"):
        read_beir(beir, qrels=tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels.tsv"])
def test_a_missing_part_of_a_beir_folder_is_named(beir, name):
    (beir / name).unlink()
    with pytest.raises(CorpusError, match=name):
        read_beir(beir)


@pytest.mark.parametrize("group", [True, False])
def test_passages_are_judged_as_their_documents(beir, tmp_path, bag_class, group):
    bag = bag_class(max_length=4)
    corpus = [{"_id": f"d{n}", "text": f"{word} " * 9} for n, word in enumerate(FRUIT)]
    (beir / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    build_index(beir / "corpus.jsonl", tmp_path / "cut", encoder=bag, passages="window")
    with Searcher(tmp_path / "cut", encoder=bag) as searcher:
        assert all("#" in document.id for document in searcher.documents())
        found = evaluate(searcher, beir, ["recall@10"], group=group)
    assert set(found.run["q0"]) == {f"d{n}" for n in range(10)}
    assert found["recall@10"].value == 1


def test_an_evaluation_is_the_metrics_of_what_the_searcher_ranks(beir, over):
    metrics = ["ndcg@10", "mrr@10", "recall@1", "judged@5"]
    found = evaluate(over, beir, metrics)
    judged = read_beir(beir)
    rankings = {
        query: [hit.id for hit in over.search(text, 100)] for query, text in judged.queries.items()
    }
    expected = means(rankings, judged.qrels, metrics)
    assert {name: each.value for name, each in found.metrics.items()} == pytest.approx(expected)
    assert 0 < found["recall@1"].value < 1
    assert found.questions == 5
    assert found.values["ndcg@10"].keys() == {f"q{i}" for i in range(5)}
    assert found["mrr@10"] == estimate_mean(list(found.values["mrr@10"].values()))
    assert found.run.keys() == {f"q{i}" for i in range(6)}  # nobody asks what nobody judged
    assert evaluate(over, judged, metrics) == found


def test_the_metrics_when_none_are_named(beir, over):
    assert list(evaluate(over, beir).metrics) == ["ndcg@10", "recall@100"]


class Recorder:
    """A searcher that finds nothing and remembers how it was asked."""

    def __init__(self):
        self.asked = []

    def search_batch(self, questions, k, **how):
        self.asked.append((list(questions), k, how))
        return [[] for _ in questions]


def test_a_search_is_as_deep_as_the_metrics_look_and_takes_its_options(beir):
    for metrics, depth in ((["ndcg@10"], 100), (["recall@250", "mrr@5"], 250)):
        evaluate(recorder := Recorder(), beir, metrics, where="x = 1")
        ((_, k, how),) = recorder.asked
        assert (k, how) == (depth, {"where": "x = 1"})


def test_many_questions_are_asked_in_parts_and_none_is_lost():
    queries = {f"q{n}": f"text {n}" for n in range(600)}
    run = search_all(recorder := Recorder(), queries, 3)
    assert list(run) == list(queries)
    assert [text for asked, _, _ in recorder.asked for text in asked] == list(queries.values())
    assert max(len(asked) for asked, _, _ in recorder.asked) <= 256


class Fixed:
    """A searcher that always has these hits."""

    def __init__(self, *hits):
        self.hits = [Hit(n, i, score, "", "", {}) for n, (i, score) in enumerate(hits, start=1)]

    def search_batch(self, questions, k):
        return [self.hits for _ in questions]


def test_the_rank_is_the_order_of_a_run_whatever_the_scores():
    given = [("b", 0.9), ("a", 0.9), ("z", 0.9), ("c", 0.95), ("d", -0.5), ("a", -0.6), ("e", -1.0)]
    (scores,) = search_all(Fixed(*given), {"q": "?"}).values()
    assert ranked(scores) == list("bazcde")
    assert [scores[i] for i in "bde"] == [float(np.float32(0.9)), -0.5, -1.0]
    assert [scores[i] for i in "bazc"] == pytest.approx([0.9] * 4, abs=1e-6)


def test_what_belongs_not_together_is_told(beir, caplog):
    with caplog.at_level(logging.WARNING):
        evaluate(Fixed(("elsewhere", 1.0)), beir)
    assert "no document of the run has a judgment" in caplog.text
    (beir / "queries.jsonl").write_text('{"_id": "q1", "text": "pear"}\n')
    caplog.clear()
    found = evaluate(Fixed(("d1", 1.0)), beir, ["precision@1"])
    assert "5 judged questions have no text, q0 among them; they count 0" in caplog.text
    assert found["precision@1"].value == 1 / 5


def test_judgments_that_find_nothing_relevant_are_an_error():
    with pytest.raises(CorpusError, match="none of 1 judgments calls a document relevant"):
        evaluate_run({}, [Qrel("q", "d", 0)])


def test_a_written_run_is_worth_the_same(beir, over, tmp_path):
    found = evaluate(over, beir)
    write_run(tmp_path / "run", found.run)
    again = evaluate_run(tmp_path / "run", beir / "qrels.tsv")
    assert again == found
    assert {q: ranked(s) for q, s in again.run.items()} == {
        q: list(s) for q, s in found.run.items()
    }


QRELS = [Qrel("a", "x", 1), Qrel("b", "x", 1), Qrel("b", "y", 1)]
OURS = {"a": {"x": 0.5}, "b": {"x": 0.5, "y": 0.25}}
OTHER = {"a": {"y": 0.5, "x": 0.25}, "b": {"y": 0.5, "x": 0.25}}


def test_two_evaluations_are_compared_by_each_metric():
    ours, other = (evaluate_run(run, QRELS, ["mrr@2", "recall@1"]) for run in (OURS, OTHER))
    compared = ours.compare(other, seed=4)
    assert compared["mrr@2"] == compare({"a": 1, "b": 1}, {"a": 0.5, "b": 1}, seed=4)
    assert compared["recall@1"] == compare({"a": 1, "b": 0.5}, {"a": 0, "b": 0.5}, seed=4)
    assert (compared["mrr@2"].wins, compared["mrr@2"].ties) == (1, 1)
    many = [Qrel(f"q{n}", f"d{n % 7}", 1) for n in range(30)]
    at_random = [
        {f"q{n}": {f"d{n}": s for n, s in enumerate(draw)} for n, draw in enumerate(scores)}
        for scores in np.random.default_rng(0).random((2, 30, 7))
    ]
    ours, other = (evaluate_run(run, many, ["mrr@7"], seed=4) for run in at_random)
    values = [each.values["mrr@7"] for each in (ours, other)]
    assert ours["mrr@7"] == estimate_mean(list(values[0].values()), seed=4)
    assert ours.compare(other, seed=4)["mrr@7"] == compare(*values, seed=4)
    ours, other = (evaluate_run(run, QRELS, ["mrr@2", "recall@1"]) for run in (OURS, OTHER))
    with pytest.raises(ValueError, match=r"the metrics differ: mrr@2, recall@1 and mrr@2"):
        ours.compare(evaluate_run(OTHER, QRELS, ["mrr@2"]))


def test_the_values_of_each_question_are_written(tmp_path):
    ours, other = (evaluate_run(run, QRELS, ["mrr@2", "recall@1"]) for run in (OURS, OTHER))
    write_per_query(tmp_path / "alone", ours)
    write_per_query(tmp_path / "both", ours, other)
    alone, both = (
        [json.loads(line) for line in (tmp_path / name).read_text().splitlines()]
        for name in ("alone", "both")
    )
    assert alone == [
        {"query": "a", "mrr@2": 1, "recall@1": 1},
        {"query": "b", "mrr@2": 1, "recall@1": 0.5},
    ]
    assert [each["query"] for each in both] == ["a", "b"]
    assert both[0]["mrr@2"] == {"ours": 1, "other": 0.5, "difference": 0.5}


@pytest.fixture
def shell(cli, beir):
    """``retrieval ...`` in a folder with ``beir`` and its index."""
    assert cli("index", "beir/corpus.jsonl", "-i", "fruit").code == 0
    return cli


def asdict(estimate):
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def test_the_verb_says_what_the_library_finds(shell, bag):
    done = shell("evaluate", "beir", "-i", "fruit", "--metric", "ndcg@3", "--metric", "map@10")
    assert done.code == 0, done.err
    found = evaluate(Searcher("fruit", encoder=bag), "beir", ["ndcg@3", "map@10"])
    assert json.loads(done.out) == {
        "questions": 5,
        "metrics": {name: asdict(each) for name, each in found.metrics.items()},
    }


def test_the_verb_takes_the_index_of_the_environment(shell, monkeypatch):
    named = shell("evaluate", "beir", "-i", "fruit")
    assert list(json.loads(named.out)["metrics"]) == ["ndcg@10", "recall@100"]
    monkeypatch.setenv("RETRIEVAL_INDEX", "fruit")
    assert shell("evaluate", "beir") == named


def test_the_verb_writes_a_run_and_compares_with_it(shell):
    first = shell("evaluate", "beir", "-i", "fruit", "--run", "out.trec")
    run = read_run("out.trec")
    assert run.keys() == {f"q{i}" for i in range(6)}
    worse = {query: {doc: -score for doc, score in scores.items()} for query, scores in run.items()}
    write_run("worse.trec", worse)
    arguments = ("--compare", "worse.trec", "--per-query", "each.jsonl")
    done = shell("evaluate", "beir", "-i", "fruit", *arguments)
    record = json.loads(done.out)
    compared = record.pop("compare")
    assert record == json.loads(first.out)
    ours, other = (evaluate_run(name, "beir/qrels.tsv") for name in ("out.trec", "worse.trec"))
    for name, expected in ours.compare(other).items():
        found = compared[name]
        assert found.pop("difference") == asdict(expected.difference)
        assert found == {
            name: getattr(expected, name) for name in ("other", "p", "wins", "losses", "ties")
        }
    assert compared["ndcg@10"]["wins"] == 5
    write_per_query("expected.jsonl", ours, other)
    assert Path("each.jsonl").read_text() == Path("expected.jsonl").read_text()
    same = json.loads(shell("evaluate", "beir", "-i", "fruit", "--compare", "out.trec").out)
    nothing = {"value": 0, "low": 0, "high": 0}
    ndcg = same["compare"]["ndcg@10"]
    assert (ndcg["difference"], ndcg["p"], ndcg["ties"]) == (nothing, 1, 5)


def test_the_verb_takes_other_judgments(shell):
    write_qrels("other.trec", [Qrel("q5", "d5", 1)])
    done = shell("evaluate", "beir", "-i", "fruit", "--qrels", "other.trec")
    assert json.loads(done.out)["questions"] == 1


def test_the_verb_filters_what_may_be_found(shell, bag):
    done = shell("evaluate", "beir", "-i", "fruit", "--where", "id = 'd1'", "--min-score", "0.1")
    run = {f"q{n}": {"d1": 1.0} if n in (1, 2) else {} for n in range(5)}  # theirs has it in it
    found = evaluate_run(run, "beir/qrels.tsv")
    assert json.loads(done.out)["metrics"]["ndcg@10"] == asdict(found["ndcg@10"])
    assert json.loads(shell("evaluate", "beir", "-i", "fruit").out) != json.loads(done.out)


def test_a_person_reads_a_table(shell, monkeypatch):
    monkeypatch.setattr("retrieval.cli.output.wants_json", lambda as_json: as_json)
    monkeypatch.setenv("COLUMNS", "200")
    shell("evaluate", "beir", "-i", "fruit", "--run", "out.trec", "--metric", "mrr@5")
    done = shell("evaluate", "beir", "-i", "fruit", "--metric", "mrr@5", "--compare", "out.trec")
    found = evaluate_run("out.trec", "beir/qrels.tsv", ["mrr@5"])["mrr@5"]
    caption, header, row = (
        " ".join(line.split()) for line in done.out.splitlines() if "─" not in line and line.strip()
    )
    assert caption == "5 questions"
    columns = "metric mean 95 % interval out.trec difference 95 % interval p won lost tied"
    assert header == columns
    ours = f"mrr@5 {found.value:.4f} {found.low:.4f} … {found.high:.4f}"
    assert row == f"{ours} {found.value:.4f} +0.0000 +0.0000 … +0.0000 1.0000 0 0 5"


STS = "score\tsentence1\tsentence2\n5\ta fig\tfig\n0\ta plum\tone pear\n3\ta lime\tred lime\n"


def test_the_verb_correlates_pairs_with_a_model_named_or_an_indexs(shell, bag):
    from retrieval.sts import evaluate_pairs

    Path("sts.tsv").write_text(STS)
    expected = {name: asdict(each) for name, each in evaluate_pairs(bag, "sts.tsv").items()}
    for arguments, model in (
        (("-i", "fruit"), "NamedBag"),
        (("--model", "mine"), "mine"),
        ((), "all-MiniLM-L6-v2"),
    ):
        done = shell("evaluate", "sts.tsv", *arguments)
        assert done.code == 0, done.err
        assert json.loads(done.out) == {"pairs": 3, "model": model, "metrics": expected}


def test_a_person_reads_correlations(shell, monkeypatch):
    monkeypatch.setattr("retrieval.cli.output.wants_json", lambda as_json: as_json)
    Path("sts.tsv").write_text(STS)
    done = shell("evaluate", "sts.tsv", "-i", "fruit")
    assert "3 pairs, NamedBag" in done.out
    assert "spearman" in done.out
    assert "95 % interval" in done.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "give a BEIR folder, a file of scored pairs, or --answers FILE"),
        (("beir", "--answers", "qa.jsonl"), 2, "give a BEIR folder"),
        (("nowhere",), 2, "'nowhere' does not exist"),
        (("beir", "--metric", "best@10"), 2, "unknown metric 'best@10'; known: ndcg@k, mrr@k"),
        (("beir", "--top-k", "3"), 2, "--top-k does not go with a BEIR folder"),
        (("beir", "-k", "3"), 2, "--top-k does not go with a BEIR folder"),
        (("beir", "--model", "x"), 2, "--model does not go with a BEIR folder"),
        (("sts.tsv", "--exact"), 2, "--exact does not go with a file of scored pairs"),
        (("sts.tsv", "--run", "x"), 2, "--run does not go with a file of scored pairs"),
        (("sts.tsv", "--model", "x", "-i", "fruit"), 2, "give one of them"),
        (("--answers", "qa.jsonl", "--metric", "ndcg@1"), 2, "--metric does not go with --answers"),
        (("beir", "--run", "a", "--compare", "a"), 2, "a is named twice"),
        (("beir", "--run", "a", "--per-query", "./a"), 2, "a is named twice"),
        (("beir", "--run", "no/out.trec"), 2, "no/out.trec: there is no folder no"),
        (("beir", "--compare", "sts.tsv"), 1, "sts.tsv, line 1: expected query, Q0, document"),
        (("beir", "--compare", "absent"), 1, "absent: no such file"),
        (("beir",), 1, "retrieval-index does not exist"),
        (("empty", "-i", "fruit"), 1, "corpus.jsonl: no such file; expected a folder in BEIR's"),
        (("sts.tsv", "-i", "absent"), 1, "absent does not exist"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(shell, arguments, code, message):
    Path("sts.tsv").write_text(STS)
    Path("empty").mkdir()
    done = shell("evaluate", *arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err.splitlines()[-1]


def test_an_evaluation_shows_its_figures_and_not_its_run():
    found = evaluate_run(OURS, QRELS, ["mrr@2"])
    assert isinstance(found, Evaluation)
    assert repr(found) == ("Evaluation(metrics={'mrr@2': Estimate(value=1.0, low=1.0, high=1.0)})")
