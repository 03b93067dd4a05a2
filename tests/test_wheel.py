"""The built wheel, not the checkout, does the main job."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def wheel(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # A copy: building must not leave anything in the checkout, nor pack what lies about in it.
    source = folder / "source"
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, files):
        if (root / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((root / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "-w", str(folder), str(source)], check=True, capture_output=True)
    [path] = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_three_packages_and_no_tests(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info" not in name}
    assert tops == {"miniformer", "indexes", "retrieval"}
    assert {f"{top}/py.typed" for top in tops} <= set(names)
    with zipfile.ZipFile(wheel) as archive:
        generator = [each for each in archive.infolist() if "/generators/" in each.filename]
    assert {Path(each.filename).name for each in generator} == {
        *("answering.json", "config.json", "model.safetensors")
    }
    assert wheel.stat().st_size < 20_000_000
    assert wheel.stat().st_size - sum(each.compress_size for each in generator) < 500_000


def test_the_wheel_alone_indexes_and_answers(wheel, root, tmp_path):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    [site] = environment.glob("lib/python*/site-packages")
    # The dependencies are borrowed from this environment, the checkout is not.
    borrowed = [p for p in sys.path if p.endswith("site-packages")]
    (site / "borrowed.pth").write_text("".join(f"{path}\n" for path in borrowed))
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(site)]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    rows = [{"id": "tea", "text": "Steep the leaves."}, {"id": "bike", "text": "Change gears."}]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def python(*arguments):
        clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [str(environment / "bin/python"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=clean)
        assert done.returncode == 0, done.stderr
        return done.stdout

    where = python("-c", "import retrieval; print(retrieval.__file__)")
    assert Path(where.strip()).is_relative_to(environment)
    python("-m", "retrieval", "index", "corpus.jsonl")
    answer = json.loads(python("-m", "retrieval", "query", "a hot drink", "-k", "1"))
    assert answer["id"] == "tea"
    read = json.loads(python("-m", "retrieval", "ask", "What should I steep?", "--threshold", "0"))
    assert "leaves" in read["answer"]
