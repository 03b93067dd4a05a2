"""Index folders that cannot serve: one line, the right exit code, no harm."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path

import pytest

import indexes.growing
from indexes.lock import WriterLock

ROWS = [{"id": str(number), "text": f"word{number} in a text"} for number in range(600)]


@pytest.fixture
def corpus(cli) -> Path:
    path = Path("corpus.jsonl")
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


@pytest.fixture
def index(cli, corpus) -> Path:
    """A finished index under the default name."""
    assert cli("index", corpus).code == 0
    return Path("retrieval-index")


def rewrite(folder: Path, **changes) -> None:
    """Change the manifest and give it the checksum that fits."""
    path = folder / "MANIFEST"
    record = json.loads(path.read_bytes().splitlines()[0]) | changes
    text = json.dumps(record).encode()
    path.write_bytes(b"%s\n%s\n" % (text, hashlib.sha256(text).hexdigest().encode()))


NOT_AN_INDEX = [
    ("nowhere", "nowhere does not exist; make an index: retrieval index FILE -i nowhere"),
    (
        "folder",
        "folder is not an index folder (it has no MANIFEST); "
        "make an index: retrieval index FILE -i folder",
    ),
]


@pytest.mark.parametrize("verb", [["query", "word"], ["info"]], ids=["query", "info"])
@pytest.mark.parametrize(("name", "message"), NOT_AN_INDEX)
def test_a_folder_that_is_no_index_is_refused(name, message, verb, cli):
    Path("folder").mkdir()
    Path("folder/notes.txt").write_text("mine")
    assert cli(*verb, "-i", name) == (1, "", f"retrieval: {message}\n")


@pytest.mark.parametrize("verb", [["query", "word"], ["info"]], ids=["query", "info"])
def test_a_file_in_place_of_the_folder_is_not_said_to_be_missing(verb, cli):
    Path("file").write_text("mine")
    code, out, err = cli(*verb, "-i", "file")
    assert (code, out) == (1, "")
    assert re.fullmatch(r"retrieval: file is not an index folder.*\n", err)


@pytest.mark.parametrize("options", [[], ["--overwrite"]], ids=["", "overwrite"])
@pytest.mark.parametrize("name", ["folder", "file"])
def test_what_somebody_else_keeps_in_the_folder_is_not_built_over(name, options, cli, corpus):
    Path("folder").mkdir()
    Path("folder/notes.txt").write_text("mine")
    Path("file").write_text("mine")
    message = f"{name} is not empty and not an index folder; give another with -i"
    assert cli("index", corpus, "-i", name, *options) == (1, "", f"retrieval: {message}\n")
    assert Path("file").read_text() == Path("folder/notes.txt").read_text() == "mine"
    assert os.listdir("folder") == ["notes.txt"]


def test_an_index_is_not_built_over_unless_it_is_asked_for(cli, corpus, index):
    message = (
        f"{index} already holds an index; give another folder with -i, or build it anew "
        "with --overwrite (the old one answers until the new one is complete)"
    )
    assert cli("index", corpus) == (1, "", f"retrieval: {message}\n")
    assert cli("index", corpus, "--overwrite").code == 0


@pytest.mark.parametrize(
    "verb", [["query", "word"], ["info"], ["index", "corpus.jsonl"]], ids=" ".join
)
def test_an_index_of_a_newer_format_is_refused_by_every_verb(verb, cli, index):
    rewrite(index, format=2)
    message = f"{index} is in format 2; this version reads 1: upgrade miniformer-retrieval"
    assert cli(*verb) == (1, "", f"retrieval: {message}\n")


@pytest.mark.parametrize("verb", [["query", "word"], ["info"]], ids=" ".join)
def test_a_flipped_bit_in_the_manifest_is_noticed(verb, cli, index, flip):
    flip(index / "MANIFEST", 40)
    message = (
        f"{index}/MANIFEST is damaged: its content does not match its checksum; restore the "
        "folder from a copy, or remove it and build the index again"
    )
    assert cli(*verb) == (1, "", f"retrieval: {message}\n")


@pytest.mark.parametrize("suffix", ["docs", "vec"])
def test_a_flipped_bit_in_a_row_is_noticed_when_the_row_is_found(suffix, cli, index, flip):
    (path,) = index.glob(f"*.{suffix}")
    flip(path, path.stat().st_size // 600 * 7 + 3)  # in the eighth row
    message = (
        f"{path} is damaged: its content does not match its checksum; "
        "restore it from a copy or build the index again"
    )
    assert cli("query", "word7", "-k", "600") == (1, "", f"retrieval: {message}\n")


def test_a_file_that_has_lost_its_end_is_noticed_when_the_index_is_opened(cli, index):
    (path,) = index.glob("*.docs")
    size = path.stat().st_size
    os.truncate(path, size - 1)
    message = f"{path} is damaged: it has {size - 1} bytes, the manifest says {size}"
    for verb in (["query", "word"], ["info"]):
        assert cli(*verb) == (1, "", f"retrieval: {message}\n")


@pytest.fixture
def interrupt(cli, named_bag, monkeypatch):
    """Run a command and interrupt it after 512 rows."""

    def call(*arguments) -> None:
        encode, calls = named_bag.encode_document, []

        def encode_twice(self, texts):
            calls.append(texts)
            if len(calls) == 3:
                raise KeyboardInterrupt
            return encode(self, texts)

        with monkeypatch.context() as patch:
            patch.setattr(named_bag, "encode_document", encode_twice)
            code, out, err = cli(*arguments)
        assert (code, out) == (130, "")
        assert err.strip() == "retrieval: interrupted; what was kept goes on with the same command"

    return call


@pytest.fixture
def interrupted(interrupt, corpus) -> Path:
    """The folder of a build that was interrupted after 512 of 600 rows."""
    interrupt("index", corpus)
    return Path("retrieval-index")


@pytest.mark.parametrize("verb", [["query", "word"], ["info"]], ids=" ".join)
def test_an_unfinished_build_says_so(verb, cli, interrupted):
    message = (
        f"{interrupted} is not finished (512 rows so far); run the same command again to go on"
    )
    assert cli(*verb) == (1, "", f"retrieval: {message}\n")


def test_an_unfinished_build_goes_on_with_the_same_command(cli, corpus, interrupted):
    code, out, err = cli("index", corpus)
    assert (code, out) == (0, "")
    assert re.fullmatch(
        rf"600 rows in {interrupted}, \d+\.\d s, [\d,]+ rows/s, "
        r"512 of them encoded before the interruption\n",
        err,
    )
    assert json.loads(cli("query", "word599", "-k", 1).out)["id"] == "599"


def test_a_build_goes_on_that_was_interrupted_while_a_row_was_written(cli, corpus, monkeypatch):
    # A signal arrives between any two lines of Python: here in the second window of 256 rows,
    # where the running hashes know a row that the list of rows does not.
    checksum, calls = indexes.growing.row_crc, []

    def checksum_until(payload, vector):
        calls.append(payload)
        if len(calls) == 300:
            raise KeyboardInterrupt
        return checksum(payload, vector)

    with monkeypatch.context() as patch:
        patch.setattr("indexes.growing.row_crc", checksum_until)
        assert cli("index", corpus).code == 130
    code, _, err = cli("index", corpus)
    assert (code, err[:4]) == (0, "600 ")
    assert json.loads(cli("query", "word599", "-k", 1).out)["id"] == "599"


def test_the_rate_of_a_resumed_build_is_not_negative(cli, corpus, interrupt):
    lines = corpus.read_text().splitlines(keepends=True)[:300]
    corpus.write_text("".join(lines * 2))  # of each id only the last row stays
    command = ("index", corpus, "--on-duplicate", "last")
    interrupt(*command)
    code, _, err = cli(*command)
    assert code == 0
    assert re.match(r"300 rows in \S+, \d+\.\d s, [\d,]+ rows/s, ", err)


def test_another_corpus_does_not_go_on_with_an_unfinished_build(cli, interrupted):
    Path("other.jsonl").write_text('{"id":"0","text":"another text"}\n')
    message = (
        f"{interrupted} holds an unfinished build of another source or with other options: "
        "other.jsonl, line 1 where it has row 1; run the command that began it, "
        "or start over with --overwrite"
    )
    assert cli("index", "other.jsonl") == (1, "", f"retrieval: {message}\n")
    assert cli("index", "other.jsonl", "--overwrite").code == 0


def test_a_folder_that_another_process_writes_to_is_refused(cli, corpus):
    Path("busy").mkdir()
    lock = WriterLock(Path("busy"))
    try:
        code, out, err = cli("index", corpus, "-i", "busy")
    finally:
        lock.release()
    holder = rf"process {os.getpid()} on \S+"
    assert (code, out) == (1, "")
    assert re.fullmatch(rf"retrieval: busy is being written by {holder}; wait until it ends\n", err)


def test_a_folder_that_may_not_be_written_to_is_refused(cli, corpus):
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        shutil.copy(corpus, place)
        place.chmod(0o555)
        try:
            if os.geteuid() == 0:
                os.seteuid(65_534)
            found = cli("index", place / corpus.name, "-i", place / "index")
        finally:
            os.seteuid(os.getuid())
        message = (
            f"cannot write to {place}/index: Permission denied; "
            "choose a folder that you may write to, with -i"
        )
        assert found == (1, "", f"retrieval: {message}\n")
        assert os.listdir(place) == [corpus.name]
    finally:
        place.chmod(0o755)
        shutil.rmtree(place)
