"""Texts per second of the four MiniLM variants, interleaved. Only all-MiniLM-L6-v2 has its real
weights here; the others are random ones of the same shape, which take the same time.

    python -m benchmarks.variants [--texts 256] [--rounds 5]
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from safetensors.torch import save_file

from benchmarks.data import machine, passages, wheel_model
from miniformer import MiniLMModel
from retrieval import Encoder

VARIANTS = {  # layers, maximum length
    "paraphrase-MiniLM-L3-v2": (3, 128),
    "all-MiniLM-L6-v2": (6, 256),
    "paraphrase-MiniLM-L6-v2": (6, 128),
    "all-MiniLM-L12-v2": (12, 128),
}


def make(name: str, scratch: Path) -> Encoder:
    """A model folder of this shape, opened."""
    layers, max_length = VARIANTS[name]
    real, folder = Path(wheel_model()), scratch / name
    folder.mkdir()
    shutil.copy(real / "tokenizer.json", folder)
    config = json.loads((real / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": layers}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_length}))
    save_file(MiniLMModel(num_hidden_layers=layers).state_dict(), folder / "model.safetensors")
    return Encoder(str(folder))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    texts = passages(options.texts)
    with tempfile.TemporaryDirectory() as scratch:
        encoders = {name: make(name, Path(scratch)) for name in VARIANTS}
        seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
        for encoder in encoders.values():
            encoder.encode(texts[:32])
        for _ in range(options.rounds):
            for name, encoder in encoders.items():
                started = time.perf_counter()
                encoder.encode(texts)
                seconds[name].append(time.perf_counter() - started)
    print(machine())
    for name, taken in seconds.items():
        rates = sorted(options.texts / own for own in taken)
        print(
            f"{name:26} {statistics.median(rates):6.1f} texts/s "
            f"({rates[0]:.1f} … {rates[-1]:.1f}), {encoders[name].record['dtype']}"
        )


if __name__ == "__main__":
    main()
