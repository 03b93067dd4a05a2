"""Ready vectors into an index: every form they come in, and every way they can be wrong."""

import json

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from indexes import VectorError, View
from retrieval import CorpusError, Document, ModelError, Searcher, build_index
from retrieval.importing import import_index
from retrieval.ready import unit

TEXTS = [f"words of passage {at}" for at in range(11)]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch):
    """Four documents a window, three vectors a block."""
    monkeypatch.setattr("retrieval.importing.WINDOW", 4)
    monkeypatch.setattr("retrieval.ready.BLOCK", 3)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def texts(tmp_path):
    """Eleven documents as JSON lines."""
    return write_texts(tmp_path / "texts.jsonl", TEXTS)


def write_texts(path, texts):
    lines = [json.dumps({"id": f"d{at}", "text": text}) + "\n" for at, text in enumerate(texts)]
    path.write_text("".join(lines))
    return path


@pytest.fixture
def vectors(bag):
    """What the encoder makes of them."""
    return bag.encode_query(TEXTS)


def stored(folder):
    view = View(folder, verify="full")
    return view.to_faiss().reconstruct_n(0, len(view))


def write_faiss(path, vectors, kind=faiss.IndexFlatIP, numbers=None):
    index = kind(vectors.shape[1])
    if numbers is None:
        index.add(vectors)
    else:
        index = faiss.IndexIDMap2(index)
        index.add_with_ids(vectors, np.asarray(numbers, np.int64))
    faiss.write_index(index, str(path))
    return path


def test_an_imported_index_answers_as_one_that_was_built(texts, vectors, folder, tmp_path, bag):
    build_index(texts, tmp_path / "built", encoder=bag)
    bag.asked.clear()
    report = import_index(texts, vectors, folder, encoder=bag)
    assert (report.rows, report.skipped, report.scaled) == (11, 0, 0)
    assert stored(folder).tobytes() == stored(tmp_path / "built").tobytes()
    built, imported = (Searcher(path, encoder=bag) for path in (tmp_path / "built", folder))
    assert imported.content.model == built.content.model
    assert imported.content.probes == built.content.probes
    for text in TEXTS:
        assert imported.search(text, 11) == built.search(text, 11)
    # A sample of the first window, one of all of it, and the probes: not the whole corpus.
    assert len(bag.asked) == 4 + 8 + 8


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, ">f4"])
@pytest.mark.parametrize("how", ["array", "npy", "fortran"])
def test_a_matrix_of_any_float_is_scaled(dtype, how, texts, vectors, folder, tmp_path, bag):
    given = (vectors * np.arange(2, 13)[:, None]).astype(dtype)
    if how == "fortran":
        given = np.asfortranarray(given)
    np.save(tmp_path / "v.npy", given)
    source = given if how == "array" else tmp_path / "v.npy"
    assert import_index(texts, source, folder, encoder=bag).scaled == 11
    wide = given.astype(np.float64)
    expected = (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_array_equal(stored(folder), expected)


def test_a_row_of_unit_length_but_for_rounding_keeps_its_bits(vectors):
    for factor, kept in ((1 + 5e-7, True), (1 - 5e-7, True), (1 + 5e-6, False), (1.0005, False)):
        given = (vectors[0].astype(np.float64) * factor).astype(np.float32)
        row, scaled = unit(given, 32)
        assert (row.tobytes() == given.tobytes(), scaled) == (kept, False)
    assert unit(given * 2, 32)[1]


@pytest.mark.parametrize("kind", [faiss.IndexFlatIP, faiss.IndexFlatL2])
@pytest.mark.parametrize("numbers", [None, range(11)])
def test_a_flat_faiss_file_gives_its_rows(kind, numbers, texts, vectors, folder, tmp_path, bag):
    path = write_faiss(tmp_path / "v.index", vectors, kind, numbers)
    import_index(texts, path, folder, encoder=bag)
    assert stored(folder).tobytes() == vectors.tobytes()


def test_the_numbers_of_a_faiss_file_may_be_the_ids_and_must_be_in_order(vectors, folder, bag):
    documents = [Document(str(at * 7), text) for at, text in enumerate(TEXTS)]
    path = write_faiss(folder.with_name("v"), vectors, numbers=[at * 7 for at in range(11)])
    import_index(documents, path, folder, encoder=bag)
    assert stored(folder).tobytes() == vectors.tobytes()
    write_faiss(path, vectors, numbers=[0, 7, 14, *range(11, 3, -1)])
    message = "gives vector 3 the number 11, but row 4 is the document '21'; bring them into one"
    with pytest.raises(VectorError, match=message):
        import_index(documents, path, folder, encoder=bag, overwrite=True)


LISTS = {
    "list": lambda kind, dim: pa.list_(kind),
    "large": lambda kind, dim: pa.large_list(kind),
    "fixed": lambda kind, dim: pa.list_(kind, dim),
}


@pytest.mark.parametrize("kind", [pa.float16(), pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("form", LISTS)
@pytest.mark.parametrize("how", ["parquet", "table"])
def test_a_column_of_lists_is_read_beside_its_text(kind, form, how, vectors, folder, bag):
    given = vectors.astype(kind.to_pandas_dtype())
    column = pa.array(list(given), LISTS[form](kind, vectors.shape[1]))
    table = pa.table({"text": TEXTS, "n": range(11), "v": column})
    path = folder.with_name("corpus.parquet")
    pq.write_table(table, path, row_group_size=4)
    source = path if how == "parquet" else table.slice(0)
    import_index(source, None, folder, encoder=bag, vector_column="v")
    np.testing.assert_allclose(stored(folder), vectors, atol=1e-3)
    if kind != pa.float16():
        assert stored(folder).tobytes() == vectors.tobytes()
    assert [field["name"] for field in View(folder).content.schema] == ["n"]


def test_rows_without_text_take_their_vectors_with_them(vectors, folder, tmp_path, bag):
    texts = list(TEXTS)
    texts[2] = texts[9] = ""
    path = write_texts(tmp_path / "texts.jsonl", texts)
    assert import_index(path, vectors, folder, encoder=bag).skipped == 2
    assert stored(folder).tobytes() == np.delete(vectors, [2, 9], axis=0).tobytes()


BAD = {
    "is zero": lambda vectors: np.where(np.arange(11)[:, None] == 5, 0, vectors),
    "is not finite": lambda vectors: np.where(np.arange(11)[:, None] == 5, np.inf, vectors),
    "is  not finite": lambda vectors: np.where(np.eye(11, 32, dtype=bool)[::-1], np.nan, vectors),
}


@pytest.mark.parametrize("what", BAD)
def test_a_row_without_a_direction_is_named_and_refused_or_skipped(
    what, texts, vectors, folder, tmp_path, bag
):
    given = BAD[what](vectors).astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(given).all(axis=1) | ~given.any(axis=1))
    reason = f"the vector {' '.join(what.split())}"
    with pytest.raises(CorpusError) as caught:
        import_index(texts, given, folder, encoder=bag)
    mend = "; mend it, or pass --on-error skip"
    assert str(caught.value) == f"{texts}, line {bad[0] + 1}: {reason}{mend}"
    assert not folder.exists()
    if len(bad) == 1:
        rejects = tmp_path / "rejects"
        options = {"on_error": "skip", "rejects": rejects, "encoder": bag}
        assert import_index(texts, given, folder, **options).skipped == 1
        assert stored(folder).tobytes() == np.delete(vectors, bad, axis=0).tobytes()
        record = {"file": str(texts), "row": int(bad[0]) + 1, "reason": reason}
        assert json.loads(rejects.read_text()) == record


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ([1.0, 2.0], "the vector has 2 numbers; the model makes 32"),
        (None, "the vector is missing"),
        ("0.5", "the vector is no list of numbers but str"),
        ([[1.0]], "the vector is no list of numbers but list"),
        ([10**400] * 32, "the vector is no list of numbers but list"),
        ([None] * 32, "the vector is not finite"),
    ],
)
def test_what_is_no_vector_in_a_json_line_is_a_problem_of_its_row(value, reason, folder, bag):
    path = folder.with_name("texts.jsonl")
    path.write_text(json.dumps({"text": "x", "vector": value}))
    with pytest.raises(CorpusError) as caught:
        import_index(path, None, folder, encoder=bag)
    assert str(caught.value).startswith(f"{path}, line 1: {reason}; mend it")


