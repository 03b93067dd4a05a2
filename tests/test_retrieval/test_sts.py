"""Pairs of sentences: correlations equal SciPy's, files are read or named."""

import gzip
import json
import re

import numpy as np
import pytest
from scipy import stats

from retrieval import CorpusError
from retrieval.sts import SAMPLES, ScoredPairs, evaluate_pairs, pearson, read_pairs, spearman

PAIRS = [
    ("a red apple", 'the "apple', 4.5),
    ("one pear", "two plums", 0),
    ('"a pear" fell', "a pear", 3.25),
    ("a fig", "a date", 1),
    ("a lime", "a ripe lime", 3),
]
LEFT, RIGHT, SCORES = zip(*PAIRS, strict=True)


@pytest.mark.parametrize("levels", [3, 1_000_000])
def test_the_correlations_are_scipys(levels):
    left, right = np.random.default_rng(0).integers(0, levels, (2, 60))
    right = right + left // 2
    assert spearman(left, right) == pytest.approx(stats.spearmanr(left, right)[0], abs=1e-12)
    assert pearson(left, right) == pytest.approx(stats.pearsonr(left, right)[0], abs=1e-12)


@pytest.mark.parametrize("correlation", [spearman, pearson])
def test_what_does_not_vary_correlates_with_nothing(correlation):
    assert correlation([0.1] * 3, [1, 2, 3]) == 0
    assert correlation([0.1] * 3, [0.1] * 3) == 0  # whose mean is not quite 0.1
    assert correlation([1, 2, 3], [-2, -4, -6]) == pytest.approx(-1)


def test_an_encoder_is_measured_by_its_cosines(bag):
    cosines = [float(a @ b) for a, b in zip(*map(bag.encode_query, (LEFT, RIGHT)), strict=True)]
    found = evaluate_pairs(bag, ScoredPairs(LEFT, RIGHT, np.array(SCORES)))
    expected = {
        "spearman": stats.spearmanr(cosines, SCORES)[0],
        "pearson": stats.pearsonr(cosines, SCORES)[0],
    }
    assert {name: each.value for name, each in found.items()} == pytest.approx(expected, abs=1e-6)


def test_the_interval_is_of_drawn_pairs(bag):
    left = [f"a{n} b c{n % 3}" for n in range(20)]
    right = [f"a{n % 7} b{n % 2} c" for n in range(20)]
    scores = np.arange(20.0) % 11
    found = evaluate_pairs(bag, ScoredPairs(left, right, scores), seed=3)["pearson"]
    cosines = np.sum(bag.encode_query(left) * bag.encode_query(right), axis=1)
    drawn = [
        pearson(cosines[rows], scores[rows])
        for rows in np.random.default_rng(3).integers(20, size=(SAMPLES, 20))
    ]
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=1e-6)


def as_tsv(pairs):
    rows = ["\t".join((str(score), left, right)) for left, right, score in pairs]
    return "\ufeffscore\tsentence1\tsentence2\n" + "\r\n".join(rows) + "\n\n"


def as_lines(pairs):
    names = ("sentence1", "sentence2", "score")
    return "".join(json.dumps(dict(zip(names, pair, strict=True))) + "\n" for pair in pairs)


def test_pairs_are_read_in_every_format_and_quotes_are_text(tmp_path):
    (tmp_path / "sts.tsv").write_text(as_tsv(PAIRS), newline="")
    (tmp_path / "sts.jsonl").write_text(as_lines(PAIRS))
    (tmp_path / "sts.jsonl.gz").write_bytes(gzip.compress(as_lines(PAIRS).encode()))
    (tmp_path / "sts.csv").write_text("sentence1,score,sentence2,genre\na b,2.5,c,x\nd,1,e,y\n")
    for name in ("sts.tsv", "sts.jsonl", "sts.jsonl.gz"):
        read = read_pairs(tmp_path / name)
        assert list(zip(read.left, read.right, read.scores.tolist(), strict=True)) == PAIRS
    read = read_pairs(tmp_path / "sts.csv")
    assert (read.left, read.right, read.scores.tolist()) == (("a b", "d"), ("c", "e"), [2.5, 1])


HEAD = "score\tsentence1\tsentence2\n1\ta\tb\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.tsv", "score\tsentence1\n1\ta\n", "line 1: no column sentence2 in score, sentence1"),
        ("x.tsv", f"{HEAD}2\ta b\n", "line 3: 2 fields; the header has 3"),
        ("x.tsv", f"{HEAD}2\ta\t \n", "line 3: sentence2 must be a text, found ' '"),
        ("x.tsv", f"{HEAD}high\ta\tb\n", "line 3: score must be a number, found 'high'"),
        ("x.tsv", f"{HEAD}nan\ta\tb\n", "line 3: score must be a number, found 'nan'"),
        ("x.tsv", HEAD.encode() + b"\xff\ta\tb\n", "line 3: invalid UTF-8 at byte 0"),
        ("x.tsv", HEAD, "1 pairs; a correlation needs at least two"),
        ("x.tsv", "", "0 pairs; a correlation needs at least two"),
        ("x.jsonl", as_lines([*PAIRS, ("a", "b", None)]), "line 6: score must be a number"),
        ("x.jsonl", as_lines([*PAIRS, ("a", None, 1)]), "line 6: sentence2 must be a text"),
        ("x.jsonl", as_lines([*PAIRS, ("", "b", 1)]), "1 rows without sentence1"),
        ("x.jsonl", '{"sentence1": "a", "score": 1}\n', "sentence2"),
    ],
)
def test_a_pair_that_is_none_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CorpusError, match=f"{re.escape(str(path))}.*{re.escape(message)}"):
        read_pairs(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(CorpusError, match=r"nowhere\.tsv: no such file; expected pairs"):
        read_pairs(tmp_path / "nowhere.tsv")
