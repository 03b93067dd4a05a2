"""Others that encode with the same weights: what they are called, and texts to unit vectors.

``pip install --no-deps openvino openvino-telemetry nncf`` (and ``pydot tabulate psutil ninja``) for
OpenVINO and its int8. ONNX Runtime and OpenVINO run an export of our own, as sentence-transformers
runs its one: sorted by length, 32 texts at a time, padded to the longest.
"""

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.data import wheel_model

BATCH = 32
CALIBRATION = 256  # texts that the ranges of OpenVINO's int8 are measured on
Encode = Callable[[list[str]], np.ndarray]
Feed = dict[str, np.ndarray]


def export(path: Path) -> Path:
    """all-MiniLM-L6-v2 with its mean as ONNX, of any number of texts and tokens."""
    from transformers import BertModel

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = BertModel.from_pretrained(wheel_model(), attn_implementation="eager")

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.body(input_ids, attention_mask).last_hidden_state
            weights = attention_mask.unsqueeze(-1).to(hidden.dtype)
            return (hidden * weights).sum(1) / weights.sum(1)

    ids = torch.ones(2, 12, dtype=torch.long)
    names = ["input_ids", "attention_mask"]
    axes = {name: {0: "texts", 1: "tokens"} for name in names}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Mean().eval(), (ids, ids), path, input_names=names, dynamic_axes=axes, dynamo=False
        )
    return path


def sentence_transformers(dtype: torch.dtype) -> Encode:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(wheel_model(), device="cpu", model_kwargs={"dtype": dtype})

    def encode(texts: list[str]) -> np.ndarray:
        found = model.encode(texts, batch_size=BATCH, convert_to_numpy=False)
        return torch.stack(found).float().numpy()

    return encode


class Fed:
    """Texts as the tensors of batches, and what comes back as unit rows in order."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(f"{wheel_model()}/tokenizer.json")
        self._tokenizer.enable_truncation(256)
        self._tokenizer.enable_padding()

    def batches(self, texts: list[str]) -> Iterator[tuple[list[int], Feed]]:
        order = sorted(range(len(texts)), key=lambda at: -len(texts[at]))
        for first in range(0, len(order), BATCH):
            places = order[first : first + BATCH]
            found = self._tokenizer.encode_batch([texts[place] for place in places])
            ids = np.array([each.ids for each in found], np.int64)
            mask = np.array([each.attention_mask for each in found], np.int64)
            yield places, {"input_ids": ids, "attention_mask": mask}

    def encoder(self, run: Callable[[Feed], np.ndarray]) -> Encode:
        def encode(texts: list[str]) -> np.ndarray:
            vectors = np.empty((len(texts), 384), np.float32)
            for places, feed in self.batches(texts):
                vectors[places] = run(feed)
            return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

        return encode


def onnx(path: Path) -> Encode:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Fed().encoder(lambda feed: session.run(None, feed)[0])


def onnx_int8(path: Path) -> Encode:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_name("int8.onnx")
    quantize_dynamic(path, small, per_channel=True, weight_type=QuantType.QInt8)
    return onnx(small)


def openvino(path: Path, texts: list[str] | None = None) -> Encode:
    """With ``texts``: quantized to int8 on these, as sentence-transformers' helper does."""
    from openvino import Core

    core, fed = Core(), Fed()
    model = core.read_model(str(path))
    if texts:
        import nncf

        feeds = [feed for _, feed in fed.batches(texts[:CALIBRATION])]
        options: dict[str, Any] = {"model_type": nncf.ModelType.TRANSFORMER}
        model = nncf.quantize(model, nncf.Dataset(feeds), fast_bias_correction=True, **options)
    threads = {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", threads)
    return fed.encoder(lambda feed: compiled(feed)[0])


def peers(folder: Path, texts: list[str]) -> dict[str, Encode]:
    """Those that this machine has; the first is sentence-transformers as it comes."""
    path = export(folder / "model.onnx")
    makers: dict[str, Callable[[], Encode]] = {
        "sentence-transformers, fp32": lambda: sentence_transformers(torch.float32),
        "sentence-transformers, bf16": lambda: sentence_transformers(torch.bfloat16),
        "ONNX Runtime": lambda: onnx(path),
        "ONNX Runtime, int8": lambda: onnx_int8(path),
        "OpenVINO": lambda: openvino(path),
        "OpenVINO, int8": lambda: openvino(path, texts),
    }
    found = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except ImportError as error:
            print(f"{name}: left out ({error})")
    return found
