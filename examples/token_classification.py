"""Bring a head of your own: mark the letters that belong to a number.

python examples/token_classification.py [folder to save in]
"""

import random
import sys
import tempfile

import torch
import torch.nn.functional as F
from torch import nn

from miniformer import Transformer, TransformerConfig
from miniformer.model.head import HEADS

LETTERS = "\0 abcdefghijklmnopqrstuvwxyz"
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
OTHERS = ["tea", "cup", "leaf", "water", "steep", "green", "kettle", "oven", "tent", "nineteen"]


class TokenClassificationHead(nn.Module):
    def __init__(self, hidden_size, num_labels):
        super().__init__()
        self.classifier = nn.Linear(hidden_size, num_labels)

    def forward(self, hidden_states):
        return self.classifier(hidden_states)


HEADS["token_classification"] = TokenClassificationHead


def example(words=4):
    """Ids and labels of one line: 1 for letters of a number."""
    line = [random.choice(random.choice((NUMBERS, OTHERS))) for _ in range(words)]
    text = " ".join(line)
    labels = " ".join(("1" if word in NUMBERS else "0") * len(word) for word in line)
    return [LETTERS.index(c) for c in text], [int(c == "1") for c in labels]


def batch(size=48):
    lines = [example() for _ in range(size)]
    longest = max(len(ids) for ids, _ in lines)
    ids = torch.tensor([ids + [0] * (longest - len(ids)) for ids, _ in lines])
    labels = torch.tensor([own + [-100] * (longest - len(own)) for _, own in lines])
    return ids, labels


def main(folder):
    torch.manual_seed(0)
    random.seed(0)
    config = TransformerConfig(
        vocab_size=len(LETTERS),
        output_dim=2,
        head="token_classification",
        n_layers=2,
        dropout=0.0,
        rotary_pct=1.0,
    )
    model = Transformer(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(200):
        ids, labels = batch()
        loss = F.cross_entropy(model(ids).flatten(0, 1), labels.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (0, 199):
            print(f"step {step}: loss {loss.item():.3f}")
    model.eval().save_pretrained(folder)
    loaded = Transformer.from_pretrained(folder)
    print("loaded equals saved:", torch.equal(loaded(ids), model(ids)))
    text = "steep two cup nine"
    marks = loaded(torch.tensor([[LETTERS.index(c) for c in text]])).argmax(-1)[0].tolist()
    print(text, "".join("^" if mark else " " for mark in marks), sep="\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(sys.argv[1] if len(sys.argv) > 1 else scratch)
