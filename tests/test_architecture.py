"""The rules that keep the three shelves apart and small."""

import ast
import io
import re
import subprocess
import sys
import tokenize

import pytest

SHELVES = ("miniformer", "indexes", "retrieval")
STORE = {"numpy", "faiss", "pyarrow", "indexes"}

# What a module may import besides the standard library; the longest matching prefix decides.
MAY_IMPORT = {
    "indexes": STORE,
    "miniformer": {"miniformer"},
    "miniformer.weights": {"huggingface_hub"},
    "miniformer.config": {"miniformer.config"},
    "miniformer.model": {"torch", "miniformer.model", "miniformer.config"},
    "miniformer.model.pretrained": {
        *("torch", "safetensors", "miniformer.model", "miniformer.config", "miniformer.weights")
    },
    "miniformer.model.export": {"torch", "miniformer.model"},
    "miniformer.visualization": {
        *("torch", "numpy", "matplotlib", "sklearn"),
        *("miniformer.visualization", "miniformer.model"),
    },
    "miniformer.minilm": {
        *("torch", "numpy", "tokenizers", "safetensors"),
        *("miniformer.minilm", "miniformer.weights", "miniformer.model.attention"),
        *("miniformer.model.masks", "miniformer.model.feedforward", "miniformer.model.dropout"),
    },
    "miniformer.train": {
        *(
            "torch",
            "lightning",
            "numpy",
            "safetensors",
            "tokenizers",
            "transformers",
            "pyarrow",
            "rich",
        ),
        *("miniformer.train", "miniformer.model", "miniformer.minilm", "miniformer.config"),
        *("miniformer.weights", "miniformer.visualization"),
    },
    "retrieval": {"retrieval", "numpy", "pyarrow", "indexes"},
    "retrieval.assembly": {"retrieval", "numpy", "torch", "indexes", "miniformer"},
    "retrieval.reranking": {"retrieval", "numpy", "indexes", "miniformer"},
    "retrieval.runtimes": {"retrieval", "indexes", "miniformer"},
    "retrieval.readers": {"retrieval", "torch", "tokenizers", "transformers", "miniformer"},
    "retrieval.answer_evaluation": {"retrieval", "numpy", "miniformer.train"},
    "retrieval.training": {"retrieval", "numpy", "indexes", "miniformer"},
    "retrieval.cli": {"retrieval", "click", "rich", "indexes", "miniformer"},
}


def modules(root):
    for shelf in SHELVES:
        for path in sorted((root / shelf).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts).removesuffix(".__init__"), path


def imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield node.module


def under(name, prefix):
    return name == prefix or name.startswith(f"{prefix}.")


def test_imports_point_one_way(root):
    wrong = []
    for module, path in modules(root):
        rule = max((prefix for prefix in MAY_IMPORT if under(module, prefix)), key=len)
        for name in imports(path):
            standard = name.split(".")[0] in sys.stdlib_module_names
            if not standard and not any(under(name, allowed) for allowed in MAY_IMPORT[rule]):
                wrong.append(f"{module} imports {name}")
    assert wrong == []


def test_assembly_does_not_know_the_searcher(root):
    assert not any("searcher" in name for name in imports(root / "retrieval/assembly.py"))


@pytest.mark.parametrize(
    ("package", "absent"),
    [
        ("indexes", {"torch", "faiss", "pyarrow", "transformers"}),
        ("indexes.view", {"torch", "faiss", "pyarrow"}),
        ("miniformer", {"torch", "lightning", "matplotlib", "faiss", "transformers"}),
        ("miniformer.config.model_config", {"torch"}),
        ("miniformer.model.generation", {"transformers", "lightning", "matplotlib", "faiss"}),
        ("miniformer.train", {"torch", "lightning"}),
        ("miniformer.weights", {"torch", "transformers", "safetensors"}),
        ("retrieval.searcher", {"torch", "faiss", "pyarrow", "transformers"}),
    ],
)
def test_an_import_stays_light(package, absent):
    code = f"import sys, {package}; print(*sorted({absent!r} & sys.modules.keys()))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert loaded.stdout.split() == []


def test_files_and_functions_stay_small(root):
    too_long = []
    for module, path in modules(root):
        text = path.read_text(encoding="utf-8")
        if text.count("\n") > 250:
            too_long.append(f"{module}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                lines = node.end_lineno - node.lineno + 1
                if lines > 50:
                    too_long.append(f"{module}.{node.name}: {lines} lines")
    assert too_long == []


def test_no_file_is_named_for_a_grab_bag(root):
    grab_bags = {"utils", "common", "helpers", "base", "manager", "core", "misc"}
    assert [m for m, _ in modules(root) if set(m.split(".")) & grab_bags] == []


def test_the_size_budget_holds(root):
    import tomllib

    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert len(project["dependencies"]) <= 8
    from retrieval.cli import VERBS

    assert 4 <= len(VERBS) <= 14
    assert (
        sum(lines_of_code(path.read_text(encoding="utf-8")) for _, path in modules(root)) <= 17_500
    )


def lines_of_code(source):
    """The lines that hold code: no blank ones, no comments, no docstrings."""
    told = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
    lines, docstring = set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docstring.update(range(node.lineno, node.end_lineno + 1))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in (*told, tokenize.ENDMARKER):
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docstring)


def test_nothing_is_pickled_and_no_foreign_code_runs(root):
    words = (r"pickle", r"torch\.load\(", r"trust_remote_code", r"\b(?<!\.)eval\(", r"\bexec\(")
    found = [
        f"{module}: {word}"
        for module, path in modules(root)
        for word in words
        if re.search(word, path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_errors_form_one_tree():
    import indexes
    import retrieval

    for package in (indexes, retrieval):
        for name in package.__all__:
            member = getattr(package, name)
            if isinstance(member, type) and issubclass(member, Exception):
                assert issubclass(member, retrieval.RetrievalError), name


@pytest.mark.parametrize(
    "name",
    [
        *("indexes", "miniformer", "miniformer.minilm", "miniformer.train"),
        *("miniformer.visualization", "retrieval"),
    ],
)
def test_public_names_are_complete_and_importable(name):
    from importlib import import_module

    package = import_module(name)
    assert sorted(package._HOMES) == sorted(package.__all__) == dir(package)  # ruff sorts __all__
    for public in package.__all__:
        member = getattr(package, public)
        assert member.__doc__, f"{public} says nothing of itself"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = package.nonsense
