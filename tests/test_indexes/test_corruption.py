"""Whatever happens to the bytes of an index, it is noticed before they are given out."""

import numpy as np
import pytest

from indexes import IndexCorrupt, IndexUnfinished, View

KINDS = ("vec", "docs", "rows", "del", "parquet", "MANIFEST")


@pytest.fixture(scope="module")
def built(store, fresh_folder):
    """An index of two segments with dead rows in both, its rows, and its bytes."""
    folder = fresh_folder() / "index"
    ids = [f"id {at % 70}" for at in range(80)] + [f"id {at}" for at in range(75, 135)]
    ids += [f"id {at}" for at in range(100, 110)]
    rows = store.rows(150, dim=24, ids=ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("indexes.build.SEGMENT_ROWS", 80)
        store.build(folder, rows, batch=20)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "LOCK"}
    assert sorted(name.rpartition(".")[2] for name in files) == sorted([*KINDS[:5] * 2, "MANIFEST"])
    return folder, rows, files


@pytest.fixture
def index(built):
    """The same, put right again after each test."""
    folder, rows, files = built
    yield folder, rows, files
    for name, content in files.items():
        (folder / name).write_bytes(content)


def truncated(content, rng):
    return content[: rng.integers(0, len(content) - 1)]


def appended(content, rng):
    return content + rng.bytes(rng.integers(1, 100))


def flipped(content, rng):
    changed = bytearray(content)
    changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def zeroed(content, rng):
    start = int(rng.integers(len(content)))
    size = min(512, len(content) - start)
    return content[:start] + bytes(size) + content[start + size :]


def overwritten(content, rng):
    start = int(rng.integers(len(content)))
    return (content[:start] + rng.bytes(64) + content[start + 64 :])[: len(content)]


def moved(content, rng):
    half = len(content) // 2
    return content[half:] + content[:half]


def emptied(content, rng):
    return b""


MUTATIONS = (truncated, appended, flipped, flipped, zeroed, overwritten, moved, emptied)


def mutations(files, times, seed):
    """(file name, changed content), each change a real one."""
    rng = np.random.default_rng(seed)
    for name, content in files.items():
        for mutate in MUTATIONS:
            for _ in range(times):
                changed = mutate(content, rng)
                if changed != content:
                    yield name, mutate.__name__, changed


def test_full_verification_notices_every_change_and_names_the_file(index):
    folder, _, files = index
    tried = 0
    for name, how, changed in mutations(files, 5, seed=1):
        (folder / name).write_bytes(changed)
        with pytest.raises(IndexCorrupt) as caught:
            View(folder, verify="full")
        assert name in str(caught.value), how
        (folder / name).write_bytes(files[name])
        tried += 1
    assert tried > 300
    View(folder, verify="full")


def test_every_bit_of_a_small_index_counts(store, tmp_path):
    store.build(tmp_path / "index", store.rows(2, dim=2, ids=["a", "a"]))
    for path in sorted((tmp_path / "index").iterdir()):
        content = path.read_bytes()
        if path.name == "LOCK":
            continue
        for bit in range(0, len(content) * 8, 3 if path.name == "MANIFEST" else 1):
            changed = bytearray(content)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            with pytest.raises(IndexCorrupt, match=path.name):
                View(tmp_path / "index", verify="full")
        path.write_bytes(content)


def read_through(view, rows):
    """Search and read everything in every way; what comes back must be right or refused."""
    queries = np.concatenate([rows.vectors[::10], -rows.vectors[:5]])
    for k in (1, 10, len(view)):
        scores, positions = view.search(queries, k)
        for query, row_scores, row_positions in zip(queries, scores, positions, strict=True):
            for score, position in zip(row_scores, row_positions, strict=True):
                payload = payload_or_none(view, int(position))
                if payload is None:
                    continue
                assert payload == rows.payloads[position] + b"\n"
                expected = float(query.astype(float) @ rows.vectors[position].astype(float))
                assert abs(score - np.clip(expected, -1, 1)) < 1e-6
    for at in rows.live():
        try:
            found = view.find(rows.ids[at])
        except IndexCorrupt:
            continue
        assert found in (at, None)


def payload_or_none(view, position):
    try:
        return view.payload(position)
    except IndexCorrupt:
        return None


