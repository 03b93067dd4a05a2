"""Adding to an index and deleting from it: what is encoded, what is kept, what is counted."""

import json

import pytest

from indexes import IndexNotFound, View
from retrieval import CorpusError, Document, ModelError, Searcher, build_index
from retrieval.changing import change_index, delete_rows, reencode
from retrieval.report import ChangeReport

TEA = Document("tea", "how to steep tea", "Tea", {"year": 1990})
BIKE = Document("bike", "how to mend a bike", "", {"year": 2001})
CAKE = Document("cake", "how to bake a cake", "", {"year": 2010})
ALL = [TEA, BIKE, CAKE]


@pytest.fixture
def index(tmp_path, bag):
    build_index(ALL, tmp_path / "index", encoder=bag)
    bag.asked.clear()
    return tmp_path / "index"


@pytest.fixture
def change(index, bag):
    """Change the index, and give back how many rows were … and which texts were encoded."""

    def run(documents, **how):
        bag.asked.clear()
        report = change_index(documents, index, encoder=bag, **how)
        counts = report.added, report.changed, report.removed, report.unchanged
        return counts, [text for text in bag.asked if text.startswith("how")]

    return run


def held(index, bag):
    """The documents, once the index and its search agree with a fresh build of them."""
    searcher = Searcher(index, encoder=bag, verify="full")
    documents = list(searcher.documents())
    fresh = index.parent / "fresh"
    build_index(documents or [TEA], fresh, encoder=bag, overwrite=True)
    if documents:
        for query in ("tea", "bake", "how to"):
            ours, theirs = (s.search(query) for s in (searcher, Searcher(fresh, encoder=bag)))
            assert ours == theirs
    return documents


def test_only_what_is_new_is_encoded(index, change, bag):
    new = Document("new", "how to knit")
    assert change([TEA, new, BIKE]) == ((1, 0, 0, 2), ["how to knit"])
    assert held(index, bag) == [*ALL, new]
    generation = View(index).manifest.generation
    assert change([TEA, new, BIKE]) == ((0, 0, 0, 3), [])
    assert View(index).manifest.generation == generation  # nothing to commit


def test_another_text_is_encoded_other_metadata_are_not(index, change, bag):
    tea = Document("tea", TEA.text, TEA.title, {"year": 1991})
    bike = Document("bike", "how to ride a bike", "", BIKE.metadata)
    assert change([tea, bike]) == ((0, 2, 0, 0), ["how to ride a bike"])
    assert held(index, bag) == [CAKE, tea, bike]


def test_to_prune_makes_the_index_equal_to_the_source(index, change, bag):
    assert change([CAKE, TEA], prune=True) == ((0, 0, 1, 2), [])
    assert held(index, bag) == [TEA, CAKE]
    with pytest.raises(CorpusError, match="source is empty: to prune by it would remove every row"):
        change([], prune=True)
    assert held(index, bag) == [TEA, CAKE]


def test_a_dry_run_counts_the_same_and_changes_nothing(index, change, bag):
    documents = [TEA, Document("bike", "other"), Document("new", "how")]
    before = {path.name: path.read_bytes() for path in index.iterdir()}
    assert change(documents, prune=True, dry_run=True) == ((1, 1, 1, 1), [])
    assert {path.name: path.read_bytes() for path in index.iterdir()} == before
    assert change(documents, prune=True)[0] == (1, 1, 1, 1)


@pytest.mark.parametrize(("rule", "text"), [("first", "how one"), ("last", "how two")])
def test_of_one_id_the_chosen_row_stays(index, change, bag, rule, text):
    twice = [Document("new", "how one"), Document("new", "how two")]
    assert change(twice, on_duplicate=rule)[0] == (1, 0, 0, 0)
    assert [d.text for d in held(index, bag)][3:] == [text]
    with pytest.raises(CorpusError, match="'tea' has come before"):
        change([TEA, TEA])


def test_columns_keep_their_types(index, change, bag):
    wider = Document("half", "how half", "", {"year": 1.5, "tags": ["a", "b"]})
    change([wider])
    assert View(index).content.schema == [
        {"name": "year", "type": "double"},
        {"name": "tags", "type": "list<item: string>"},
    ]
    assert held(index, bag)[0].metadata == {"year": 1990.0}
    with pytest.raises(CorpusError, match="'year' is string, but it was double before"):
        change([Document("x", "how", "", {"year": "MMXX"})])
    assert change([Document("x", "how", "", {"year": "MMXX"})], on_error="skip")[0] == (0,) * 4


