"""Questions to answers, in Python and on the command line."""

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from indexes import Content, IndexWriter
from miniformer.config.model_config import TransformerConfig
from miniformer.model.seq2seq_transformer import Seq2SeqTransformer
from miniformer.train.train_config import POINTING
from miniformer.weights import find_model
from retrieval import Answer, Citation, Finding, QueryError, Searcher, Span
from retrieval.rag import answer_all

CORPUS = [
    {"id": "a", "title": "Apples", "text": "the apple is green and sweet"},
    {"id": "b", "title": "", "text": "the pear is green"},
    {"id": "c", "title": "Cars", "text": "a car has wheels, naïve façade"},
]
QUESTIONS = ["which apple", "the pear", "apple or pear", "car wheels"]


class Colours:
    """Points at what stands behind each "is"."""

    threshold = 0.5

    def read(self, questions, passages):
        return [self._one(texts) for texts in passages]

    def _one(self, texts):
        found = [Span(n, t.index("is ") + 3, len(t)) for n, t in enumerate(texts) if "is " in t]
        return Finding(found, 0.75) if found else None


class Writer:
    """Writes a sentence in pieces."""

    def generate(self, prompts):
        return ["".join(self.stream(prompt)) for prompt in prompts]

    def stream(self, prompt):
        yield from ("it is ", "green", " and\n", "sweet ")


def drained(running):
    """What was streamed, and the answer in the end."""
    text = ""
    while True:
        try:
            text += next(running)
        except StopIteration as end:
            return text, end.value


