"""Files that hold no vectors, or not those of the documents; and the verbs of the command line."""

import json
import random

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexes import IndexExists, IndexUnfinished, IndexWriter, RetrievalError, VectorError, View
from indexes.flat_files import FlatFile
from indexes.manifest import Content
from retrieval import CorpusError, Document, build_index
from retrieval.encoding import model_record
from retrieval.importing import import_index

TEXTS = [f"words of passage {at}" for at in range(6)]
DOCUMENTS = [Document(f"d{at}", text) for at, text in enumerate(TEXTS)]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def vectors(bag):
    return bag.encode_query(TEXTS)


def hnsw(dim):
    return faiss.IndexHNSWFlat(dim, 8)


def mapped_hnsw(dim):
    return faiss.IndexIDMap(faiss.IndexHNSWFlat(dim, 8))


def codes(dim):
    return faiss.IndexScalarQuantizer(dim, faiss.ScalarQuantizer.QT_fp16)


ONLY = "only IndexFlatIP, IndexFlatL2, and IndexIDMap over one of them, hold the vectors as they"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (hnsw, rf"^.*v is no flat FAISS file \(it begins with b'IHNf'\); {ONLY}"),
        (codes, rf"^.*v is no flat FAISS file \(it begins with b'IxSQ'\); {ONLY}"),
        (mapped_hnsw, rf"^.*v is an IndexHNSWFlat with numbers; {ONLY}"),
    ],
)
def test_a_faiss_file_of_another_kind_is_refused(make, message, folder, bag):
    path = folder.with_name("v")
    faiss.write_index(make(32), str(path))
    with pytest.raises(VectorError, match=message):
        import_index(DOCUMENTS, path, folder, encoder=bag)


@pytest.mark.parametrize("numbered", [False, True])
def test_a_file_whose_kind_or_counts_have_changed_is_refused(numbered, vectors, folder):
    index = faiss.IndexIDMap(faiss.IndexFlatIP(32)) if numbered else faiss.IndexFlatIP(32)
    index.add_with_ids(vectors, np.arange(6)) if numbered else index.add(vectors)
    good = faiss.serialize_index(index).tobytes()
    path = folder.with_name("v")
    changes = [good[:cut] for cut in (4, 20, 60, len(good) - 1)]
    for bit in range(128):  # the kind, the width, and how many rows there are
        changed = bytearray(good)
        changed[bit // 8] ^= 1 << bit % 8
        changes.append(bytes(changed))
    for content in changes:
        path.write_bytes(content)
        with pytest.raises(RetrievalError, match=rf"\A{path} [^\n]*\Z"):
            FlatFile(path)
    path.write_bytes(good)
    assert FlatFile(path).block(0, 6).tobytes() == vectors.tobytes()


def npy(path, array):
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros(6, np.float32), r"float32 \[6\]"),
        (np.zeros((6, 32), np.int64), r"int64 \[6, 32\]"),
        (np.zeros((6, 32, 1)), r"float64 \[6, 32, 1\]"),
        (np.zeros((6, 32), "U3"), r"<U3 \[6, 32\]"),
        (np.zeros((6, 32), np.complex64), r"complex64 \[6, 32\]"),
    ],
)
@pytest.mark.parametrize("stored", [False, True])
def test_an_array_of_another_form_is_refused(array, found, stored, folder, bag):
    source = npy(folder.with_name("v.npy"), array) if stored else array
    name = source if stored else "the array"
    message = rf"^{name} holds {found}; expected float16, 32 or 64 of \[n, dim\]$"
    with pytest.raises(VectorError, match=message):
        import_index(DOCUMENTS, source, folder, encoder=bag)


def test_what_is_no_file_of_vectors_is_refused(vectors, folder, bag):
    path = folder.with_name("v.npy")

    def refusal(content=None):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(RetrievalError) as caught:
            import_index(DOCUMENTS, path, folder, encoder=bag)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert refusal() == f"{path}: no such file of vectors"
    assert refusal(b"text") == f"{path} begins with b't'; expected a .npy matrix or a FAISS file"
    assert refusal(b"").startswith(f"{path} begins with b''; expected")
    assert refusal(b"Ix").startswith(f"{path} is no flat FAISS file (it begins with b'Ix'); only")
    good = npy(path, vectors).read_bytes()
    for bad in (good[:7], good[:100], good[:-1], good.replace(b"descr", b"d\xffscr", 1)):
        assert refusal(bad).startswith(f"{path} cannot be read as .npy: ")
    chance = random.Random(3)
    for _ in range(200):
        changed = bytearray(good)
        changed[chance.randrange(2, 80)] ^= 1 << chance.randrange(8)
        path.write_bytes(changed)
        try:
            import_index(DOCUMENTS, path, folder, encoder=bag, overwrite=True)
        except RetrievalError:
            continue


def test_the_width_must_be_that_of_the_model(vectors, folder, bag):
    message = (
        "^the array holds vectors of 31 numbers; BagOfWords makes 32: name the model that made"
    )
    with pytest.raises(VectorError, match=message):
        import_index(DOCUMENTS, vectors[:, :31], folder, encoder=bag)


