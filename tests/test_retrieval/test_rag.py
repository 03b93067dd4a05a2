"""Hits to answers: pointed at or written, with support or without, whole or in pieces."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import Answer, Citation, Finding, Hit, QueryError, Span
from retrieval.generating import make_prompt
from retrieval.rag import answer_all, stream_answer

HOWS = ["quote", "cite", "free"]
TEXTS = ["The tower is 330 metres tall.", "It has 330 Metres. Is it unanswerable?", "Nothing."]
HITS = [Hit(n, f"d{n}", 0.5, text, "", {}) for n, text in enumerate(TEXTS, 1)]
BOTH = [Citation("d1", 13, 23, "330 metres"), Citation("d2", 7, 17, "330 Metres")]


class Writer:
    """Writes the same for every prompt."""

    def __init__(self, text):
        self.text, self.asked = text, []

    def generate(self, prompts):
        self.asked += prompts
        return [self.text] * len(prompts)


class Streamer(Writer):
    """Writes in pieces, and knows how many have been taken."""

    def __init__(self, *pieces):
        super().__init__("".join(pieces))
        self.pieces, self.taken = pieces, 0

    def stream(self, prompt):
        for piece in self.pieces:
            self.taken += 1
            yield piece


class Pointer:
    """Points at each place where a passage has the question."""

    threshold = 0.5

    def __init__(self, confidence=0.75):
        self.confidence, self.asked = confidence, []

    def read(self, questions, passages):
        self.asked += questions
        return [self._one(*pair) for pair in zip(questions, passages, strict=True)]

    def _one(self, question, passages):
        found = [(n, re.search(question, text, re.I)) for n, text in enumerate(passages)]
        spans = [Span(n, *match.span()) for n, match in found if match]
        return Finding(spans, self.confidence) if spans else None


def ask(generator, question="q", found=HITS, **how):
    return answer_all(generator, [question], [found], **how)[0]


def pieces_of(generator, question="q", found=HITS, **how):
    """What was streamed, and the answer in the end."""
    pieces, running = [], stream_answer(generator, question, found, **how)
    while True:
        try:
            pieces.append(next(running))
        except StopIteration as end:
            return pieces, end.value


@pytest.mark.parametrize(
    ("written", "quote", "cited", "free", "support", "citations"),
    [
        (" 330 METRES.\n", "330 metres", "330 METRES.", "330 METRES.", 1.0, BOTH),
        ("330 metres high", None, "330 metres high", "330 metres high", 2 / 3, BOTH),
        ("330 feet in height", None, None, "330 feet in height", 1 / 4, []),
        ("👍", None, None, "👍", 0.0, []),
        (" \n", None, None, None, 0.0, []),
        ("", None, None, None, 0.0, []),
    ],
)
def test_what_is_written_is_given_as_far_as_passages_support_it(
    written, quote, cited, free, support, citations
):
    for how, text in zip(HOWS, (quote, cited, free), strict=True):
        kept = citations if text else []
        assert ask(Writer(written), how=how) == Answer(text, support, kept, HITS)
    assert ask(Writer(written)) == ask(Writer(written), how="cite")


@pytest.mark.parametrize("how", ["quote", "cite"])
@pytest.mark.parametrize("written", ["unanswerable", " UNANSWERABLE . ", "Unanswerable.\n"])
def test_unanswerable_is_no_answer_even_where_a_passage_has_the_word(how, written):
    answer = ask(Writer(written), how=how)
    assert (answer.text, answer.citations, answer.hits) == (None, [], HITS)


@pytest.mark.parametrize("how", ["auto", *HOWS])
def test_a_reader_answers_with_what_it_points_at(how):
    expected = Answer("330 metres", 0.75, BOTH, HITS)
    assert ask(Pointer(), "330 metres", how=how) == expected
    assert ask(Pointer(), "Nothing", how=how).citations == [Citation("d3", 0, 7, "Nothing")]
    assert ask(Pointer(), "moon", how=how) == Answer(None, 0.0, [], HITS)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize(
    ("confidence", "threshold", "given"),
    [(0.5, "auto", True), (0.49, "auto", False), (0.2, 0.2, True), (0.9, 0.91, False)],
)
def test_a_reader_is_held_to_its_own_threshold_unless_told(how, confidence, threshold, given):
    answer = ask(Pointer(confidence), "330 metres", how=how, threshold=threshold)
    expected = ("330 metres", BOTH) if given else (None, [])
    assert (answer.text, answer.citations) == expected
    assert (answer.confidence, answer.hits) == (confidence, HITS)


@pytest.mark.parametrize("how", ["cite", "free"])
def test_a_writer_is_held_to_the_share_of_words_with_support(how):
    writer = Writer("330 metres high")
    assert ask(writer, how=how, threshold=2 / 3) == ask(writer, how=how)
    assert ask(writer, how=how, threshold=0.67) == Answer(None, 2 / 3, [], HITS)


GENERATORS = [Writer("a"), Streamer("a"), Pointer(), None]
NUMBER = "the threshold must be 'auto' or a number in 0 … 1, got"


@pytest.mark.parametrize("generator", GENERATORS, ids=lambda each: type(each).__name__)
@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"how": "best"}, "unknown way to answer 'best'; known: auto, quote, cite, free"),
        ({"threshold": -0.1}, "the threshold must be in 0 … 1, got -0.1"),
        ({"threshold": float("nan")}, "the threshold must be in 0 … 1, got nan"),
        ({"threshold": "0.5"}, f"{NUMBER} '0.5'"),
        ({"threshold": True}, f"{NUMBER} True"),
        ({"threshold": None}, f"{NUMBER} None"),
    ],
    ids=str,
)
def test_an_unknown_way_or_threshold_is_refused_before_anything_is_asked(generator, how, message):
    for found in ([], HITS) if generator else ([],):
        for call in (ask, stream_answer):
            with pytest.raises(QueryError) as caught:
                call(generator, "q", found, **how)
            assert str(caught.value) == message
    assert not getattr(generator, "asked", [])


@pytest.mark.parametrize("how", ["auto", *HOWS])
@pytest.mark.parametrize("generator", GENERATORS, ids=lambda each: type(each).__name__)
def test_without_hits_there_is_no_answer_and_nobody_is_asked(generator, how):
    nothing = Answer(None, 0.0, [], [])
    assert answer_all(generator, ["q", "r"], [[], []], how=how) == [nothing, nothing]
    assert pieces_of(generator, found=[], how=how) == ([], nothing)
    assert not getattr(generator, "asked", [])
    assert not getattr(generator, "taken", 0)


WRITTEN = [
    ("330 metres",),
    (" ", "\n330 ", "", "metres", "  ", "\n"),
    ("3", "30", " \u2028", "\t ", "Metres tall. \n "),
    ("very ", "high"),
    (" \n ", ""),
    (),
]


@pytest.mark.parametrize("threshold", ["auto", 0, 0.5, 1])
@pytest.mark.parametrize("how", ["auto", *HOWS])
@pytest.mark.parametrize("pieces", WRITTEN)
def test_a_stream_is_the_whole_in_pieces(pieces, how, threshold):
    for kind in (Streamer(*pieces), Writer("".join(pieces)), Pointer(0.75)):
        for question in ("330", "moon"):
            expected = ask(kind, question, how=how, threshold=threshold)
            streamed, answer = pieces_of(kind, question, how=how, threshold=threshold)
            assert answer == expected
            assert "".join(streamed) == (expected.text or "")
            assert all(streamed)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text("330 \n\t\u2028\x1fé"), max_size=8), st.sampled_from(HOWS))
def test_a_stream_is_the_whole_wherever_its_pieces_part(pieces, how):
    streamed, answer = pieces_of(Streamer(*pieces), how=how)
    assert answer == ask(Writer("".join(pieces)), how=how)
    assert "".join(streamed) == (answer.text or "")


def test_free_text_comes_as_it_is_written_and_other_text_when_it_is_whole():
    free = Streamer(" 330", " ", "metres", " high")
    running = stream_answer(free, "q", HITS, how="free")
    taken = [(next(running), free.taken) for _ in range(3)]
    assert taken == [("330", 1), (" metres", 3), (" high", 4)]
    for how in ({"how": "cite"}, {"how": "free", "threshold": 0.1}):
        held = Streamer("very ", "high")
        assert pieces_of(held, **how) == ([], Answer(None, 0.0, [], HITS))
        assert held.taken == 0  # written whole


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("make", [Pointer, lambda: Writer("330 metres")], ids=["points", "writes"])
def test_questions_together_are_answered_as_one_by_one(how, make):
    questions = ["330", "tower", "moon", "Nothing", "330"]
    found = [HITS, HITS[1:], [], HITS[:1], HITS[::-1]]
    together = make()
    answers = answer_all(together, questions, found, how=how)
    assert answers == [
        ask(make(), q, hits, how=how) for q, hits in zip(questions, found, strict=True)
    ]
    assert [answer.hits for answer in answers] == found
    assert len(together.asked) == 4


def test_the_prompt_has_the_titles_before_the_texts():
    titled = Hit(1, "t", 0.0, "text", "Title", {})
    writer = Writer("text")
    ask(writer, "why?", [titled, HITS[2]])
    assert writer.asked == [make_prompt(writer, "why?", ["Title: text", "Nothing."])]
    assert "\n[1] Title: text\n[2] Nothing.\n" in writer.asked[0]


class Fixed(Pointer):
    """Points where the question says."""

    def _one(self, question, passages):
        return Finding(question, 1.0)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=3), st.sampled_from(HOWS), st.data())
def test_a_quote_is_the_slice_that_it_names_whatever_the_text(texts, how, data):
    spans = []
    for _ in range(data.draw(st.integers(1, 3))):
        passage = data.draw(st.integers(0, len(texts) - 1))
        ends = st.integers(0, len(texts[passage]))
        spans.append(Span(passage, *sorted((data.draw(ends), data.draw(ends)))))
    found = [Hit(n, f"d{n}", 0.0, text, "", {}) for n, text in enumerate(texts)]
    answer = ask(Fixed(), spans, found, how=how)
    assert answer.citations == [
        Citation(f"d{s.passage}", s.start, s.end, texts[s.passage][s.start : s.end]) for s in spans
    ]
    assert answer.text == answer.citations[0].quote
