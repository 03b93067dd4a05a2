"""Seconds a question, k passages read: ours beside a span head and T5 in transformers, float32.

    python -m benchmarks.ask [--rounds 7] [--passages 5] [--words 120]

The span head is ``BertForQuestionAnswering`` on the same MiniLM: tokenizing, one padded batch, the
best span. T5 has the shape of flan-t5-small and random weights; it reads as many tokens in one
prompt and writes 32. Ours is the reader that ships, in every number format. All are warm.
"""

import argparse
import statistics
from collections.abc import Callable

import torch
from transformers import (
    AutoTokenizer,
    BertForQuestionAnswering,
    T5Config,
    T5ForConditionalGeneration,
)

from benchmarks.data import machine, passages, wheel_model
from benchmarks.generate import measure
from retrieval import open_generator

QUESTION = "How does the server decide which connection to close first?"
NEW_TOKENS = 32
FORMATS = ("float32", "bfloat16", "int8")


def span_head(texts: list[str]) -> Callable[[], str]:
    tokenizer = AutoTokenizer.from_pretrained(wheel_model())
    model = BertForQuestionAnswering.from_pretrained(wheel_model()).eval()

    def run() -> str:
        batch = tokenizer(
            [QUESTION] * len(texts),
            texts,
            padding=True,
            truncation=True,
            max_length=384,
            return_tensors="pt",
        )
        with torch.inference_mode():
            out = model(**batch)
        scores = out.start_logits[:, :, None] + out.end_logits[:, None]
        best = int(scores.triu().tril(30).argmax())
        row, place = divmod(best, scores[0].numel())
        first, last = divmod(place, scores.size(2))
        return tokenizer.decode(batch["input_ids"][row, first : last + 1])

    return run


def t5(tokens: int) -> Callable[[], torch.Tensor]:
    torch.manual_seed(0)
    config = T5Config(
        d_model=512,
        d_kv=64,
        d_ff=1024,
        num_layers=8,
        num_heads=6,
        vocab_size=32128,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config).eval()
    source = torch.randint(3, 32_000, (1, tokens))
    mask = torch.ones_like(source)
    return lambda: model.generate(
        source,
        attention_mask=mask,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        do_sample=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--passages", type=int, default=5)
    parser.add_argument("--words", type=int, default=120)
    options = parser.parse_args()
    words = " ".join(passages(500)).split()
    size = options.words
    texts = [" ".join(words[n * size : (n + 1) * size]) for n in range(options.passages)]
    tokenizer = AutoTokenizer.from_pretrained(wheel_model())
    tokens = sum(len(row) for row in tokenizer(texts).input_ids)
    runs: dict[str, Callable] = {
        "span head, transformers float32": span_head(texts),
        "flan-t5-small shape, transformers float32": t5(tokens),
    }
    for name in FORMATS:
        if name == "bfloat16" and not torch.cpu.get_capabilities().get("avx512_bf16"):
            continue  # emulated: of no use to anyone
        reader = open_generator(dtype=name)
        runs[f"ours, {name}"] = lambda reader=reader: reader.read([QUESTION], [texts])
    print(machine("transformers"))
    print(f"{options.passages} passages of {options.words} words, {tokens} tokens in all")
    seconds = measure(runs, options.rounds)
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    head, writer = list(medians.values())[:2]
    for name, median in medians.items():
        print(
            f"{name:44} {1000 * median:8.1f} ms   {median / head:5.2f} x the span head   "
            f"{median / writer:5.2f} x T5"
        )


if __name__ == "__main__":
    main()
