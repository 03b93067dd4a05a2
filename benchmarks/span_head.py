"""The rival of the generator that ships: a span head on the same MiniLM, in transformers.

    python -m benchmarks.span_head TRAIN.jsonl FOLDER [--dev FILE...]

``BertForQuestionAnswering`` learns from the same examples in the same batches for one epoch, with
the same optimizer and schedule: a row for each passage, [CLS] where it has no answer. It then
answers the questions of the dev files beside their passages; its answer is the best span of at most
30 tokens. Goes on from FOLDER/last.pt where it was stopped.
"""

import argparse
import os
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import BertForQuestionAnswering, get_cosine_schedule_with_warmup

from benchmarks.data import DATA, machine, wheel_model
from miniformer.minilm.tokenizer import pad
from miniformer.model.passages import plain, read_passages
from miniformer.train.answers import best_of, exact_match, f1
from miniformer.train.batches import by_length
from miniformer.train.pointing import pointing_example
from miniformer.train.records import read_records
from retrieval.answer_evaluation import read_asked

LENGTH, BATCH, PEAK, WARMUP, SEED = 384, 16, 2e-4, 150, 42
SAVED_EVERY = 200  # steps
LONGEST = 30  # tokens of an answer
DEV = [DATA / f"qa/squadshifts-{name}-dev.parquet" for name in ("amazon-reviews", "new-wiki")]
DEV.append(DATA / "qa/squadshifts-reddit-dev.parquet")


class Reading:
    """What :func:`pointing_example` asks of a data module."""

    max_length = LENGTH

    def __init__(self) -> None:
        path = Path(wheel_model()) / "tokenizer.json"
        self.plain_tokenizer = plain(Tokenizer.from_file(str(path)))


def rows_of(example) -> list[tuple[list[int], int, int]]:
    """Ids, first and last place of each row of an example; 0 and 0 where it has no answer."""
    answered, *ends = example.target or (None, 0, 0)
    return [
        (ids, *(ends if number == answered else (0, 0)))
        for number, ids in enumerate(example.source.rows)
    ]


def train(model: BertForQuestionAnswering, examples: list, folder: Path) -> None:
    plan = by_length([len(each.source) * len(each.source.rows) for each in examples], BATCH)
    batches = plan(torch.Generator().manual_seed(SEED * 1_000_003))
    kept = [p for n, p in model.named_parameters() if p.dim() < 2]
    rest = [p for n, p in model.named_parameters() if p.dim() >= 2]
    optimizer = torch.optim.AdamW(
        [{"params": rest, "weight_decay": 0.01}, {"params": kept, "weight_decay": 0.0}], lr=PEAK
    )
    schedule = get_cosine_schedule_with_warmup(optimizer, WARMUP, len(batches))
    folder.mkdir(parents=True, exist_ok=True)
    last, begin = folder / "last.pt", 0
    if last.exists():
        state = torch.load(last, weights_only=True)
        begin = state["step"]
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
    began = time.perf_counter()
    for step, batch in enumerate(batches[begin:], start=begin + 1):
        ids, first, final = zip(*(row for n in batch for row in rows_of(examples[n])), strict=True)
        source, mask = pad(list(ids))
        loss = model(
            input_ids=source,
            attention_mask=mask,
            start_positions=torch.tensor(first),
            end_positions=torch.tensor(final),
        ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % SAVED_EVERY == 0 or step == len(batches):
            state = {"step": step, "model": model.state_dict()}
            state |= {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
            torch.save(state, folder / "new.pt")
            os.replace(folder / "new.pt", last)
            seconds = time.perf_counter() - began
            print(f"step {step} of {len(batches)}: loss {loss:.3f}, {seconds:.0f} s", flush=True)


@torch.inference_mode()
def answer(model: BertForQuestionAnswering, tokenizer: Tokenizer, asked) -> str:
    read = read_passages(tokenizer, asked.question, asked.passages, LENGTH)
    source, mask = pad(read.rows)
    out = model(input_ids=source, attention_mask=mask)
    within = torch.zeros_like(mask)
    for number, row in enumerate(read.rows):
        within[number, read.begins[number] : len(row) - 1] = 1
    start, end = (
        scores.masked_fill(within == 0, -1e9) for scores in (out.start_logits, out.end_logits)
    )
    pairs = start[:, :, None] + end[:, None]
    allowed = torch.ones_like(pairs[0]).triu().tril(LONGEST - 1).bool()
    row, place = divmod(
        int(pairs.masked_fill(~allowed, -1e10).argmax()), source.size(1) * source.size(1)
    )
    passage, begin, stop = read.characters(row, *divmod(place, source.size(1)))
    return asked.passages[passage][begin:stop]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dev", type=Path, nargs="+", default=DEV)
    options = parser.parse_args()
    print(machine("transformers"))
    torch.manual_seed(SEED)
    model = BertForQuestionAnswering.from_pretrained(
        wheel_model(), hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    reading = Reading()
    examples = [pointing_example(record, reading) for record in read_records(options.train)]
    train(model.train(), examples, options.folder)
    model.eval()
    scores = []
    for path in options.dev:
        for asked in read_asked(path):
            text = answer(model, reading.plain_tokenizer, asked)
            scores.append([best_of(metric, text, asked.golds) for metric in (f1, exact_match)])
    near, exact = 100 * torch.tensor(scores).mean(0)
    print(f"{len(scores)} questions: F1 {near:.1f}, EM {exact:.1f}")


if __name__ == "__main__":
    main()
