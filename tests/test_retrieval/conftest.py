"""The command line in process, with a stand-in for the model."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from retrieval import Document, Searcher, build_index


class Result(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def named_bag(bag_class):
    """The stand-in encoder, made by name as the command line makes the real one."""

    class NamedBag(bag_class):
        def __init__(self, model="bag", *, max_length=None, **how):
            super().__init__(max_length=max_length or 256)

        @classmethod
        def from_record(cls, record, **how):
            return cls(max_length=record["max_length"])

    return NamedBag


@pytest.fixture
def real_cli(monkeypatch, tmp_path, capsysbinary) -> Callable[..., Result]:
    """``retrieval ...`` in this process and an empty working folder."""
    from retrieval.cli import run

    monkeypatch.chdir(tmp_path)

    def call(*arguments, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capsysbinary.readouterr()
        code = run([str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return Result(code, out.decode(), err.decode())

    return call


@pytest.fixture
def cli(real_cli, named_bag, monkeypatch) -> Callable[..., Result]:
    """``retrieval ...`` in this process, with the stand-in encoder."""
    monkeypatch.setattr("retrieval.assembly.Encoder", named_bag)
    return real_cli


@pytest.fixture
def searcher(tmp_path, bag) -> Callable[..., Searcher]:
    """Documents, given as texts or as Documents, in an index that is open for questions."""

    def build(*given: str | Document, **options) -> Searcher:
        documents = [
            item if isinstance(item, Document) else Document(str(number), item)
            for number, item in enumerate(given)
        ]
        build_index(documents, tmp_path / "index", encoder=bag)
        return Searcher(tmp_path / "index", encoder=bag, **options)

    return build


@pytest.fixture(scope="session")
def flip() -> Callable[[Path, int], None]:
    """Change one bit of a file."""

    def change(path: Path, position: int) -> None:
        content = bytearray(path.read_bytes())
        content[position] ^= 1
        path.write_bytes(content)

    return change
