"""Fine-tune a sentence encoder with a loss of one's own: ``python examples/own_loss.py FOLDER``."""

import json
import sys
from pathlib import Path

import torch

from miniformer.train.contrastive import LOSSES, Embedded, LossKind
from miniformer.train.encoder import train_encoder
from miniformer.train.encoder_config import EncoderConfig


def uniform_and_aligned(batch: Embedded) -> torch.Tensor:
    """Pairs near each other, everything else far apart (Wang & Isola 2020)."""
    left, right = batch.columns  # [B, dim] each
    aligned = (left - right).square().sum(dim=-1).mean()
    apart = torch.pdist(left).square().mul(-2).exp().mean().log()
    return aligned + 0.5 * apart


LOSSES["uniform"] = LossKind(lambda: uniform_and_aligned)


def main(folder: str) -> None:
    sentences = Path(__file__).with_name("data") / "train.jsonl"
    pairs = Path(folder) / "pairs.jsonl"
    pairs.parent.mkdir(parents=True, exist_ok=True)
    with pairs.open("w", encoding="utf-8") as file:
        for line in sentences.read_text(encoding="utf-8").splitlines()[:64]:
            words = json.loads(line)["text"].split()
            half = len(words) // 2
            pair = {"query": " ".join(words[:half]), "positive": " ".join(words[half:])}
            file.write(json.dumps(pair) + "\n")
    config = EncoderConfig(
        train_path=[str(pairs)],
        val_path=str(pairs),
        output=str(Path(folder) / "encoder"),
        loss="uniform",
        batch_size=16,
        max_epochs=2,
        warmup_steps=2,
        gpus=0,
    )
    train_encoder(config)
    results = json.loads((Path(config.output) / "training" / "results.json").read_text())
    for epoch in results["epochs"].values():
        print(f"loss {epoch['val_loss']:.3f}")
    print(f"retrieval index corpus.parquet --model {config.output}")


if __name__ == "__main__":
    main(sys.argv[1])
