"""Runs merged give the file that one run gives."""

import random

import pytest

from retrieval import inverting
from retrieval.postings import postings

WORDS = [f"w{n}" for n in range(40)] + ["é", "Ω"]


@pytest.mark.parametrize("run", [1, 2, 7, 50, 333])
@pytest.mark.parametrize("in_memory", [1, 2**20])
def test_the_runs_do_not_show(monkeypatch, run, in_memory):
    chance = random.Random(run)
    texts = [" ".join(chance.choices(WORDS, k=chance.randrange(12))) for _ in range(60)]
    whole = b"".join(postings(texts))
    monkeypatch.setattr(inverting, "RUN", run)
    monkeypatch.setattr(inverting, "IN_MEMORY", in_memory)
    assert b"".join(postings(texts)) == whole