@pytest.fixture(scope="module")
def pointer(tmp_path_factory):
    """The folder of a small random reader with the real tokenizer."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 30_522, "d_model": 48, "n_heads": 6, "n_layers": 1, "d_ff": 48}
    model = Seq2SeqTransformer(TransformerConfig(**sizes, max_seq_len=384, **POINTING))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    tokenizer = Tokenizer.from_file(str(find_model("all-MiniLM-L6-v2").path / "tokenizer.json"))
    model.save_pretrained(folder := tmp_path_factory.mktemp("pointer"), tokenizer)
    return folder


@pytest.fixture
def asking(cli, monkeypatch):
    """``retrieval ask`` on an index, with a generator in the place of the one that is opened."""

    def call(*arguments, generator=None, corpus=CORPUS, terminal=False):
        if not Path("retrieval-index").exists():
            Path("corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
            assert cli("index", "corpus.jsonl").code == 0
        if generator is not None:
            monkeypatch.setattr("retrieval.readers.open_generator", lambda name, **how: generator)
        monkeypatch.setenv("TERM", "dumb")
        monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
        return cli("ask", *arguments)

    return call


@pytest.mark.parametrize("k", [1, 2, 99])
@pytest.mark.parametrize("make", [Colours, Writer])
@pytest.mark.parametrize("how", [{}, {"answer": "free"}, {"threshold": 0.8, "min_score": 0.3}])
def test_an_answer_is_read_from_the_hits_of_a_search(texts, k, make, how):
    hits = texts.search_batch(QUESTIONS, k, min_score=how.get("min_score"))
    settings = {"how": how.get("answer", "auto"), "threshold": how.get("threshold", "auto")}
    expected = answer_all(make(), QUESTIONS, hits, **settings)
    assert texts.ask_batch(QUESTIONS, k, generator=make(), **how) == expected
    assert [texts.ask(q, k, generator=make(), **how) for q in QUESTIONS] == expected
    for question, answer in zip(QUESTIONS, expected, strict=True):
        streamed = drained(texts.ask_stream(question, k, generator=make(), **how))
        assert streamed == (answer.text or "", answer)


def test_five_passages_are_read_unless_another_number_is_asked_for(searcher):
    ask = partial(searcher(*(f"word{n} is {n}" for n in range(9))).ask, generator=Colours())
    answers = [ask("word3"), ask("word3", 1), ask("word3", 99)]
    assert [len(answer.hits) for answer in answers] == [5, 1, 9]
    assert answers[1].citations == [Citation("3", 9, 10, "3")]


@pytest.mark.parametrize(
    ("question", "how", "message"),
    [
        ("", {}, "question 1 is empty; ask something"),
        ("q", {"k": 0}, "k must be a whole number of at least 1, got 0"),
        ("q", {"answer": "best"}, "unknown way to answer 'best'; known: "),
        ("q", {"threshold": 2}, "the threshold must be in 0 … 1, got 2"),
    ],
)
def test_what_cannot_be_asked_is_refused_at_once(texts, question, how, message):
    for call in (texts.ask, texts.ask_stream):
        with pytest.raises(QueryError, match=f"^{message}"):
            call(question, generator=Colours(), **how)


@pytest.fixture
def texts(searcher):
    return searcher(*(row["text"] for row in CORPUS))


@pytest.fixture
def empty(tmp_path, bag):
    """An index without a row."""
    content = Content(dim=bag.dim, model={"fingerprint": bag.fingerprint})
    with IndexWriter(tmp_path / "empty", content) as writer:
        writer.commit()
    return Searcher(tmp_path / "empty")


def test_no_hits_have_no_answer_and_load_no_generator(texts, empty):
    nothing = Answer(None, 0.0, [], [])
    for searcher, least in ((empty, None), (texts, 1.1)):
        how = {"generator": "nowhere", "min_score": least}
        assert searcher.ask("apple", **how) == nothing
        assert searcher.ask_batch(["apple", "q"], **how) == [nothing, nothing]
        assert drained(searcher.ask_stream("apple", **how)) == ("", nothing)


def test_a_generator_is_loaded_once_by_the_first_of_many_threads(searcher, monkeypatch):
    loaded = []

    def slowly(name, **how):
        loaded.append((name, how))
        time.sleep(0.1)
        return Colours()

    monkeypatch.setattr("retrieval.readers.open_generator", slowly)
    how = {"device": "cpu", "dtype": "float32"}
    shared = searcher("the apple is green", **how)
    with ThreadPoolExecutor(4) as pool:
        names = ["one", Path("one"), "two", "one"] * 2
        answers = list(pool.map(lambda name: shared.ask("apple", generator=name), names))
    assert {answer.text for answer in answers} == {"green"}
    assert sorted(loaded, key=str) == [("one", how), ("two", how)]


def test_four_threads_are_answered_as_one(texts, pointer):
    ask = partial(texts.ask, k=3, generator=pointer, threshold=0)
    alone = [ask(question) for question in QUESTIONS]
    assert all(answer.text for answer in alone)
    assert len({(answer.text, answer.confidence) for answer in alone}) > 1
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, QUESTIONS * 8)) == alone * 8


def test_an_answer_is_one_json_object_in_a_pipe(asking, pointer, named_bag):
    code, out, err = asking("apple", "-k", 99, "--generator", pointer, "--threshold", "0")
    assert (code, err, out.count("\n")) == (0, "", 1)
    answer = json.loads(out)
    assert list(answer) == ["question", "answer", "confidence", "citations", "hits"]
    assert [hit["rank"] for hit in answer["hits"]] == [1, 2, 3]
    with Searcher("retrieval-index", encoder=named_bag()) as searcher:
        same = searcher.ask("apple", generator=pointer, threshold=0)
    assert answer == {"question": "apple", **same.to_dict()}


@pytest.mark.parametrize("options", [["--json"], ["--json", "--stream"]])
def test_json_is_one_object_where_it_is_asked_for_on_a_terminal(asking, options):
    code, out, err = asking("apple", "-k", 1, *options, generator=Colours(), terminal=True)
    answer = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert (answer["answer"], answer["confidence"]) == ("green and sweet", 0.75)
    assert answer["citations"] == [{"id": "a", "start": 13, "end": 28, "quote": "green and sweet"}]


def test_no_answer_is_told_and_is_no_failure(asking, empty):
    code, out, err = asking("car", "-i", "empty", "--generator", "nowhere")
    nothing = {"question": "car", "answer": None, "confidence": 0.0, "citations": [], "hits": []}
    assert (code, err, json.loads(out)) == (0, "", nothing)
    assert json.loads(asking("car", "-k", 1, generator=Colours()).out)["answer"] is None
    told = (0, "The passages do not say (1 read).\n", "")
    assert asking("car", "-k", 1, terminal=True) == told
    assert asking("car", "-k", 1, "--stream", terminal=True) == told


@pytest.mark.parametrize(
    ("options", "terminal"), [([], True), (["--stream"], True), (["--stream"], False)]
)
@pytest.mark.parametrize("how", ["free", "cite"])
def test_an_answer_is_text_with_its_source_and_its_quote_behind_it(asking, options, terminal, how):
    done = asking("apple", "--answer", how, *options, generator=Writer(), terminal=terminal)
    lines = [" ".join(line.split()) for line in done.out.splitlines() if line.strip()]
    assert (done.code, done.err) == (0, "")
    assert lines[:3] == ["it is green and sweet", "confidence 0.80", "source quote"]
    assert "Apples the apple «is green and sweet»" in lines


HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202e \x08\x7f\r\u2066 [bold]kept[/bold]"


@pytest.mark.parametrize("options", [[], ["--json"], ["--stream"]], ids=str)
def test_control_characters_of_documents_never_reach_a_terminal(options, asking):
    row = {"id": f"i{HOSTILE}", "title": f"T{HOSTILE}", "text": f"{HOSTILE} is {HOSTILE}"}
    rows = [row, {**row, "id": f"j{HOSTILE}", "title": ""}]
    code, out, _ = asking(HOSTILE, *options, generator=Colours(), corpus=rows, terminal=True)
    assert (code, "[bold]kept[/bold]" in out) == (0, True)
    assert {c for c in out if ord(c) < 32 or 127 <= ord(c) < 160} == {"\n"}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([""], 2, "Error: the question is empty"),
        ([], 2, "Error: Missing argument 'TEXT'."),
        (["q", "--threshold", "2"], 2, "2.0 is not in the range 0<=x<=1"),
        (["q", "--threshold", "nan"], 2, "nan"),
        (["q", "--answer", "best"], 2, "'auto', 'quote', 'cite', 'free'"),
        (["q", "--generator", "nowhere"], 1, "retrieval: generator 'nowhere': model 'nowhere' "),
        (["q", "-i", "none"], 1, "retrieval: none does not exist; make an index: "),
    ],
    ids=str,
)
def test_what_cannot_be_answered_is_one_line(arguments, code, message, asking):
    done = asking(*arguments)
    assert (done.code, done.out) == (code, "")
    assert message in done.err.splitlines()[-1]
    assert len(done.err.splitlines()) == (4 if code == 2 else 1)
