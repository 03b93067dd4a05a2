"""Indexes of passages: built, resumed, changed and searched as the documents that they are of."""

import json
import sys

import numpy as np
import pytest

from indexes import IndexCorrupt, IndexUnfinished, View, WhereError, read_manifest
from retrieval import CorpusError, Document, ModelError, QueryError, Searcher, build_index
from retrieval.changing import change_index, delete_rows, reencode
from retrieval.cli.excerpt import excerpt
from retrieval.hits import document as stored
from retrieval.parents import whole, whole_documents
from retrieval.passages import LETTER, Cutter, Passages, recorded

LENGTH = 12  # tokens that the encoder reads
HOW = "window"


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Windows and segments end within documents."""
    monkeypatch.setattr("retrieval.building.WINDOW", 4)
    monkeypatch.setattr("retrieval.replacing.WINDOW", 4)
    monkeypatch.setattr("retrieval.building.CHECKPOINT_ROWS", 8)
    monkeypatch.setattr("indexes.build.SEGMENT_ROWS", 10)
    monkeypatch.setattr("os.fsync", lambda handle: None)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def bag(bag_class):
    return bag_class(max_length=LENGTH)


def long(name, words, word="w", title=""):
    text = " ".join(f"{word}{name}{n}" for n in range(words))
    return Document(name, text, title, {"n": words})


DOCUMENTS = [
    long("a", 30),
    long("b", 5),
    long("c", 70, title="the title"),
    long("d", 12),
    long("e", 13),
]


def cut(documents, bag, how=HOW):
    cutter = Cutter(bag, Passages.parse(how))
    return [passage for document in documents for passage in cutter.cut(document)]


def held(folder):
    """Every row of the index, as a document."""
    view = View(folder, verify="full")
    return [stored(view, position) for position in view.positions().tolist()]


def rows(folder):
    """Every row with its vector."""
    view = View(folder, verify="full")
    vectors = view.vectors(view.positions())
    return list(zip(held(folder), [vector.tobytes() for vector in vectors], strict=True))


def same_as_fresh(folder, documents, bag, how=HOW):
    """Whether the index holds what a fresh one of these documents would, in whatever order."""
    fresh = folder.parent / "fresh"
    build_index(documents, fresh, encoder=bag, passages=how, overwrite=True)
    by_id = [dict((row.id, (row, vector)) for row, vector in rows(f)) for f in (folder, fresh)]
    assert by_id[0] == by_id[1]
    sources = [View(f).content.source for f in (folder, fresh)]
    assert {**sources[0], "skipped": 0} == {**sources[1], "skipped": 0}
    assert sorted(d.id for d in whole_documents(View(folder))) == sorted(d.id for d in documents)


@pytest.mark.parametrize("how", ["window", "window:6:2", "sentences", "none"])
def test_an_index_holds_the_passages_and_remembers_how_they_were_cut(folder, bag, how):
    report = build_index(DOCUMENTS, folder, encoder=bag, passages=how)
    assert held(folder) == cut(DOCUMENTS, bag, how)
    assert (report.passages, report.rows, report.looked_at) == (how, len(held(folder)), 0)
    assert (report.truncated == 0) == (how != "none")
    assert recorded(View(folder).content) == Passages.parse(how)
    titles = [passage.full_text.startswith("the title w") for passage in held(folder)]
    assert any(titles)
    uncut = [row.id for row in held(folder) if row.parent is None]
    assert uncut == {"window:6:2": ["b"], "none": [*"abcde"]}.get(how, ["b", "d"])


def test_passages_are_encoded_with_their_title(folder, bag):
    build_index(DOCUMENTS, folder, encoder=bag, passages=HOW)
    for row, vector in rows(folder):
        expected = bag.encode_query([row.full_text])[0]
        np.testing.assert_allclose(np.frombuffer(vector, np.float32), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("losing", "count", "chosen"),
    [(10, 1000, "none"), (11, 1000, "window"), (1, 100, "none"), (1, 99, "window"), (0, 5, "none")],
)
def test_auto_cuts_where_more_than_one_in_a_hundred_would_lose_text(
    folder, bag, monkeypatch, losing, count, chosen
):
    monkeypatch.setattr("retrieval.building.WINDOW", 256)
    monkeypatch.setattr("indexes.build.SEGMENT_ROWS", 10_000)
    fits, loses = (
        [long(f"f{n}", LENGTH) for n in range(count - losing)],
        [long(f"l{n}", LENGTH + 1) for n in range(losing)],
    )
    later = [long(f"x{n}", 20) for n in range(30)] if count == 1000 else []
    report = build_index(iter([*fits, *loses, *later]), folder, encoder=bag)
    assert (report.passages, report.looked_at, report.losing) == (chosen, count, losing)
    assert report.truncated == (0 if chosen == "window" else losing + len(later))
    assert held(folder) == cut([*fits, *loses, *later], bag, chosen)
    assert recorded(View(folder).content).kind == chosen


class Stops:
    """An encoder that stops at the n-th text."""

    def __init__(self, encoder, left):
        self._encoder, self._left = encoder, left

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode_document(self, texts):
        self._left -= len([text for text in texts if "w" in text[:12]])
        if self._left < 0:
            raise KeyboardInterrupt
        return self._encoder.encode_document(texts)


@pytest.mark.parametrize("how", ["auto", "window:6:2"])
@pytest.mark.parametrize("stop", range(1, 14, 3))
def test_a_build_goes_on_in_the_middle_of_a_document(tmp_path, folder, bag, stop, how):
    with pytest.raises(KeyboardInterrupt):
        build_index(DOCUMENTS, folder, encoder=Stops(bag, stop), passages=how)
    kept = stop // 4 * 4
    report = build_index(DOCUMENTS, folder, encoder=bag, passages=how)
    assert report.resumed == kept
    build_index(DOCUMENTS, tmp_path / "whole", encoder=bag, passages=how)
    assert rows(folder) == rows(tmp_path / "whole")
    assert (
        read_manifest(folder).published.source == read_manifest(tmp_path / "whole").published.source
    )


def test_a_build_does_not_go_on_with_another_choice(folder, bag):
    with pytest.raises(KeyboardInterrupt):
        build_index(DOCUMENTS, folder, encoder=Stops(bag, 9))
    for other in ("none", "sentences", "window:6"):
        with pytest.raises(IndexUnfinished, match="another --passages;"):
            build_index(DOCUMENTS, folder, encoder=bag, passages=other)
    assert build_index(DOCUMENTS, folder, encoder=bag, passages="window").resumed == 8
    with pytest.raises(ValueError, match="passages must be auto, none"):
        build_index(DOCUMENTS, folder / "new", encoder=bag, passages="pages")
    assert not (folder / "new").exists()


@pytest.mark.parametrize("rule", ["error", "first", "last"])
def test_a_build_of_documents_in_another_order_does_not_go_on(folder, bag, rule):
    options = {"passages": HOW, "on_duplicate": rule}
    with pytest.raises(KeyboardInterrupt):
        build_index(DOCUMENTS, folder, encoder=Stops(bag, 14), **options)
    swapped = [DOCUMENTS[0], DOCUMENTS[2], DOCUMENTS[1], *DOCUMENTS[3:]]
    with pytest.raises(IndexUnfinished, match="document 2 where it has row 4"):
        build_index(swapped, folder, encoder=bag, **options)
    assert build_index(DOCUMENTS, folder, encoder=bag, **options).resumed == 12


AGAIN = {
    "shorter": [*DOCUMENTS, long("c", 20)],
    "whole": [*DOCUMENTS[:3], long("a", 3), *DOCUMENTS[3:]],
    "cut": [*DOCUMENTS[:2], long("b", 40), *DOCUMENTS[2:]],
    "equal": [*DOCUMENTS, DOCUMENTS[0]],
    "often": [*DOCUMENTS, long("c", 20), long("c", 2), long("c", 30)],
    "at once": [long("a", 30), long("a", 14), *DOCUMENTS[1:]],
}


@pytest.mark.parametrize("stop", [None, 2, 5, 9, 13])
@pytest.mark.parametrize("case", AGAIN)
@pytest.mark.parametrize("rule", ["first", "last", "error"])
def test_of_documents_with_one_id_one_stays_with_all_its_passages(folder, bag, rule, case, stop):
    given = AGAIN[case]
    ordered = given if rule == "last" else list(reversed(given))
    options = {"passages": HOW, "on_duplicate": rule}
    if stop:
        with pytest.raises((KeyboardInterrupt, CorpusError)):
            build_index(given, folder, encoder=Stops(bag, stop), **options)
    if rule == "error":
        with pytest.raises(CorpusError, match=r"the id '[abc]' has come before"):
            build_index(given, folder, encoder=bag, **options)
        return
    report = build_index(given, folder, encoder=bag, **options)
    kept = {document.id: document for document in ordered}
    assert sorted(held(folder), key=lambda row: (row.id[0], row.start or 0)) == cut(
        [kept[i] for i in sorted(kept)], bag
    )
    assert report.rows == len(held(folder))
    assert report.skipped == (len(given) - len(kept) if rule == "first" else 0)


TWO = [long("a", 30), Document("a#1", "own words")]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("rule", ["error", "first", "last"])
@pytest.mark.parametrize("far", [0, 20], ids=["in its window", "later"])
def test_a_passage_never_takes_the_place_of_another_document(folder, bag, order, rule, far):
    first, second = TWO[::order]
    given = [first, *(long(f"x{n}", 3) for n in range(far)), second]
    message = r"document \d+: the id 'a#1' is that of a passage of the document 'a' and of another"
    with pytest.raises(CorpusError, match=message):
        build_index(given, folder, encoder=bag, passages=HOW, on_duplicate=rule)
    build_index([first, long("y", 50)], folder, encoder=bag, passages=HOW, overwrite=True)
    before = held(folder)
    with pytest.raises(CorpusError, match="the id 'a#1' is that of a passage"):
        change_index([second], folder, encoder=bag, on_duplicate=rule)
    assert held(folder) == before
    build_index(TWO, folder, encoder=bag, passages="none", overwrite=True)


def test_a_document_with_the_name_of_a_passage_stands_for_itself(folder, bag):
    given = [long("a", 5), Document("a#0", "own words"), long("b", 30)]
    build_index(given, folder, encoder=bag, passages=HOW)
    assert list(whole_documents(View(folder))) == given
    assert change_index(given, folder, encoder=bag).unchanged == 3
    with pytest.raises(CorpusError, match="the id 'a#0' is that of a passage of the document 'a'"):
        change_index([long("a", 30)], folder, encoder=bag)
    assert delete_rows(folder, ["a"]) == 1
    same_as_fresh(folder, given[1:], bag)
    assert delete_rows(folder, ["a#0"]) == 1
    same_as_fresh(folder, given[2:], bag)


def test_an_encoder_that_knows_no_tokens_encodes_whole_documents(folder, bag):
    class Plain:
        dim, max_length, fingerprint = bag.dim, bag.max_length, bag.fingerprint
        encode_document, encode_query = bag.encode_document, bag.encode_query

    with pytest.raises(ModelError, match=r"Plain has no offsets\(text\), by which"):
        build_index([long("a", 30)], folder, encoder=Plain(), passages="window")
    build_index([long("a", 30)], folder, encoder=Plain())
    assert [hit.id for hit in Searcher(folder, encoder=Plain()).search("word", 5)] == ["a"]


@pytest.fixture
def index(folder, bag):
    build_index(DOCUMENTS, folder, encoder=bag, passages=HOW)
    bag.asked.clear()
    return folder


@pytest.fixture
def change(index, bag):
    """Change the index: how many documents were …, and which texts were encoded."""

    def run(documents, **how):
        bag.asked.clear()
        report = change_index(documents, index, encoder=bag, **how)
        counts = report.added, report.changed, report.removed, report.unchanged
        return counts, [text for text in bag.asked if not text.startswith(LETTER)]

    return run


CHANGES = {
    "nothing": (DOCUMENTS, (0, 0, 0, 5)),
    "one more": ([long("f", 40), DOCUMENTS[0]], (1, 0, 0, 1)),
    "longer": ([long("a", 60)], (0, 1, 0, 0)),
    "shorter": ([long("c", 20)], (0, 1, 0, 0)),
    "whole": ([long("c", 3), long("a", 12)], (0, 2, 0, 0)),
    "cut": ([long("b", 33)], (0, 1, 0, 0)),
    "other text": ([long("a", 30, "x")], (0, 1, 0, 0)),
    "other title": ([Document("c", DOCUMENTS[2].text, "another", {"n": 70})], (0, 1, 0, 0)),
}


@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize("case", CHANGES)
def test_a_changed_document_replaces_all_its_passages(index, change, bag, case, prune):
    given, (added, changed, _, unchanged) = CHANGES[case]
    removed = len(DOCUMENTS) - changed - unchanged if prune else 0
    files = {path.name: path.read_bytes() for path in index.iterdir()}
    counts = (added, changed, removed, unchanged)
    assert change(given, prune=prune, dry_run=True) == (counts, [])
    assert {path.name: path.read_bytes() for path in index.iterdir()} == files
    before = {row.full_text for row in held(index)}
    result, asked = change(given, prune=prune)
    assert result == counts
    assert set(asked) == {row.full_text for row in cut(given, bag)} - before
    now = {} if prune else {document.id: document for document in DOCUMENTS}
    now |= {document.id: document for document in given}
    same_as_fresh(index, list(now.values()), bag)
    assert change(list(now.values()), prune=True) == ((0, 0, 0, len(now)), [])


def test_only_the_passages_with_another_text_are_encoded(index, change, bag):
    text = DOCUMENTS[2].text + " and more at its end"
    result, asked = change([Document("c", text, "the title", {"n": 71})])
    assert result == (0, 1, 0, 0)
    assert 0 < len(asked) <= 2
    result, asked = change([Document("c", text, "the title", {"n": 72})])
    assert (result, asked) == ((0, 1, 0, 0), [])
    assert {row.metadata["n"] for row in held(index) if row.parent == "c"} == {72}


def test_a_document_that_only_has_more_or_fewer_passages_has_changed(folder, bag):
    def of(sentences):
        return [Document("s", " ".join(f"S{n} is one of eight words here." for n in sentences))]

    build_index(of(range(4)), folder, encoder=bag, passages="sentences")
    for sentences, changed in ((range(6), 1), (range(3), 1), (range(3), 0), (range(5), 1)):
        report = change_index(of(sentences), folder, encoder=bag)
        assert (report.changed, report.unchanged) == (changed, 1 - changed)
        assert len(held(folder)) == len(sentences)
        same_as_fresh(folder, of(sentences), bag, "sentences")


@pytest.mark.parametrize("far", [0, 9], ids=["in one window", "later"])
@pytest.mark.parametrize(("rule", "at"), [("first", 0), ("last", -1)])
def test_of_documents_that_are_added_twice_one_stays(index, change, bag, rule, at, far):
    twice = [long("a", 50, "x"), *(long(f"y{n}", 3) for n in range(far)), long("a", 15, "z")]
    assert change(twice, on_duplicate=rule)[0] == (far, 1, 0, 0)
    same_as_fresh(index, [twice[at], *DOCUMENTS[1:], *twice[1:-1]], bag)
    with pytest.raises(CorpusError, match="'a' has come before"):
        change(twice)


def test_an_interruption_leaves_every_document_whole(index, bag):
    given = [long("a", 60, "x"), long("c", 60, "x"), long("g", 60)]

    def source():
        yield from given
        raise KeyboardInterrupt

    for stop in range(8, 24, 4):
        with pytest.raises(KeyboardInterrupt):
            change_index(source(), index, encoder=Stops(bag, stop), prune=True)
        view, before = View(index), {document.id: document for document in DOCUMENTS}
        for document in given:
            assert whole(view, document.id) in (document, before.get(document.id))
        assert [whole(view, name) for name in "bde"] == [before[name] for name in "bde"]


def test_to_delete_a_document_deletes_its_passages(index, bag):
    assert delete_rows(index, ["a", "b", "a", "nothing", "\ud800"]) == 2
    same_as_fresh(index, DOCUMENTS[2:], bag)
    with pytest.raises(QueryError, match="'c#1' is a passage of the document 'c'; delete that"):
        delete_rows(index, ["d", "c#1"])
    with pytest.raises(WhereError):
        delete_rows(index, where="nothing = 1")
    assert delete_rows(index, where="id = 'c#1'") == 1  # a document is there as a whole, or not
    same_as_fresh(index, DOCUMENTS[3:], bag)
    assert delete_rows(index, ["d"], where="n > 12") == 2
    assert held(index) == []


def test_a_document_is_put_together_again(index):
    view = View(index)
    assert [whole(view, document.id) for document in DOCUMENTS] == DOCUMENTS
    assert list(whole_documents(view)) == DOCUMENTS
    assert whole(view, "nothing") is None
    assert whole(view, "a#0") is None


@pytest.mark.parametrize("how", ["window:5:0", "sentences"])
def test_what_is_between_passages_comes_back_as_spaces(folder, bag, how):
    text = "One two three. \n Four five\tsix seven eight nine ten! Eleven twelve thirteen. \n\nYes."
    build_index([Document("d", text)], folder, encoder=bag, passages=how)
    again = whole(View(folder), "d").text
    assert (len(again), again.split()) == (len(text), text.split())
    assert all(again[row.start :].startswith(row.text) for row in held(folder))


def test_an_index_moves_over_to_a_model_that_reads_less(index, bag, bag_class):
    for how, length in ((HOW, 7), ("window:6:2", 9)):
        build_index(DOCUMENTS, index, encoder=bag, passages=how, overwrite=True)
        other = bag_class(max_length=length, name="other")
        report = reencode(index, encoder=other)
        assert (report.passages, report.truncated) == (how, 0)
        assert held(index) == cut(DOCUMENTS, other, how)
        same_as_fresh(index, DOCUMENTS, other, how)


def by_document(searcher, query, k, **how):
    """The first of each document among all rows: what grouping must come to."""
    rows = searcher.search_vectors(query[None], 10_000, group=False, **how)[0]
    best = {}
    for hit in rows:
        best.setdefault(hit.document_id, hit)
    return [(hit.id, hit.score, hit.text) for hit in list(best.values())[:k]]


@pytest.fixture(scope="module")
def many(bag_class, tmp_path_factory):
    """An index of documents of up to thirty passages that share their words."""
    rng, bag = np.random.default_rng(0), bag_class(max_length=LENGTH)
    words = [f"v{n}" for n in range(40)]
    documents = [
        Document(f"d{n}", " ".join(rng.choice(words, rng.integers(1, 120))), "", {"n": n})
        for n in range(60)
    ]
    folder = tmp_path_factory.mktemp("many")
    build_index(documents, folder / "index", encoder=bag, passages="window:6:2")
    queries = bag.encode_query([" ".join(rng.choice(words, 3)) for _ in range(8)])
    return Searcher(folder / "index", encoder=bag), queries


@pytest.mark.parametrize("k", [1, 2, 5, 9, 100])
@pytest.mark.parametrize("how", [{}, {"where": "n < 40"}, {"min_score": 0.1}, {"where": "n < 0"}])
def test_hits_are_the_best_passages_of_different_documents(many, k, how):
    searcher, queries = many
    results = searcher.search_vectors(queries, k, **how)
    for query, hits in zip(queries, results, strict=True):
        expected = by_document(searcher, query, k, **how)
        assert [(hit.id, hit.score, hit.text) for hit in hits] == expected
        assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


def test_without_grouping_hits_are_the_nearest_passages(many):
    searcher, queries = many
    everything = searcher.search_vectors(queries, 10_000, group=False)
    assert {len(hits) for hits in everything} == {len(searcher)}
    nearest = searcher.search_vectors(queries, 7, group=False)
    assert nearest == [hits[:7] for hits in everything]
    assert any(len({hit.document_id for hit in hits}) < 7 for hits in nearest)


def test_a_hit_says_where_its_passage_begins(index, bag):
    searcher = Searcher(index, encoder=bag)
    hit, *rest = searcher.search("wc50 wc51")
    source = DOCUMENTS[2]
    assert (hit.parent, hit.document_id) == ("c", "c")
    assert source.text[hit.start :].startswith(hit.text)
    record = hit.to_dict()
    assert (record["id"], record["parent"], record["start"]) == (hit.id, "c", hit.start)
    whole_hit = next(each for each in rest if each.id == "b")
    assert (whole_hit.parent, whole_hit.start, whole_hit.document_id) == (None, None, "b")
    assert not {"parent", "start"} & whole_hit.to_dict().keys()
    assert len(searcher.search("wc50")) == len(DOCUMENTS)
    found_near = searcher.search(like="c#1")
    assert sorted(each.document_id for each in found_near) == ["a", "b", "d", "e"]


def test_a_stranger_may_not_choose_how_documents_are_cut(index, bag):
    content = View(index).content
    for said in ("pages", 7, ["none"], None):
        content.source["passages"] = said
        with pytest.raises(IndexCorrupt, match="the manifest says passages="):
            recorded(content)


def test_the_verbs(cli, tmp_path, monkeypatch):
    texts = {"a": " ".join(f"word{n}" for n in range(300)) + " needle" * 300, "b": "a short one"}

    def write(given):
        lines = [json.dumps({"id": name, "text": text}) for name, text in given.items()]
        (tmp_path / "c.jsonl").write_text("\n".join(lines))

    write(texts)
    assert cli("index", "c.jsonl", "--passages", "pages").code == 2
    code, _, err = cli("index", "c.jsonl")
    assert (code, err.splitlines()[1:]) == (
        0,
        [
            "1 of the first 2 documents are longer than the model reads: cut into passages "
            "(--passages none leaves them whole)"
        ],
    )
    hit = json.loads(cli("query", "needle", "-k", "1", "--mode", "dense").out)
    assert (hit["id"], hit["parent"]) == ("a#2", "a")
    assert texts["a"][hit["start"] :].startswith(hit["text"])
    write({"a": "short now", "c": "new"})
    report = json.loads(cli("add", "c.jsonl", "--prune").out)
    assert [report[name] for name in ("added", "changed", "removed")] == [1, 1, 1]
    assert json.loads(cli("delete", "a").out) == {"deleted": 1}
    assert json.loads(cli("query", "word400").out)["id"] == "c"


def test_a_table_shows_the_part_with_the_words_of_the_question(cli, tmp_path, monkeypatch):
    filler = "filler " * 60
    text = f"{filler}here the red fox jumps over {filler}"
    (tmp_path / "c.jsonl").write_text(json.dumps({"id": "a", "text": text}))
    assert cli("index", "c.jsonl").code == 0
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    out = cli("query", "The RED fox?").out
    for word in ("the", "red", "fox"):
        assert f"\x1b[1m{word}\x1b[0m" in out
    assert out.count("…") == 2


FILLER = "some words that fill the line "


@pytest.mark.parametrize(
    ("line", "shown", "marked"),
    [
        ("a red fox", "a red fox", ["red", "fox"]),
        (FILLER * 9 + "a red fox", "…that fill the line a red fox", ["red", "fox"]),
        ("red " + FILLER * 9, "red some words that fill the l…", ["red"]),
        (FILLER * 9, "some words that fill the line…", []),
        # Both words are better than one, and a rare one than a common one.
        (f"red {FILLER * 5}red fox {FILLER}", "…the line red fox some words t…", ["red", "fox"]),
        (f"red red red {FILLER * 5}fox {FILLER}", "…the line fox some words that…", ["fox"]),
        ("雪" + FILLER * 9, "雪some words that fill the line…", ["雪"]),
    ],
)
def test_an_excerpt_is_the_part_with_most_words_of_the_question(line, shown, marked):
    part, spans = excerpt(line, "Red FOX 雪?", 31)
    assert part == shown
    assert len(part) <= 31
    assert [part[start:end] for start, end in spans] == marked
