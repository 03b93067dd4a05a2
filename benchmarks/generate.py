"""Tokens per second of a T5-small shape against transformers.generate, on the same weights.

    python -m benchmarks.generate [--rounds 5] [--source 256] [--new 32] [--ctranslate2]

Random weights, as transformers saves them; every run reads 256 tokens and writes exactly 32.
With --ctranslate2 (pip install ctranslate2) its int8 conversion of the same folder runs too.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import T5Config, T5ForConditionalGeneration

from benchmarks.data import machine
from miniformer import Seq2SeqTransformer
from miniformer.model.packing import PRECISIONS, pack

PEER = "transformers, float32"


def runs_of(peer, models, source, new: int, beams: int) -> dict[str, Callable]:
    mask = torch.ones_like(source)
    runs = {
        PEER: lambda: peer.generate(
            source,
            attention_mask=mask,
            max_new_tokens=new,
            min_new_tokens=new,
            num_beams=beams,
            do_sample=False,
        )
    }
    for name, model in models.items():
        runs[f"ours, {name}"] = lambda model=model: model.generate(
            source, mask, max_new_tokens=new, num_beams=beams, eos_token_id=()
        )
    return runs


def ctranslate2_run(folder: Path, source, new: int, beams: int) -> Callable:
    import ctranslate2

    target = folder / "ctranslate2"
    if not target.exists():
        converter = ctranslate2.converters.TransformersConverter(str(folder))
        converter.convert(str(target), quantization="int8", force=True)
    translator = ctranslate2.Translator(str(target), device="cpu", intra_threads=2)
    words = [[f"t{token}" for token in row] for row in source.tolist()]
    return lambda: translator.translate_batch(
        words, beam_size=beams, max_decoding_length=new, min_decoding_length=new
    )


def write_vocabulary(folder: Path, size: int) -> None:
    """A tokenizer with a word for every id, which the converter wants to see."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "</s>": 1, "<unk>": 2} | {f"t{i}": i for i in range(3, size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)


def measure(runs: dict[str, Callable], rounds: int) -> dict[str, list[float]]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def drift(reference, model, source) -> str:
    target = torch.randint(3, 32_000, (source.size(0), 32))
    expected, own = reference(source, target)[0], model(source, target)[0].float()
    cosine = torch.cosine_similarity(expected, own, dim=-1).min()
    same = (expected.argmax(-1) == own.argmax(-1)).float().mean()
    relative = (expected - own).abs().max() / expected.abs().max()
    return f"max |Δ| {relative:.1e} of the largest, cosine min {cosine:.5f}, same best {same:.1%}"


def lookup(model, source) -> None:
    """Steps that greedy takes, and prompt lookup, on what these weights write."""
    steps: list[int] = []
    decode = model.decode
    model.decode = lambda *arguments: steps.append(1) or decode(*arguments)
    settings = {"max_new_tokens": 64, "eos_token_id": ()}
    greedy, plain = model.generate(source[:1], **settings), len(steps)
    steps.clear()
    looked_up = model.generate(source[:1], prompt_lookup=True, **settings)
    model.decode = decode
    print(
        f"prompt lookup: identical {torch.equal(greedy, looked_up)}, {plain} → {len(steps)} steps"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--source", type=int, default=256)
    parser.add_argument("--new", type=int, default=32)
    parser.add_argument("--ctranslate2", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(2)
    torch.manual_seed(0)
    peer = T5ForConditionalGeneration(T5Config(decoder_start_token_id=0)).eval()
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        folder = Path(scratch)
        peer.save_pretrained(folder)
        write_vocabulary(folder, peer.config.vocab_size)
        models = {"float32 as loaded": Seq2SeqTransformer.from_pretrained(folder)}
        for precision in PRECISIONS:
            models[precision] = pack(Seq2SeqTransformer.from_pretrained(folder), precision)
        print(machine("transformers"))
        reference = models["float32 as loaded"]
        source = torch.randint(3, 32_000, (8, options.source))
        for name, model in models.items():
            print(f"{name}: {drift(reference, model, source)}")
        lookup(reference, source)
        for rows, beams in ((1, 1), (8, 1), (1, 4), (8, 4)):
            runs = runs_of(peer, models, source[:rows], options.new, beams)
            expected = next(iter(runs.values()))()
            for name in ("ours, float32 as loaded", "ours, float32"):
                print(f"{name}: the peer's tokens: {torch.equal(runs[name](), expected)}")
            if options.ctranslate2:
                runs["CTranslate2, int8"] = ctranslate2_run(
                    folder, source[:rows], options.new, beams
                )
            print(f"batch {rows}, {'greedy' if beams == 1 else f'beam {beams}'}")
            peers = runs.pop(PEER)
            for name, run in runs.items():  # two at a time: more would cool each other's caches
                report(measure({PEER: peers, name: run}, options.rounds), rows * options.new)


def report(seconds: dict[str, list[float]], tokens: int) -> None:
    rates = [f"{tokens / statistics.median(taken):.1f}" for taken in seconds.values()]
    name, own = list(seconds.items())[1]
    ratios = [base / mine for base, mine in zip(seconds[PEER], own, strict=True)]
    print(
        f"{name:24} {rates[1]:>6} tokens/s beside {rates[0]:>6}: "
        f"{statistics.median(ratios):.2f} x ({min(ratios):.2f} … {max(ratios):.2f})",
        flush=True,
    )


if __name__ == "__main__":
    main()
