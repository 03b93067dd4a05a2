"""Quality without labels: what is asked, what is found, what is truncated, what is twice there."""

import json
import random

import numpy as np
import pytest

import indexes.certifying
from retrieval import Document, build_index, check_quality, import_index
from retrieval.known_items import known_items

TEXT = "A cat sat on the mat. It was a very large mat! Was the cat small? Nobody knows."


def items(document, tries=40):
    return [item for seed in range(tries) for item in known_items(document, random.Random(seed))]


def test_a_title_asks_for_its_text_and_a_sentence_for_the_whole():
    made = items(Document("a", TEXT, "cats"))
    titles = [item for item in made if item.question == "cats"]
    assert {item.passage for item in titles} == {TEXT}
    rest = [item for item in made if item.question != "cats"]
    sentences = {"A cat sat on the mat.", "It was a very large mat!", "Was the cat small?"}
    assert {item.question for item in rest} == sentences
    without = [item for item in rest if item.question not in item.passage]
    assert 10 < len(without) < 30
    assert {item.passage for item in rest} - {item.passage for item in without} == {f"cats {TEXT}"}
    for item in without:
        assert len(item.passage) >= len(f"cats {TEXT}") - len(item.question) - 1
        assert item.passage.startswith("cats ")


def test_words_ask_where_there_are_no_two_sentences():
    text = " ".join(f"w{n}" for n in range(30))
    for item in items(Document("a", text)):
        assert item.question in text
        assert 4 <= len(item.question.split()) <= 15
    assert items(Document("a", "too few words")) == []
    assert items(Document("a", "", "a title alone")) == []
    chinese = "".join(chr(0x4E00 + n) for n in range(40)) + "。"
    assert {len(item.question) for item in items(Document("a", chinese * 3))} == {41}


@pytest.fixture
def corpus():
    chance = random.Random(0)
    documents = [
        Document(str(n), " ".join(f"v{chance.randrange(500)}" for _ in range(20)), f"title {n}")
        for n in range(60)
    ]
    return [*documents, Document("copy", documents[7].text, documents[7].title)]


def test_known_items_are_found_in_every_mode(corpus, tmp_path, bag):
    build_index(corpus, tmp_path / "index", encoder=bag)
    report = check_quality(tmp_path / "index", encoder=bag)
    assert (report.rows, report.sampled, report.questions, report.kind) == (61, 61, 61, "flat")
    assert list(report.modes) == ["dense", "lexical", "hybrid"]
    for found in report.modes.values():
        assert list(found) == ["mrr@10", "recall@10"]
        assert 0.4 < found["mrr@10"].value <= found["recall@10"].value
    assert report.modes["lexical"]["recall@10"].value == 1
    assert report.kind_recall == 1
    assert report.truncated == 0
    assert report.near_duplicates == pytest.approx(2 / 61)
    assert [(each.id, each.other) for each in report.examples] == [("7", "copy")]
    assert check_quality(tmp_path / "index", encoder=bag) == report


def test_a_sample_is_bounded_and_drawn_by_the_seed(corpus, tmp_path, bag):
    build_index(corpus, tmp_path / "index", encoder=bag, lexical=False)
    report = check_quality(tmp_path / "index", encoder=bag, questions=20)
    assert (report.sampled, report.questions, list(report.modes)) == (20, 20, ["dense"])
    other = check_quality(tmp_path / "index", encoder=bag, questions=20, seed=1)
    assert other.modes != report.modes
    with pytest.raises(ValueError, match="questions must be at least 1, got 0"):
        check_quality(tmp_path / "index", questions=0)


def test_what_was_truncated_is_counted_where_it_is_known(corpus, tmp_path, bag_class):
    short = bag_class(max_length=10)
    long, few = corpus[:3], [Document(f"s{n}", f"few words {n}") for n in range(9)]
    build_index([*long, *few], tmp_path / "index", encoder=short, passages="none")
    assert check_quality(tmp_path / "index", encoder=short).truncated == 0.25
    vectors = short.encode_query([d.full_text for d in few])
    import_index(few, vectors, tmp_path / "imported", encoder=short)
    assert check_quality(tmp_path / "imported", encoder=short).truncated is None


def test_a_passage_asks_for_its_document(tmp_path, bag_class):
    bag, chance = bag_class(max_length=12), random.Random(0)
    words = [" ".join(f"v{chance.randrange(900)}" for _ in range(60)) for _ in range(12)]
    documents = [Document(f"d{n}", text) for n, text in enumerate(words)]
    build_index(documents, tmp_path / "index", encoder=bag, passages="window")
    report = check_quality(tmp_path / "index", encoder=bag)
    assert report.rows == 72
    assert 60 <= report.questions < 72
    assert report.modes["lexical"]["recall@10"].value == 1


def test_the_recall_of_a_kind_is_that_against_every_row(tmp_path, bag, monkeypatch):
    monkeypatch.setattr(indexes.certifying, "EXACT_BELOW", 500)
    chance = random.Random(0)
    texts = [" ".join(f"v{chance.randrange(300)}" for _ in range(12)) for _ in range(800)]
    documents = [Document(str(n), text) for n, text in enumerate(texts)]
    build_index(documents, tmp_path / "index", encoder=bag, kind="hnsw", recall=0.5)
    report = check_quality(tmp_path / "index", encoder=bag, questions=100)
    assert report.kind == "hnsw"
    assert 0.3 < report.kind_recall <= 1


@pytest.mark.parametrize("rows", [0, 1])
def test_an_index_of_no_row_or_one_has_little_to_say(tmp_path, bag, rows):
    from retrieval.changing import delete_rows

    build_index([Document("a", TEXT), Document("b", TEXT)], tmp_path / "index", encoder=bag)
    delete_rows(tmp_path / "index", ["a", "b"][rows:])
    report = check_quality(tmp_path / "index", encoder=bag)
    assert (report.rows, report.sampled, report.questions) == (rows, rows, rows)
    assert report.near_duplicates == (0 if rows else None)
    assert report.kind_recall == (1 if rows else None)
    json.dumps(report.to_dict())


def test_the_verb_prints_a_table_or_json(cli, tmp_path, monkeypatch):
    rows = [{"id": str(n), "title": f"t{n}", "text": f"{TEXT} v{n} [x]\x1b"} for n in range(20)]
    rows += [{**rows[3], "id": "\x1btwin"}]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("index", "c.jsonl").code == 0
    code, out, err = cli("check", "--quality")
    assert (code, err) == (0, "")
    record = json.loads(out)
    assert record["questions"] == 21
    assert record["modes"]["dense"]["recall@10"].keys() == {"value", "low", "high"}
    assert np.isfinite(record["near_duplicates"])
    monkeypatch.setattr("retrieval.cli.output.wants_json", lambda as_json: as_json)
    code, out, err = cli("check", "--quality")
    assert (code, err) == (0, "")
    assert "21 questions made of titles and sentences" in out
    assert "hybrid" in out
    assert "near-duplicates: 3 and twin, cosine 1.0000" in out
    assert "\x1b" not in out
    assert cli("check", "--quality", "--repair").code == 2
    assert cli("check", "--quality", "-i", "nowhere").code == 1
