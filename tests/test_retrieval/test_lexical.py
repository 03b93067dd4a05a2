"""BM25 equals its formula, whatever the segments, the deleted rows and the filter."""

import math
import random
import string
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from indexes import IndexCorrupt
from retrieval.analysis import LANGUAGES, STOP_WORDS, folded, terms
from retrieval.inverting import MOST
from retrieval.lexical import K1, B, Lexical
from retrieval.postings import HEADER, Postings, postings

WORDS = ["".join(random.Random(n).choices(string.ascii_lowercase, k=5)) for n in range(60)]


def texts_of(count, seed=0):
    chance = random.Random(seed)
    lengths = [chance.randrange(0, 40) for _ in range(count)]
    return [" ".join(chance.choices(WORDS, range(1, 61), k=length)) for length in lengths]


def lexical(texts, cuts=(), live=None, language="english"):
    bounds = [0, *cuts, len(texts)]
    parts = [texts[a:b] for a, b in pairwise(bounds)]
    segments = [Postings(b"".join(postings(part, language)), len(part)) for part in parts]
    return Lexical(segments, np.ones(len(texts), bool) if live is None else live)


def by_the_formula(texts, question, language="english"):
    held = [Counter(terms(text, language)) for text in texts]
    mean = sum(sum(each.values()) for each in held) / len(texts)
    scores = []
    for own in held:
        norm = K1 * (1 - B + B * sum(own.values()) / mean)
        score = 0.0
        for term in terms(question, language):
            having = sum(term in each for each in held)
            idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
            score += idf * own[term] / (own[term] + norm)
        scores.append(score)
    return np.array(scores)


@pytest.mark.parametrize("cuts", [(), (1, 70, 71), (100,)])
@pytest.mark.parametrize("seed", range(5))
def test_scores_are_the_formulas(seed, cuts):
    texts = texts_of(150, seed)
    question = " ".join(random.Random(seed).choices(WORDS, k=6) + WORDS[-1:] * 2)
    truth = by_the_formula(texts, question)
    own = lexical(texts, cuts)
    assert np.allclose(own.scores(question), truth, atol=1e-5)
    scores, positions = own.search(question, 20)
    wanted = np.lexsort((np.arange(150), -own.scores(question)))[:20]
    assert positions.tolist() == wanted.tolist()
    assert np.allclose(scores, truth[wanted], atol=1e-5)


def test_only_live_and_allowed_rows_with_a_term_are_found():
    texts = ["apple pear", "apple", "plum", "apple pear plum", "pear"]
    live = np.array([True, False, True, True, True])
    own = lexical(texts, live=live)
    assert set(own.search("apple", 10)[1]) == {0, 3}
    allowed = np.array([False, True, True, True, True])
    assert set(own.search("apple", 10, allowed)[1]) == {3}
    assert own.search("cherry", 10)[1].tolist() == []
    assert own.search("the of", 10)[1].tolist() == []
    assert own.search("", 10)[1].tolist() == []
    assert own.search("apple", 0)[1].tolist() == []


def test_equal_scores_go_by_position():
    own = lexical(["same words"] * 30, cuts=(7, 20))
    assert own.search("words", 12)[1].tolist() == list(range(12))


def test_an_index_without_rows_or_without_terms():
    assert lexical([]).search("word", 3)[1].tolist() == []
    assert lexical(["", "of the"]).search("word", 3)[1].tolist() == []


def test_a_term_that_comes_very_often_is_counted_so_far():
    own = Postings(b"".join(postings(["word " * (MOST + 5)])), 1)
    assert own.held("word").counts.tolist() == [MOST]
    assert own.lengths.tolist() == [MOST + 5]


@pytest.mark.parametrize(
    ("text", "language", "wanted"),
    [
        ("The cats' generalizations weren't RUNNING", "english", ["cat", "general", "run"]),
        ("Déjà-vu naïve café ﬁne", "none", ["deja", "vu", "naive", "cafe", "fine"]),
        ("Straßen und Häuser", "german", ["strass", "haus"]),
        ("les chevaux rapides", "french", ["chevau", "rapid"]),
        ("Привет, мир 42 x_y", "none", ["привет", "мир", "42", "x", "y"]),
        ("don't O'Neill", "english", ["oneil"]),
        ("l'eau d’un puits, aujourd'hui", "french", ["eau", "puit", "aujourd", "hui"]),
        ("हिन्दी में खोज", "none", ["हिन्दी", "में", "खोज"]),
        ("東京都に住む。abc京", "none", ["東京", "京都", "都に", "に住", "住む", "abc", "京"]),
        ("שָׁלוֹם مُحَمَّد", "none", ["שלום", "محمد"]),
        ("한국어 ไทย", "none", ["한국어", "ไท", "ทย"]),
        ("a" * 65, "none", []),
    ],
)
def test_texts_become_terms(text, language, wanted):
    assert terms(text, language) == wanted


def test_every_language_folds_its_own_stop_words():
    for language in LANGUAGES:
        for word in STOP_WORDS[language]:
            assert folded(word) == word
            assert terms(word, language) == []
    with pytest.raises(ValueError, match="unknown language 'latin'; known are english"):
        terms("a", "latin")


def test_any_damage_is_found_or_answers():
    data = b"".join(postings(texts_of(40)))
    chance = random.Random(1)
    for _ in range(600):
        raw = bytearray(data)
        for _ in range(chance.randrange(1, 4)):
            place = chance.choice([chance.randrange(len(raw)), chance.randrange(HEADER.size + 400)])
            raw[place] = chance.randrange(256)
        raw = bytes(raw[: chance.choice([len(raw), len(raw), chance.randrange(len(raw))])])
        try:
            own = Lexical([Postings(raw, 40)], np.ones(40, bool))
            _, positions = own.search(" ".join(WORDS), 40)
        except IndexCorrupt:
            continue
        assert all(0 <= position < 40 for position in positions)


def test_the_postings_of_other_rows_are_refused():
    data = b"".join(postings(texts_of(40)))
    for raw, rows in ((data, 39), (b"", 0), (data + b"\0", 40), (data[:-1], 40)):
        with pytest.raises(IndexCorrupt):
            Postings(raw, rows)