@pytest.mark.parametrize("kind", KINDS)
def test_without_full_verification_nothing_changed_is_given_out(index, kind):
    folder, rows, files = index
    some = {name: content for name, content in files.items() if name.endswith(kind)}
    opened = tried = 0
    problems = []
    for name, how, changed in mutations(some, 3, seed=2):
        (folder / name).write_bytes(changed)
        tried += 1
        try:
            view = View(folder)
            opened += 1
            assert len(changed) == len(files[name]) or kind == "parquet"
            assert kind not in ("del", "MANIFEST")
            read_through(view, rows)
        except Exception as error:
            if not isinstance(error, IndexCorrupt) or name not in str(error):
                problems.append(f"{name} {how}: {error!r}")
        (folder / name).write_bytes(files[name])
    assert problems == []
    assert tried > 20
    assert opened > 10 or kind in ("del", "MANIFEST")


@pytest.mark.parametrize("kind", ["vec", "docs"])
def test_one_flipped_bit_of_a_returned_row_is_noticed_and_the_file_named(index, kind):
    folder, rows, files = index
    rng = np.random.default_rng(3)
    intact = View(folder)
    for at in rng.choice(rows.live(), 40, replace=False):
        segment, row = divmod(int(at), 80)
        name = sorted(name for name in files if name.endswith(kind))[segment]
        content = bytearray(files[name])
        if kind == "vec":
            start, size = row * 24 * 4, 24 * 4
        else:
            start, size = files[name].index(rows.payloads[at] + b"\n"), len(rows.payloads[at]) + 1
        content[start + rng.integers(size)] ^= 1 << int(rng.integers(8))
        (folder / name).write_bytes(content)
        view = View(folder)
        with pytest.raises(IndexCorrupt, match=name):
            view.payload(int(at))
        other = next(p for p in intact.positions() if p != at)
        assert view.payload(int(other)) == rows.payloads[other] + b"\n"  # the rest still answers
        (folder / name).write_bytes(files[name])


def ask_for_all(view, queries):
    scores, positions = view.search(queries, len(view))
    assert np.isfinite(scores).all()
    for position in positions[0]:
        view.payload(int(position))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_row_turned_into_no_number_is_noticed_when_all_are_asked_for(index, value):
    folder, rows, files = index
    name = min(name for name in files if name.endswith("vec"))
    content = np.frombuffer(files[name], np.float32).reshape(80, 24).copy()
    at = rows.live()[3]
    content[at, 5:7] = value
    (folder / name).write_bytes(content.tobytes())
    with pytest.raises(IndexCorrupt, match=name):
        ask_for_all(View(folder), rows.vectors[:5])


@pytest.mark.parametrize("verify", ["auto", "full"])
@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_missing_file_is_named(index, verify, kind):
    folder, _, files = index
    for name in (name for name in files if name.endswith(kind)):
        (folder / name).unlink()
        with pytest.raises(IndexCorrupt, match=f"{name} is missing"):
            View(folder, verify=verify)
        (folder / name).write_bytes(files[name])


def test_without_its_manifest_an_index_was_never_finished(index):
    folder, _, _ = index
    (folder / "MANIFEST").unlink()
    with pytest.raises(IndexUnfinished, match="not finished"):
        View(folder)


def test_files_of_two_segments_are_not_taken_for_each_other(index):
    folder, _, files = index
    for kind in ("vec", "docs", "rows"):
        first, second = sorted(name for name in files if name.endswith(kind))
        (folder / first).write_bytes(files[second])
        (folder / second).write_bytes(files[first])
        with pytest.raises(IndexCorrupt, match=first):
            View(folder, verify="full")
        (folder / first).write_bytes(files[first])
        (folder / second).write_bytes(files[second])


def test_bytes_that_no_manifest_names_do_not_matter(index, store):
    folder, rows, _ = index
    (folder / "00000009-0123abcd.vec").write_bytes(b"left by a crash")
    (folder / "MANIFEST.tmp").write_bytes(b"torn")
    store.assert_holds(View(folder, verify="full"), rows)
    (folder / "00000009-0123abcd.vec").unlink()
    (folder / "MANIFEST.tmp").unlink()
