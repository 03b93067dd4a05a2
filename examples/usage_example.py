"""Sentence embeddings with MiniLM alone: tokenizer, model, pretrained weights, cosines.

python examples/usage_example.py [--model all-MiniLM-L6-v2] [--max_length 64]
"""

import argparse

import torch

from miniformer.minilm import (
    MiniLMTokenizer,
    SentenceTransformer,
    cosine_similarity,
    load_pretrained_weights,
)
from miniformer.minilm.devices import pick_device
from miniformer.minilm.folder import read_spec
from miniformer.weights import find_model

SENTENCES = (
    "It is a beautiful day",
    "The weather is lovely this morning",
    "He parked the lorry behind the warehouse",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="all-MiniLM-L6-v2", help="a model's name or folder")
    parser.add_argument("--max_length", type=int, default=64, help="tokens read of each sentence")
    options = parser.parse_args()

    tokenizer = MiniLMTokenizer(options.model, max_length=options.max_length)
    spec = read_spec(find_model(options.model).path)
    model = SentenceTransformer.from_spec(spec, max_length=options.max_length)
    model = load_pretrained_weights(model, options.model)
    device = pick_device("auto")
    model.to(device)

    batch = tokenizer.encode(SENTENCES)
    print(f"input ids {list(batch['input_ids'].shape)} on {device}")
    with torch.inference_mode():
        embeddings = model(batch["input_ids"].to(device), batch["attention_mask"].to(device))
    print(f"embeddings {list(embeddings.shape)}")

    cosines = cosine_similarity(embeddings, embeddings)
    for left in range(len(SENTENCES)):
        for right in range(left + 1, len(SENTENCES)):
            print(f"{cosines[left, right]:.3f}  {SENTENCES[left]} / {SENTENCES[right]}")


if __name__ == "__main__":
    main()
