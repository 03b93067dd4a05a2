"""What a start costs: little time, and nothing heavy imported."""

import resource
import subprocess
import sys

import pytest

HEAVY = ("torch", "faiss", "pyarrow", "transformers", "rich", "lightning", "numpy")


def cpu_seconds(*arguments: str) -> float:
    """The processor time of a Python process, its best of three."""
    spent = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(spent)


@pytest.mark.parametrize(
    "arguments",
    [["-c", "import retrieval"], ["-m", "retrieval", "--help"], ["-m", "retrieval", "--version"]],
    ids=" ".join,
)
def test_a_start_takes_less_than_a_third_of_a_second(arguments):
    assert cpu_seconds(*arguments) < 0.3


IMPORTED = """
import sys
{code}
print(*(name for name in {names} if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import retrieval", HEAVY),
        ("import retrieval; retrieval.Document; retrieval.RetrievalError", HEAVY),
        ("from retrieval.cli import run; run(['query', '--help'])", HEAVY),
        ("from retrieval import Searcher, build_index, read_corpus", HEAVY[:-1]),
    ],
)
def test_nothing_heavy_is_imported_before_it_is_used(code, names):
    ran = subprocess.run(
        [sys.executable, "-c", IMPORTED.format(code=code, names=names)],
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.splitlines()[-1] == ""


def test_every_public_name_is_there_and_an_unknown_one_is_an_attribute_error():
    import retrieval

    assert dir(retrieval) == retrieval.__all__ == sorted(retrieval.__all__)
    for name in retrieval.__all__:
        assert getattr(retrieval, name).__name__ == name
    with pytest.raises(AttributeError, match="module 'retrieval' has no attribute 'nope'"):
        _ = retrieval.nope