@pytest.mark.parametrize("change", [-1, 1])
def test_every_row_has_its_vector(change, texts, vectors, folder, bag):
    given = np.concatenate([vectors, vectors])[: 11 + change]
    with pytest.raises(VectorError, match=f"^the array holds {11 + change} vectors.*; give one "):
        import_index(texts, given, folder, encoder=bag)
    assert not folder.exists()


@pytest.mark.parametrize("wrong", [0, 10])
def test_vectors_of_another_model_are_refused(wrong, texts, vectors, folder, bag, monkeypatch):
    monkeypatch.setattr("retrieval.importing.SAMPLE", 11)
    vectors[wrong] = vectors[wrong - 1]
    with pytest.raises(ModelError) as caught:
        import_index(texts, vectors, folder, encoder=bag)
    message = str(caught.value)
    assert message.startswith(f"the vector of 'd{wrong}' is not what BagOfWords makes of its title")
    assert message.endswith("with --model, or pass --no-check")
    assert not folder.exists()
    assert import_index(texts, vectors, folder, encoder=bag, check=False).rows == 11


def test_the_sample_is_drawn_from_the_whole_corpus(folder, bag, monkeypatch):
    drawn = []
    encode = type(bag).encode_document
    monkeypatch.setattr(
        type(bag), "encode_document", lambda self, texts: drawn.append(texts) or encode(self, texts)
    )
    texts = [f"text {at}" for at in range(400)]
    documents = [Document(text, text) for text in texts]
    import_index(documents, bag.encode_query(texts), folder, encoder=bag)
    first, last, _ = drawn
    assert first == texts[:4]
    assert len(set(last)) == 8
    assert {texts.index(text) // 100 for text in last} == {0, 1, 2, 3}


def test_of_one_id_the_row_that_was_asked_for_stays(vectors, folder, bag):
    documents = [Document(f"d{at % 3}", text) for at, text in enumerate(TEXTS)]
    with pytest.raises(CorpusError, match="document 4: the id 'd0' has come before"):
        import_index(documents, vectors, folder, encoder=bag)
    for keep, texts in (("first", TEXTS[:3]), ("last", TEXTS[8:])):
        import_index(documents, vectors, folder, encoder=bag, on_duplicate=keep, overwrite=True)
        build_index(documents, folder / "../built", encoder=bag, on_duplicate=keep, overwrite=True)
        assert stored(folder).tobytes() == stored(folder / "../built").tobytes()
        found = Searcher(folder, encoder=bag, verify="full")
        assert len(found) == 3
        for text in texts:
            (hit,) = found.search(text, 1)
            assert (hit.text, hit.score) == (text, pytest.approx(1))