def test_counts_of_truncation_stay_true(tmp_path, bag_class):
    bag, folder = bag_class(max_length=4), tmp_path / "index"
    given = [Document("a", "one two three four five six"), BIKE]
    build_index(given, folder, encoder=bag, passages="none")

    def truncated():
        source = View(folder).content.source
        return source["truncated"], source["truncated_tokens"]

    assert truncated() == (2, 3)
    change_index([Document("a", "short"), Document("b", "1 2 3 4 5 6 7")], folder, encoder=bag)
    assert truncated() == (2, 4)
    change_index([Document("b", "1 2 3 4 5 6 7", "", {"n": 1})], folder, encoder=bag)
    assert truncated() == (2, 4)  # the vector was kept, and so was what it lacks
    change_index([BIKE], folder, encoder=bag, prune=True)
    assert truncated() == (1, 1)


def test_an_interruption_keeps_what_was_encoded_and_removes_nothing(index, bag):
    def source():
        yield Document("new", "how to knit")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change_index(source(), index, encoder=bag, prune=True)
    assert [d.id for d in held(index, bag)] == ["tea", "bike", "cake"]  # nothing was encoded yet

    def longer():
        yield from (Document(str(n), f"how {n}") for n in range(300))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        change_index(longer(), index, encoder=bag, prune=True)
    assert [d.id for d in held(index, bag)] == ["tea", "bike", "cake", *map(str, range(256))]


def test_rows_of_another_model_are_refused(index, bag_class):
    with pytest.raises(ModelError, match="retrieval compact --model"):
        change_index([TEA], index, encoder=bag_class(name="other"))


def test_deleting(index, bag):
    assert delete_rows(index, ["bike", "nothing"]) == 1
    assert held(index, bag) == [TEA, CAKE]
    generation = View(index).manifest.generation
    assert delete_rows(index, ["bike", "\ud800"]) == 0  # what is no text is no id either
    assert View(index).manifest.generation == generation


def test_an_index_moves_over_to_another_model(index, bag, bag_class):
    delete_rows(index, ["bike"])
    reader = Searcher(index, encoder=bag)
    other = bag_class(dim=16, name="other")
    reencode(index, encoder=other)
    assert held(index, other) == [TEA, CAKE]
    assert [hit.id for hit in reader.search("tea")] == ["tea", "cake"]  # as it was opened
    with pytest.raises(ModelError, match="built with"):
        reader.refresh()
    assert [hit.id for hit in reader.search("tea")] == ["tea", "cake"]


def test_a_searcher_moves_on_when_it_is_told_to(index, bag):
    searcher = Searcher(index, encoder=bag)
    assert not searcher.refresh()
    delete_rows(index, ["tea"])
    assert [hit.id for hit in searcher.search("tea", 1)] == ["tea"]
    assert searcher.refresh()
    assert "tea" not in searcher
    assert len(searcher.search("tea")) == 2


def test_the_verbs(cli, tmp_path):
    rows = [{"id": d.id, "text": d.text, **d.metadata} for d in ALL]
    some = [rows[0], {"id": "new", "text": "how to knit"}]
    for name, chosen in (("all", rows), ("some", some)):
        lines = "".join(json.dumps(row) + "\n" for row in chosen)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    assert "make an index: retrieval index" in cli("add", "all.jsonl").err
    assert cli("index", "all.jsonl").code == 0
    report = json.loads(cli("add", "some.jsonl", "--prune", "--dry-run").out)
    counts = {"added": 1, "changed": 0, "removed": 2, "unchanged": 1, "skipped": 0}
    assert report == {**report, **counts, "dry_run": True}
    done = json.loads(cli("add", "some.jsonl", "--prune").out)
    assert done == {**done, **counts, "dry_run": False}
    assert set(done) == {*ChangeReport.__annotations__, "dry_run"}
    assert json.loads(cli("delete", "tea", "none").out) == {"deleted": 1}
    assert json.loads(cli("delete", "-", stdin=b"none\nnew\n").out) == {"deleted": 1}
    assert cli("delete").code == 2
    assert json.loads(cli("compact").out)["rows"] == 0
    assert cli("compact", "--max-length", "8").code == 2
    with pytest.raises(IndexNotFound):
        delete_rows(tmp_path / "elsewhere", ["x"])