def test_an_index_or_an_unfinished_build_is_only_replaced_when_that_is_said(vectors, folder, bag):
    content = Content(dim=32, model=model_record(bag))
    with IndexWriter(folder, content) as writer:
        writer.add(vectors[:2], [b'{"id":"other 1"}', b'{"id":"other 2"}'])
        writer.checkpoint()
    with pytest.raises(IndexUnfinished, match=r"an unfinished build of 2 rows; .* --overwrite$"):
        import_index(DOCUMENTS, vectors, folder, encoder=bag)
    assert import_index(DOCUMENTS, vectors, folder, encoder=bag, overwrite=True).rows == 6
    with pytest.raises(IndexExists, match="already holds an index"):
        import_index(DOCUMENTS, vectors, folder, encoder=bag)
    with pytest.raises(CorpusError, match=r"^no documents \(1 rows skipped\); nothing to import$"):
        import_index([Document("1", "")], vectors[:1], folder, encoder=bag, overwrite=True)
    assert len(View(folder)) == 6


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            None,
            "there is no column 'vector'; found: text; name the vectors with --vector-column or",
        ),
        (pa.array([1.5]), "column 'vector' holds double; expected lists of float16, float32 or"),
        (pa.array([[1]]), r"column 'vector' holds list<.*: int64>; expected lists of float16"),
        (pa.array([["a"]]), r"column 'vector' holds list<.*: string>; expected lists of float16"),
        (pa.array([None], pa.list_(pa.float32())), "row 1: the vector is missing; mend it, or"),
        (pa.array([[1.0, None] * 16]), "row 1: the vector is not finite; mend it, or"),
        (pa.array([[1.0]]), "row 1: the vector has 1 numbers; the model makes 32; mend it, or"),
    ],
)
@pytest.mark.parametrize("how", ["parquet", "table"])
def test_a_column_that_holds_no_vectors_is_refused(column, message, how, folder, bag):
    table = pa.table({"text": ["x"]} | ({} if column is None else {"vector": column}))
    path = folder.with_name("corpus.parquet")
    pq.write_table(table, path)
    source, shown = (path, str(path)) if how == "parquet" else (table, "the table")
    with pytest.raises(CorpusError, match=rf"^{shown}[:,] {message}"):
        import_index(source, None, folder, encoder=bag)


@pytest.fixture
def verbs(cli):
    """The command line."""
    from retrieval.cli import retrieval
    from retrieval.cli.export import export
    from retrieval.cli.import_ import import_

    for verb in (export, import_):
        retrieval.add_command(verb)
    return cli


def test_the_verbs_take_an_index_out_and_in(verbs, vectors, tmp_path, named_bag):
    build_index(DOCUMENTS, tmp_path / "index", encoder=named_bag())
    ran = verbs("export", "out.faiss", "--to", "faiss", "-i", "index")
    assert ran == (0, "", "index is in out.faiss and out.faiss.jsonl\n")
    ran = verbs("export", "out.faiss", "--to", "faiss", "-i", "index")
    message = "retrieval: out.faiss exists; give another name, or pass --overwrite\n"
    assert ran == (1, "", message)
    assert verbs("export", "p.parquet", "--to", "parquet", "-i", "index").code == 0
    np.save("texts.npy", 3 * vectors)
    found = [hit for hit in verbs("query", "passage 3", "--json", "-i", "index").out.splitlines()]
    for name, *files in (
        ("faiss", "out.faiss", "out.faiss.jsonl"),
        ("other", "out.faiss.jsonl", "--vectors", "out.faiss"),
        ("parquet", "p.parquet"),
        ("npy", "out.faiss.jsonl", "texts.npy"),
    ):
        code, out, err = verbs("import", *files, "-i", name)
        lines = err.splitlines()
        assert (code, out, lines[0].startswith(f"6 rows in {name}, ")) == (0, "", True)
        scaled = "6 vectors were not of unit length and have been scaled"
        assert lines[1:] == ([scaled] if name == "npy" else [])
        if name != "npy":
            assert verbs("query", "passage 3", "--json", "-i", name).out.splitlines() == found
    assert json.loads(found[0])["id"] == "d3"


@pytest.mark.parametrize("files", [["a.npy"], ["a.jsonl", "a.npy", "b.faiss"]])
def test_one_file_of_vectors_and_some_documents_are_wanted(files, verbs):
    ran = verbs("import", *files)
    assert ran.code == 2
    assert "give files of documents, and at most one of vectors beside them" in ran.err


def test_a_model_that_did_not_make_the_vectors_is_refused_in_one_line(verbs, vectors, tmp_path):
    np.save("v.npy", vectors[::-1])
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS))
    ran = verbs("import", "t.jsonl", "v.npy")
    assert ran.code == 1
    assert ran.err.count("\n") == 1
    assert "is not what NamedBag makes of its title and text (cosine" in ran.err
    assert verbs("import", "t.jsonl", "v.npy", "--no-check").code == 0
