"""A question to its hits."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timezone

import numpy as np
import pytest

from indexes import Content, IndexWriter
from retrieval import (
    Document,
    IndexCorrupt,
    IndexNotFound,
    ModelError,
    QueryError,
    Searcher,
    VectorError,
    build_index,
)

TEXTS = [f"word{number} shared{number % 7} common" for number in range(200)]


@pytest.fixture
def many(searcher) -> Searcher:
    return searcher(*TEXTS)


def test_hits_are_the_nearest_documents_best_first_with_the_cosine_as_score(many, bag):
    question = "word17 shared3"
    hits = many.search(question, 20)
    cosines = bag.encode_query(TEXTS).astype(float) @ bag.encode_query([question])[0].astype(float)
    assert [hit.rank for hit in hits] == list(range(1, 21))
    assert [hit.id for hit in hits] == [str(row) for row in np.argsort(-cosines)[:20]]
    np.testing.assert_allclose(
        [hit.score for hit in hits], np.sort(cosines)[::-1][:20], rtol=0, atol=1e-6
    )
    assert hits[0].text == TEXTS[17]
    assert all(type(hit.score) is float for hit in hits)


def test_ten_hits_come_unless_another_number_is_asked_for(many):
    assert len(many.search("common")) == 10
    assert len(many.search_batch(["common", "word1"])[1]) == 10


def test_a_document_found_by_its_own_text_has_the_score_one_and_no_more(many):
    score = many.search(TEXTS[5], 1)[0].score
    assert 1 - 1e-6 <= score <= 1


def test_min_score_leaves_out_what_is_below_it_and_keeps_what_equals_it(many):
    every = many.search("word17 shared3", 200)
    least = every[4].score
    assert many.search("word17 shared3", 200, min_score=least) == every[:5]
    assert many.search("word17 shared3", 3, min_score=least) == every[:3]
    assert many.search("word17 shared3", min_score=1.1) == []
    assert len(many.search("word17 shared3", 200, min_score=-1)) == 200


def test_more_hits_than_documents_are_all_documents(searcher):
    found = searcher("one", "two", "three").search("one two", 1_000_000)
    assert sorted(hit.id for hit in found) == ["0", "1", "2"]


@pytest.mark.parametrize("k", [0, -1, True, False, 1.0, "3", None], ids=repr)
def test_a_number_of_hits_that_is_none_is_refused(k, searcher):
    small = searcher("one")
    message = f"k must be a whole number of at least 1, got {k!r}"
    for ask in (
        lambda: small.search("one", k),
        lambda: small.search_batch(["one"], k),
        lambda: small.search_batch([], k),
        lambda: small.search_vectors(np.ones((1, 32), np.float32), k),
    ):
        with pytest.raises(QueryError) as caught:
            ask()
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("questions", "message"),
    [
        ([""], "question 1 is empty; ask something"),
        (["one", " \n"], "question 2 is empty; ask something"),
        (["one", 2], "text 1 is int; expected str"),
        ([None], "text 0 is NoneType; expected str"),
        ([b"one"], "text 0 is bytes; expected str"),
        (["\ud800"], "text 0 holds a lone surrogate, which is not Unicode text"),
        ("one", "expected a list of texts, got one str; put it in a list"),
    ],
    ids=repr,
)
def test_a_question_that_cannot_be_asked_is_refused(questions, message, searcher):
    small = searcher("one")
    with pytest.raises(QueryError) as caught:
        small.search_batch(questions)
    assert str(caught.value) == message
    assert isinstance(caught.value, ValueError)


def test_no_questions_have_no_answers_and_need_no_model(searcher, tmp_path):
    searcher("one")
    assert Searcher(tmp_path / "index").search_batch([]) == []


def test_questions_together_are_answered_as_one_by_one(many):
    questions = [f"word{number} shared{number % 5}" for number in range(0, 200, 3)] * 2
    assert len(questions) > 128
    together = many.search_batch(questions, 5, min_score=0.1)
    assert together == [many.search(question, 5, min_score=0.1) for question in questions]


def test_documents_with_equal_scores_come_in_the_order_of_the_index(searcher):
    hits = searcher("same", "other", "same", "same").search("same", 3)
    assert [hit.id for hit in hits] == ["0", "2", "3"]


def test_a_vector_finds_what_its_question_finds_whatever_its_length(many, bag):
    vectors = bag.encode_query(["word17 shared3", "word5"])
    expected = many.search_batch(["word17 shared3", "word5"], 4)
    for length in (1, 1e-3, 1e6):
        found = many.search_vectors(vectors * np.float32(length), 4)
        assert [[hit.id for hit in hits] for hits in found] == [
            [hit.id for hit in hits] for hits in expected
        ]
        np.testing.assert_allclose(
            [[hit.score for hit in hits] for hits in found],
            [[hit.score for hit in hits] for hits in expected],
            atol=1e-6,
        )
    assert many.search_vectors(np.empty((0, 32), np.float32)) == []


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((1, 31)), "expected vectors of shape [n, 32], got [1, 31]"),
        (np.ones(32), "expected vectors of shape [n, 32], got [32]"),
        (np.zeros((1, 32)), "vector 0 is zero; a vector must have a direction"),
        (np.full((1, 32), np.nan), "vector 0 is not finite; a vector must have a direction"),
        (
            np.vstack([np.ones(32), np.full(32, np.inf)]),
            "vector 1 is not finite; a vector must have a direction",
        ),
    ],
    ids=["narrow", "flat", "zero", "nan", "infinite"],
)
def test_a_vector_without_a_direction_or_of_another_width_is_refused(vectors, message, searcher):
    with pytest.raises(VectorError) as caught:
        searcher("one").search_vectors(vectors.astype(np.float32))
    assert str(caught.value) == message


def test_documents_are_got_by_their_ids_in_the_order_asked_for(searcher):
    documents = [Document(name, f"text {name}", metadata={"n": 1}) for name in ("a", "b", "ü")]
    small = searcher(*documents)
    assert small.get(["ü", "none", "a", "a"]) == [documents[2], None, documents[0], documents[0]]
    assert small.get([]) == []
    assert len(small) == 3
    assert "ü" in small
    assert "none" not in small
    assert 1 not in small
    with pytest.raises(QueryError, match="expected a list of ids, got one str"):
        small.get("a")


def test_metadata_comes_back_with_its_types(searcher):
    metadata = {
        "whole": 3,
        "float": 2.0,
        "flag": True,
        "text": "word",
        "tags": ["a", "b"],
        "day": date(2024, 2, 29),
        "naive": datetime(2024, 1, 2, 3, 4, 5, 6),
        "aware": datetime(2024, 1, 2, tzinfo=timezone.utc),
        "none": None,
    }
    small = searcher(
        Document("a", "one", metadata=metadata), Document("b", "two", metadata={"float": 7})
    )
    found = small.search("one", 1)[0].metadata
    assert found == metadata == small.get(["a"])[0].metadata
    assert [type(value) for value in found.values()] == [type(v) for v in metadata.values()]
    promoted = small.get(["b"])[0].metadata["float"]
    assert (promoted, type(promoted)) == (7.0, float)


def test_a_title_is_searched_with_the_text_and_alone(searcher):
    small = searcher(
        Document("plain", "green apples"),
        Document("both", "red pears", "Orchard"),
        Document("title", "", "Vineyard"),
    )
    found = {word: small.search(word, 1)[0] for word in ("orchard", "pears", "vineyard", "apples")}
    assert [hit.id for hit in found.values()] == ["both", "both", "title", "plain"]
    assert (found["vineyard"].title, found["vineyard"].text) == ("Vineyard", "")
    assert (found["apples"].title, found["apples"].text) == ("", "green apples")
    assert found["vineyard"].score > 1 - 1e-5


def test_another_encoder_is_refused_by_both_names(searcher, tmp_path, bag_class):
    class Foreign(bag_class):
        pass

    searcher("one")
    foreign = Foreign(name="foreign")
    with pytest.raises(ModelError) as caught:
        Searcher(tmp_path / "index", encoder=foreign)
    assert str(caught.value) == (
        f"{tmp_path}/index was built with BagOfWords (fingerprint bag-32-256), not with Foreign "
        "(fingerprint foreign-32-2): their vectors cannot be compared"
    )
    with pytest.raises(ModelError, match="bag-32-64"):
        Searcher(tmp_path / "index", encoder=bag_class(max_length=64))


def test_the_index_of_an_encoder_of_ones_own_says_what_to_pass(searcher, tmp_path):
    searcher("one")
    without = Searcher(tmp_path / "index")
    assert len(without) == 1  # nothing needs the encoder until a text is asked for
    with pytest.raises(ModelError) as caught:
        without.search("one")
    assert str(caught.value) == (
        "the index was built with an encoder of its own (BagOfWords); "
        "pass it: Searcher(..., encoder=...)"
    )


def test_the_model_is_loaded_once_by_the_first_of_many_threads(
    searcher, tmp_path, named_bag, monkeypatch
):
    loaded = []

    class Counted(named_bag):
        @classmethod
        def from_record(cls, record, **options):
            loaded.append(options)
            time.sleep(0.1)  # as a real model takes its time
            return cls(max_length=record["max_length"])

    searcher(*TEXTS)
    monkeypatch.setattr("retrieval.assembly.Encoder", Counted)
    shared = Searcher(tmp_path / "index", device="cpu", dtype="float32")
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(shared.search, ["word3"] * 16))
    assert all(hits == found[0] for hits in found)
    assert loaded == [{"device": "cpu", "dtype": "float32"}]


def test_eight_threads_find_what_one_finds(many):
    questions = [f"word{number} shared{number % 3} common" for number in range(120)]
    serial = [many.search(question, 7) for question in questions]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda question: many.search(question, 7), questions)) == serial
        assert list(pool.map(lambda row: many.search_batch(questions, 7), range(8))) == [serial] * 8


def test_a_searcher_is_a_context_manager_whose_hits_outlive_it(searcher):
    with searcher("one", "two") as small:
        hits = small.search("one", 2)
    assert [hit.text for hit in hits] == ["one", "two"]


def test_a_searcher_answers_as_it_was_when_it_was_opened(searcher, tmp_path, bag):
    old = searcher("one", "two")
    before = old.search("one", 2)
    build_index([Document("new", "one")], tmp_path / "index", encoder=bag, overwrite=True)
    assert old.search("one", 2) == before
    assert [hit.id for hit in Searcher(tmp_path / "index", encoder=bag).search("one")] == ["new"]


@pytest.mark.parametrize("suffix", ["vec", "docs", "rows"])
def test_verify_full_reads_every_byte(suffix, searcher, tmp_path, bag, flip):
    searcher(*TEXTS, verify="full").search("word1")
    (path,) = (tmp_path / "index").glob(f"*.{suffix}")
    flip(path, path.stat().st_size // 2)
    Searcher(tmp_path / "index", encoder=bag)
    with pytest.raises(IndexCorrupt) as caught:
        Searcher(tmp_path / "index", encoder=bag, verify="full")
    assert str(caught.value) == (
        f"{path} is damaged: its content does not match its checksum; "
        "restore it from a copy or build the index again"
    )


def test_verify_is_one_of_two_words(searcher):
    with pytest.raises(ValueError, match=r"^verify must be 'auto' or 'full', got 'fast'$"):
        searcher("one", verify="fast")


def test_a_folder_without_an_index_cannot_be_searched(tmp_path):
    with pytest.raises(IndexNotFound, match="does not exist; make an index"):
        Searcher(tmp_path / "nowhere")


PAYLOADS = {
    "metadata that is a list": b'{"id":"a","text":"x","title":"","metadata":[]}',
    "no metadata": b'{"id":"a","text":"x","title":""}',
    "a text that is a number": b'{"id":"a","text":5,"title":"","metadata":{}}',
    "no title": b'{"id":"a","text":"x","title":null,"metadata":{}}',
    "a date that is none": b'{"id":"a","text":"x","title":"","metadata":{"day":"soon"}}',
    "a number for a date": b'{"id":"a","text":"x","title":"","metadata":{"day":5}}',
}


@pytest.mark.parametrize("case", PAYLOADS)
def test_a_row_that_somebody_elses_writer_filled_is_refused_for(case, tmp_path, bag):
    content = Content(
        dim=bag.dim,
        model={"fingerprint": bag.fingerprint},
        schema=[{"name": "day", "type": "date32[day]"}],
    )
    with IndexWriter(tmp_path / "index", content) as writer:
        writer.add(bag.encode_query(["x"]), [PAYLOADS[case]])
        writer.commit()
    with Searcher(tmp_path / "index", encoder=bag) as searcher:
        for ask in (lambda: searcher.search("x"), lambda: searcher.get(["a"])):
            with pytest.raises(IndexCorrupt, match="index: row 0 is not a stored document: "):
                ask()
