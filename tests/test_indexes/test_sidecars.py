"""Sidecars: files of an index's owner that live and die with the segments."""

import logging

import pytest

from indexes import IndexCorrupt, IndexWriter, View


def lengths(settings, payloads):
    """One line a row: what the settings say, and the bytes of the payload."""
    for payload in payloads:
        yield f"{settings['mark']}{len(payload)}\n".encode()


SIDECARS = {"words": lengths}


def made_of(view):
    return [side.data and bytes(side.data) for side in view.sidecars("words")]


def expected(view):
    wanted = []
    for side in view.sidecars("words"):
        rows = [side.payload(row) for row in range(side.rows)]
        wanted.append(b"".join(lengths({"mark": "#"}, rows)))
    return wanted


@pytest.fixture
def folder(store, tmp_path):
    content = store.content(sidecars={"words": {"mark": "#"}, "others": {}})
    with IndexWriter(tmp_path / "index", content, sidecars=SIDECARS) as writer:
        rows = store.rows(20, ids=["short", *("x" * n for n in range(1, 20))])
        writer.add(rows.vectors, rows.payloads)
        writer.commit()
    return tmp_path / "index"


def test_every_segment_has_its_own(folder, store):
    assert made_of(View(folder)) == expected(View(folder))
    more = store.rows(7, seed=1)
    with IndexWriter(folder, sidecars=SIDECARS) as writer:
        writer.delete(["short"])
        writer.upsert(more.vectors, more.payloads)
        writer.commit()
        view = View(folder, verify="full")
        assert len(made_of(view)) == 2
        assert made_of(view) == expected(view)
        assert view.sidecars("words")[0].dead.tolist() == [True] + 19 * [False]
        writer.compact()
    view = View(folder, verify="full")
    assert [side.rows for side in view.sidecars("words")] == [26]
    assert made_of(view) == expected(view)
    store.assert_tidy(folder)


def test_a_writer_that_cannot_make_them_leaves_them_to_the_next(folder, store):
    more = store.rows(7, seed=1)
    with IndexWriter(folder) as writer:
        writer.upsert(more.vectors, more.payloads)
        writer.commit()
    assert [data is None for data in made_of(View(folder))] == [False, True]
    with IndexWriter(folder, sidecars=SIDECARS) as writer:
        writer.delete(["short"])
        writer.commit()
    assert made_of(View(folder)) == expected(View(folder))


def test_an_index_that_does_not_name_them_has_none(store, tmp_path):
    with IndexWriter(tmp_path / "index", store.content(), sidecars=SIDECARS) as writer:
        writer.add(store.unit(3), store.rows(3).payloads)
        writer.commit()
    assert made_of(View(tmp_path / "index")) == [None]


@pytest.mark.parametrize("damage", ["missing", "cut", "flipped"])
def test_a_damaged_one_is_not_read(folder, damage, caplog):
    [path] = folder.glob("*.words")
    raw = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(raw[:-1] if damage == "cut" else raw[:-1] + b"?")
    with caplog.at_level(logging.WARNING):
        assert made_of(View(folder)) == [None]
    assert path.name in caplog.text
    with pytest.raises(IndexCorrupt, match=path.name):
        View(folder, verify="full")


def test_one_that_cannot_be_made_is_left_out(folder, store, caplog):
    def refuse(settings, payloads):
        raise IndexCorrupt("no such row")

    more = store.rows(7, seed=1)
    with IndexWriter(folder, sidecars={"words": refuse}) as writer:
        writer.upsert(more.vectors, more.payloads)
        writer.commit()
    assert "is left out: no such row" in caplog.text
    assert len(View(folder)) == 27
