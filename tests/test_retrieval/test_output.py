"""What the verbs print: JSON lines in a pipe, tables on a terminal, vectors."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

CORPUS = [
    {"id": "a", "title": "Apples", "text": "green fruit from a tree", "n": 1, "day": None},
    {"id": "b", "title": "", "text": "naïve façade 日本語", "n": 2, "day": None},
    {"id": "c", "title": "Cars", "text": "a car on a road " * 40, "n": 3, "day": None},
]


@pytest.fixture
def index(cli) -> Path:
    Path("corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CORPUS))
    assert cli("index", "corpus.jsonl").code == 0
    return Path("retrieval-index")


@pytest.fixture
def terminal(cli, monkeypatch):
    """The command line on a terminal that knows no colours."""
    monkeypatch.setenv("TERM", "dumb")

    def call(*arguments):
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
        return cli(*arguments)

    return call


def test_the_summary_of_a_build_is_one_line_on_standard_error(cli):
    Path("c.jsonl").write_text('{"text":"one"}\n{"text":""}\n')
    code, out, err = cli("index", "c.jsonl", "-i", "folder")
    assert (code, out) == (0, "")
    assert err.startswith("1 rows in folder, ")
    assert err.endswith(" rows/s, 1 skipped\n")
    assert err.count("\n") == 1


def test_texts_that_are_too_long_are_told_and_counted(cli):
    Path("c.jsonl").write_text('{"text":"one two three four five"}\n{"text":"six"}\n')
    code, _, err = cli("index", "c.jsonl", "--max-length", "3", "--passages", "none")
    assert code == 0
    assert err.splitlines()[1:] == [
        "1 texts are longer than the model reads: 2 tokens were left out"
    ]
    info = json.loads(cli("info").out)
    assert (info["truncated"], info["truncated_tokens"]) == (1, 2)


def test_an_index_is_built_from_standard_input(cli):
    assert cli("index", "-", stdin=b'{"id":"x","text":"one"}\n').code == 0
    assert json.loads(cli("query", "one").out)["id"] == "x"


def test_hits_are_json_lines_with_their_keys_in_order(cli, index):
    code, out, err = cli("query", "green apples", "-k", 2)
    assert (code, err) == (0, "")
    first, second = map(json.loads, out.splitlines())
    assert list(first) == ["rank", "id", "score", "text", "title", "metadata"]
    assert first | {"score": None} == {
        "rank": 1,
        "id": "a",
        "score": None,
        "text": "green fruit from a tree",
        "title": "Apples",
        "metadata": {"n": 1, "day": None},
    }
    assert (second["rank"], second["score"] < first["score"] <= 1) == (2, True)


def test_what_is_no_ascii_is_printed_as_it_is(cli, index):
    assert "naïve façade 日本語" in cli("query", "façade", "-k", 1).out


def test_questions_from_standard_input_come_first_in_their_hits(cli, index):
    questions = "car\r\n\n  apples  \n" + "".join(f"word{n}\n" for n in range(70)) + "façade"
    code, out, err = cli("query", "-k", 1, stdin=questions.encode())
    assert (code, err) == (0, "")
    hits = [json.loads(line) for line in out.splitlines()]
    assert list(hits[0]) == ["query", "rank", "id", "score", "text", "title", "metadata"]
    assert [hit["query"] for hit in hits[:2]] == ["car", "apples"]
    assert [hit["id"] for hit in (hits[0], hits[1], hits[-1])] == ["c", "a", "b"]
    assert len(hits) == 73


def test_a_question_on_standard_input_that_is_no_utf8_is_refused_by_its_line(cli, index):
    code, _, err = cli("query", stdin=b"car\n\xff\n")
    assert code == 2
    assert err.endswith("\nError: standard input, line 2: invalid UTF-8\n")


def test_a_lower_score_than_asked_for_leaves_no_lines(cli, index):
    assert cli("query", "apples", "--min-score", "1.1") == (0, "", "")
    first, second = map(json.loads, cli("query", "car", "-k", 2).out.splitlines())
    least = (first["score"] + second["score"]) / 2
    (only,) = map(json.loads, cli("query", "car", "--min-score", least).out.splitlines())
    assert only == first


def test_a_table_on_a_terminal_shows_title_score_and_a_cut_of_the_text(terminal, index):
    code, out, err = terminal("query", "car", "-k", 3)
    assert (code, err) == (0, "")
    score = f"{json.loads(terminal('query', 'car', '-k', 1, '--json').out)['score']:.3f}"
    lines = out.splitlines()
    assert lines[0] == "car"
    assert lines[2].split() == ["score", "title", "text"]
    (row,) = [line for line in lines if "Cars" in line]
    assert row.split()[:3] == ["1", score, "Cars"]
    assert "a car on a road" in row
    assert out.count("road") in (18, 19)  # 300 characters of the 640
    assert "…" in out
    assert " b " in out  # the document without a title goes by its id


def test_no_hits_on_a_terminal_are_told(terminal, index):
    assert terminal("query", "car", "--min-score", "1.1") == (0, "Nothing found for: car\n", "")


def test_json_is_printed_on_a_terminal_when_it_is_asked_for(terminal, index):
    assert json.loads(terminal("query", "car", "-k", 1, "--json").out)["id"] == "c"
    assert json.loads(terminal("info", "--json").out)["rows"] == 3


HOSTILE = "\x1b[31mred\x1b]0;title\x07 \x9b2J \u202egnitnirp \x08\x7f\r\u2066 [bold]kept[/bold]"


@pytest.mark.parametrize("options", [[], ["--json"]], ids=["table", "json"])
def test_control_characters_of_documents_never_reach_a_terminal(options, terminal):
    row = {"id": f"i{HOSTILE}", "title": f"T{HOSTILE}", "text": f"word {HOSTILE}", "tag": HOSTILE}
    untitled = row | {"id": f"j{HOSTILE}", "title": ""}
    Path("c.jsonl").write_text(f"{json.dumps(row)}\n{json.dumps(untitled)}\n")
    assert terminal("index", "c.jsonl").code == 0
    code, out, _ = terminal("query", f"word {HOSTILE}", *options)
    assert code == 0
    assert "[bold]kept[/bold]" in out  # brackets are no markup
    controls = {c for c in out if ord(c) < 32 or 127 <= ord(c) < 160} - {"\n"}
    assert controls == set()


def test_info_has_its_keys_in_order(cli, index):
    info = json.loads(cli("info").out)
    assert list(info) == [
        "rows",
        "skipped",
        "dim",
        "dtype",
        "model",
        "fingerprint",
        "computed_in",
        "device",
        "deterministic",
        "kind",
        "searched",
        "bytes",
        "generation",
        "truncated",
        "truncated_tokens",
    ]
    sizes = [path.stat().st_size for path in index.iterdir() if path.name[0] == "0"]
    assert info == {
        "rows": 3,
        "skipped": 0,
        "dim": 32,
        "dtype": "float32",
        "model": "NamedBag",
        "fingerprint": "bag-32-256",
        "computed_in": None,
        "device": None,
        "deterministic": False,
        "kind": "auto",
        "searched": "exactly",
        "bytes": sum(sizes),
        "generation": 1,
        "truncated": 0,
        "truncated_tokens": 0,
    }


def test_info_on_a_terminal_is_a_table_of_the_same_facts(terminal, index):
    lines = terminal("info").out.splitlines()
    pairs = [line.split() for line in lines if line.strip()]
    assert pairs[0] == ["rows", "3"]
    assert [name for name, _ in pairs] == list(json.loads(terminal("info", "--json").out))


def test_the_folder_comes_from_the_environment_unless_it_is_given(cli, index, monkeypatch):
    index.rename("elsewhere")
    monkeypatch.setenv("RETRIEVAL_INDEX", "elsewhere")
    assert json.loads(cli("info").out)["rows"] == 3
    assert json.loads(cli("query", "car", "-k", 1).out)["id"] == "c"
    assert cli("info", "-i", "nowhere").code == 1
    assert cli("index", "corpus.jsonl").code == 1
    assert cli("index", "corpus.jsonl", "-i", "new").code == 0


def test_embed_prints_a_vector_for_each_document_and_writes_the_same_to_a_matrix(cli, bag):
    Path("corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CORPUS))
    code, out, err = cli("embed", "corpus.jsonl")
    assert (code, err) == (0, "")
    records = [json.loads(line) for line in out.splitlines()]
    assert [list(record) for record in records] == [["id", "vector"]] * 3
    assert [record["id"] for record in records] == ["a", "b", "c"]
    assert cli("embed", "corpus.jsonl", "-o", "m.npy") == (
        0,
        "",
        "3 vectors of 32 numbers in m.npy\n",
    )
    matrix = np.load("m.npy")
    assert matrix.dtype == np.float32
    np.testing.assert_array_equal(np.float32([record["vector"] for record in records]), matrix)
    np.testing.assert_array_equal(
        matrix, bag.encode_query([f"{row['title']} {row['text']}".strip() for row in CORPUS])
    )


@pytest.mark.parametrize("source", ["lines.txt", "-"])
def test_embed_reads_lines_of_text(source, cli, bag):
    content = "one\r\nzwei Wörter\n\nlast".encode()
    Path("lines.txt").write_bytes(content)
    _, out, _ = cli("embed", source, stdin=content)
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["id"] for record in records] == ["1", "2", "3", "4"]
    vectors = bag.encode_query(["one", "zwei Wörter", "", "last"])
    np.testing.assert_array_equal(np.float32([record["vector"] for record in records]), vectors)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "c.jsonl",
            b'{"text":"one"}\n' * 300 + b"2\n",
            "c.jsonl, line 301: not a JSON object: found int; mend it, or pass --on-error skip",
        ),
        ("c.txt", b"one\n" * 300 + b"\xff\n", "c.txt, line 301: invalid UTF-8"),
    ],
)
def test_embed_that_fails_leaves_no_file(name, content, message, cli, tmp_path):
    Path(name).write_bytes(content)
    assert cli("embed", name, "-o", "m.npy") == (1, "", f"retrieval: {message}\n")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_embed_names_a_file_that_is_not_there_as_index_does(cli):
    for name in ("none.jsonl", "none.txt"):
        assert cli("embed", name) == (1, "", f"retrieval: {name}: no such file\n")
