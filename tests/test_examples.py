"""Every example runs."""

import subprocess
import sys

import pytest

from miniformer.weights import find_model

MODEL = str(find_model("all-MiniLM-L6-v2", hub=False).path)


def run(root, cwd, name, *arguments):
    command = [sys.executable, str(root / "examples" / name), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "arguments", [(), ("--model", MODEL, "--max_length", "128")], ids=["defaults", "by path"]
)
def test_the_usage_example_prints_shapes_and_cosines(root, tmp_path, arguments):
    printed = run(root, tmp_path, "usage_example.py", *arguments)
    assert "embeddings [3, 384]" in printed
    likest, *others = (float(line[:5]) for line in printed.splitlines()[2:])
    assert likest > 0.5 > max(others)


def test_an_encoder_of_another_library_is_brought(root, tmp_path):
    printed = run(root, tmp_path, "sentence_transformers_encoder.py", MODEL)
    assert printed.startswith("bread")


def test_the_peps_are_searched(root, tmp_path, monkeypatch):
    import importlib.util

    import pyarrow.parquet as pq

    spec = importlib.util.spec_from_file_location("search_peps", root / "examples/search_peps.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    passages = pq.read_table(example.CORPUS)
    pq.write_table(passages.filter(passages["pep"].to_numpy() == 318), tmp_path / "few.parquet")
    monkeypatch.setattr(example, "CORPUS", tmp_path / "few.parquet")
    example.main(str(tmp_path / "index"))
    example.main(str(tmp_path / "index"))  # the second run finds the index


@pytest.mark.parametrize(
    ("name", "last"),
    [
        ("custom_attention.py", "from the plain attention: "),
        ("moe_feedforward.py", "4 5 6 goes on: 4 5 6 7 8 9 10"),
        ("token_classification.py", "      ^^^     ^^^^"),
    ],
)
def test_parts_of_ones_own_learn_and_survive_a_save(root, tmp_path, name, last):
    lines = run(root, tmp_path, name, str(tmp_path / "model")).splitlines()
    before, after = (float(line.split()[-1]) for line in lines[:2])
    assert after < before / 4
    assert lines[2] == "loaded equals saved: True"
    assert lines[-1].startswith(last)
    if name == "custom_attention.py":
        assert float(lines[-1].split()[-1]) < 1e-4
    assert (tmp_path / "model/model.safetensors").is_file()


def test_every_example_is_run_here(root):
    source = (root / "tests/test_examples.py").read_text()
    assert [p.name for p in (root / "examples").glob("*.py") if p.name not in source] == []


def test_an_encoder_learns_by_a_loss_of_ones_own(root, tmp_path):
    first, second, command = run(root, tmp_path, "own_loss.py", str(tmp_path / "out")).splitlines()
    assert float(second.split()[1]) < float(first.split()[1])
    assert command == f"retrieval index corpus.parquet --model {tmp_path / 'out' / 'encoder'}"
    assert (tmp_path / "out" / "encoder" / "modules.json").is_file()


@pytest.mark.enable_socket
def test_an_endpoint_of_openais_protocol_answers(root, tmp_path):
    import json
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    from retrieval import Document, build_index

    asked = []

    class Endpoint(BaseHTTPRequestHandler):
        def do_POST(self):
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            message = {"role": "assistant", "content": "The Steering Council."}
            body = json.dumps({"choices": [{"message": message}]}).encode()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            """Nothing on standard error."""

    build_index([Document("pep-13", "PEPs are decided by the steering council.")], tmp_path / "i")
    with ThreadingHTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/v1"
        printed = run(root, tmp_path, "chat_endpoint.py", "i", "Who decides?", url, "small")
        server.shutdown()
    assert printed == "The Steering Council.\n  pep-13 [20:40] the steering council\n"
    [request] = asked
    assert request["model"] == "small"
    assert "[1] PEPs are decided by the steering council." in request["messages"][0]["content"]


def mteb_encoder(root):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("mteb_encoder", root / "examples/mteb_encoder.py")
    example = module_from_spec(spec)
    spec.loader.exec_module(example)
    return example.MTEBEncoder(MODEL, dtype="float32", device="cpu")


def test_an_encoder_answers_as_mteb_asks(root):
    import numpy as np

    from retrieval import Encoder

    model, encoder = mteb_encoder(root), Encoder(MODEL, dtype="float32", device="cpu")
    batches = [{"text": ["a cat", "a dog sleeps"]}, {"text": ["a kitten"]}]
    texts = ["a cat", "a dog sleeps", "a kitten"]
    for prompt_type in (None, "query", "document"):
        vectors = model.encode(
            batches, task_metadata=None, hf_split="test", prompt_type=prompt_type
        )
        np.testing.assert_allclose(vectors, encoder.encode(texts), atol=1e-6)
    cosines = model.similarity(vectors, vectors[:2]).numpy()
    np.testing.assert_allclose(cosines, vectors @ vectors[:2].T, atol=1e-6)
    pairs = model.similarity_pairwise(vectors[:2], vectors[1:]).numpy()
    np.testing.assert_allclose(pairs, np.diag(vectors[:2] @ vectors[1:].T), atol=1e-6)


def test_mteb_takes_it_for_an_encoder(root):
    mteb = pytest.importorskip("mteb")
    model = mteb_encoder(root)
    assert isinstance(model, mteb.EncoderProtocol)
    assert model.mteb_model_meta.name.startswith("miniformer/")
