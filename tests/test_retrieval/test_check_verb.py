"""``retrieval check`` as it is typed: what it prints, its exit code, and that it writes nothing."""

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

import retrieval.checking
import retrieval.cli
from indexes import IndexWriteFailed
from retrieval import Document, build_index
from retrieval.checking import check_index
from retrieval.cli.check import check


@pytest.fixture
def verb(cli, monkeypatch):
    """``retrieval check ...`` on an index under the default name, its model there too."""
    monkeypatch.setitem(retrieval.cli.retrieval.commands, "check", check)
    Path("c.jsonl").write_text("".join(f'{{"id":"{n}","text":"word{n}"}}\n' for n in range(30)))
    assert cli("index", "c.jsonl").code == 0
    return lambda *arguments: cli("check", *arguments)


INDEX = Path("retrieval-index")
REMEDY = "restore these files from a copy, or build the index again"


def test_a_whole_index_is_exit_code_0_and_one_json_object(verb):
    code, out, err = verb()
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert out.count("\n") == 1
    files = list(INDEX.glob("0*"))
    assert facts == {
        **{"folder": "retrieval-index", "rows": 30, "deleted": 0, "segments": 1},
        **{"files": len(files), "bytes": sum(path.stat().st_size for path in files)},
        **{"generation": 1, "full": False, "leftovers": []},
        **{"probes": "8 of 8, least cosine 1.000000", "repaired": [], "problems": []},
    }
    assert json.loads(verb("--full", "--json").out)["full"] is True


def test_a_person_gets_a_table(verb, monkeypatch):
    monkeypatch.setattr("retrieval.cli.output.wants_json", lambda as_json: as_json)
    (INDEX / "00000009-0123abcd.vec").write_bytes(b"left")
    code, out, err = verb()
    assert (code, err) == (0, "")
    facts = dict(line.split(maxsplit=1) for line in out.splitlines() if line.strip())
    assert facts["rows"].strip() == "30"
    assert facts["leftovers"].strip() == "1"
    assert facts["problems"].strip() == "0"
    assert facts["probes"].strip() == "8 of 8, least cosine 1.000000"


def test_every_problem_is_a_line_with_its_file_and_row_and_exit_code_1(verb, flip):
    (path,) = INDEX.glob("*.vec")
    flip(path, 128 * 7 + 3)
    code, out, err = verb()
    assert code == 1
    name = f"retrieval: {path}"
    lines = [
        f"{name}: is damaged: it does not match its checksum",
        f"{name}: row 7 does not match its checksum",
        f"retrieval: {REMEDY}",
    ]
    assert err.splitlines() == lines
    what = "does not match its checksum"
    assert json.loads(out)["problems"][1] == {"file": path.name, "row": 7, "what": what}
    (INDEX / "00000009-0123abcd.vec").write_bytes(b"left")
    code, out, err = verb("--repair")
    assert code == 1
    assert err.splitlines() == [
        "retrieval: removed 00000009-0123abcd.vec, left by a writer that did not finish",
        *lines[:2],
        f"retrieval: this cannot be repaired: {REMEDY}",
    ]
    assert not (INDEX / "00000009-0123abcd.vec").exists()


def test_another_model_under_the_name_is_not_the_indexs_model(verb, named_bag, monkeypatch):
    monkeypatch.setattr(
        named_bag, "encode_document", lambda self, texts: (-self.encode_query(texts), [])
    )
    code, out, err = verb()
    assert code == 1
    assert json.loads(out)["probes"] == "0 of 8, least cosine -1.000000"
    assert err.count("MANIFEST: keeps a vector of the probe text") == 8
    assert "'How do decorators work?' at cosine -1.0000 to what the model gives here now" in err


def test_no_index_is_one_line(verb):
    code, out, err = verb("-i", "nowhere")
    assert (code, out) == (1, "")
    assert err.startswith("retrieval: nowhere does not exist; make an index")


def test_a_folder_that_may_not_be_written_to_is_checked_and_not_repaired(searcher, bag, tmp_path):
    searcher("one", "two")
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    folder = Path(shutil.copytree(tmp_path / "index", place / "index"))
    (folder / "LOCK").unlink()
    (folder / "00000009-0123abcd.vec").write_bytes(b"left")
    try:
        for path in (folder, place):
            path.chmod(0o555)
        if os.geteuid() == 0:
            os.seteuid(65_534)
        report = check_index(folder, encoder=bag, full=True)
        assert (report.rows, report.problems) == (2, ())
        with pytest.raises(IndexWriteFailed, match="Permission denied; choose a folder that you"):
            check_index(folder, encoder=bag, repair=True)
        assert (folder / "00000009-0123abcd.vec").exists()
    finally:
        os.seteuid(os.getuid())
        for path in (place, folder):
            path.chmod(0o755)
        shutil.rmtree(place)


def test_a_leftover_that_cannot_be_removed_is_named(verb):
    (INDEX / "00000009-0123abcd.vec").mkdir()
    code, out, err = verb("--repair")
    assert (code, out) == (1, "")
    assert err.startswith(f"retrieval: cannot write to {INDEX}/00000009-0123abcd.vec: ")


def test_a_commit_while_the_files_are_opened_is_no_damage(searcher, bag, tmp_path, monkeypatch):
    searcher("one", "two")
    audit, folder = retrieval.checking.SegmentAudit, tmp_path / "index"

    def audit_late(*arguments):
        monkeypatch.setattr("retrieval.checking.SegmentAudit", audit)
        build_index([Document("3", "three")], folder, encoder=bag, overwrite=True)
        return audit(*arguments)

    monkeypatch.setattr("retrieval.checking.SegmentAudit", audit_late)
    report = check_index(folder, encoder=bag)
    assert (report.generation, report.rows, report.problems) == (2, 1, ())


def test_importing_the_check_loads_neither_torch_nor_faiss():
    import subprocess

    code = (
        "import sys, retrieval.checking; print(*{'torch', 'faiss', 'pyarrow'} & sys.modules.keys())"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ran.stdout.split() == []
