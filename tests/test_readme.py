"""The README says what is true: its tree, its code, its commands, its model table."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

LISTED = ("miniformer", "indexes", "retrieval", "examples", "benchmarks", "tests")
UNLISTED = {"__init__.py", "__main__.py", "__pycache__", "py.typed", "conftest.py", "README.md"}


@pytest.fixture(scope="module")
def readme(root):
    return (root / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S)
    return [block for name, block in fenced if name == language]


@pytest.fixture(scope="module")
def corpus_folder(root, tmp_path_factory):
    """A folder with the two files that the README's examples read."""
    folder = tmp_path_factory.mktemp("readme")
    passages = pq.read_table(root / "examples/data/peps.parquet")
    decorators = passages.filter(passages["pep"].to_numpy() == 318)
    pq.write_table(decorators.slice(0, 20), folder / "corpus.parquet")
    rows = ['{"id": "a", "text": "The steering council decides on a PEP.", "pep": 13}\n']
    (folder / "more.jsonl").write_text("".join(rows))
    return folder


def listed_paths(tree):
    """The paths that an indented tree names."""
    parents = []
    for line in tree.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        name = line.split()[0]
        parents[depth:] = [name.rstrip("/")]
        yield "/".join(parents)


def test_the_tree_is_the_real_one(readme, root):
    [tree] = blocks(readme, "")
    listed = set(listed_paths(tree))
    missing = [path for path in listed if not (root / path).exists()]
    assert missing == []
    unlisted = [
        str(path.relative_to(root))
        for shelf in LISTED
        for path in (root / shelf).rglob("*")
        if path.suffix in {".py", ""}
        and not UNLISTED & set(path.parts)
        and shelf not in {"tests"}
        and str(path.relative_to(root)) not in listed
    ]
    assert unlisted == []
    tests = {p.name for p in (root / "tests").iterdir() if p.is_dir()} - {"__pycache__"}
    assert tests == {Path(path).name for path in listed if path.startswith("tests/")}


def test_every_line_of_the_tree_says_what_the_file_is_for(readme):
    [tree] = blocks(readme, "")
    assert [line for line in tree.splitlines() if len(line.split()) < 3] == []


def test_the_python_blocks_run(readme, corpus_folder, monkeypatch, capsys):
    monkeypatch.chdir(corpus_folder)
    names = {}
    for block in blocks(readme, "python"):
        exec(compile(block, "README.md", "exec"), names)
    assert names["report"].rows == 20
    assert names["document"].id == names["hit"].id
    assert names["scores"].shape == names["positions"].shape == (2, 5)
    assert names["flat"].ntotal == 20
    assert tuple(names["embeddings"].shape) == (2, 384)
    assert "Decorators" in capsys.readouterr().out


def test_the_shell_blocks_run(readme, corpus_folder):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks(readme, "bash"))],
        cwd=corpus_folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Decorators for Functions and Methods" in done.stdout
    assert '"query": "Who decides on a PEP?", "rank": 1, "id": "a"' in done.stdout
    assert '"rows": 21' in done.stdout
    assert (corpus_folder / "vectors.npy").is_file()


def test_the_json_line_has_the_keys_that_are_printed(readme):
    import json
    from dataclasses import fields

    from retrieval import Answer, Citation, Hit

    hit = Hit(1, "id", 0.5, "text", "title", {})

    line, answer = map(json.loads, blocks(readme, "json"))
    assert list(line) == list(hit.to_dict())
    assert list(answer) == ["question", *Answer(None, 0.0, [], []).to_dict()]
    assert list(answer["citations"][0]) == [field.name for field in fields(Citation)]


def test_the_make_targets_exist(readme, root):
    targets = re.findall(r"^make (\w+)$", "\n".join(blocks(readme, "sh")), re.M)
    assert targets == ["demo", "test"]
    for target in targets:
        subprocess.run(["make", "-n", target], cwd=root, check=True, capture_output=True)
    assert "make test" in (root / ".ci/run").read_text()


def test_the_model_table_counts_right(readme):
    from miniformer import MiniLMModel

    rows = re.findall(r"^\| (\S+-v2)[^|]*\| (\d+) \| ([\d,]+) \|", readme, re.M)
    assert len(rows) == 4
    for name, layers, parameters in rows:
        model = MiniLMModel(num_hidden_layers=int(layers))
        counted = sum(parameter.numel() for parameter in model.parameters())
        assert (name, counted) == (name, int(parameters.replace(",", "")))


def test_every_verb_and_long_option_has_help():
    from retrieval.cli import retrieval

    for name, verb in retrieval.commands.items():
        assert verb.help, name
        undescribed = [
            option.name
            for option in verb.params
            if option.param_type_name == "option" and not option.help and option.name != "top_k"
        ]
        assert undescribed == []
