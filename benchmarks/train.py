"""Pairs per second of encoder training, ours and sentence-transformers' trainer side by side.

``python -m benchmarks.train FOLDER`` after ``python -m benchmarks.training_data FOLDER``; needs
``pip install accelerate datasets``, which that trainer is built on. Same data, batch, steps and
rate; interleaved; medians; the loss is that of pairs held out. The last line of a task is our
default, ``precision auto``.
"""

import argparse
import itertools
import logging
import statistics
import time
import warnings
from pathlib import Path

import lightning.pytorch as pl
import torch

from miniformer.minilm.tokenizer import MiniLMTokenizer
from miniformer.train.contrastive import LOSSES, Embedded, make_loss
from miniformer.train.encoder_config import EncoderConfig
from miniformer.train.encoder_data import EncoderData
from miniformer.train.encoder_module import EncoderLitModule
from miniformer.train.records import read_records
from miniformer.train.runner import hardware
from miniformer.weights import find_model

TASKS = {
    "cosent": ("sts-train.jsonl", ("sentence1", "sentence2", "score"), 32),
    "mnrl": ("squad-train.jsonl", ("query", "positive"), 16),
}
MODEL = "all-MiniLM-L6-v2"
LR = 2e-5
NO_TEXTS = torch.arange(32).view(2, 16)  # none of them equal


class Watch(pl.Callback):
    """When the first step began and the last ended."""

    def on_train_start(self, trainer, pl_module):
        self.began = time.perf_counter()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.seconds = time.perf_counter() - self.began


@torch.no_grad()
def held_out(path, kind, encode):
    """The mean loss of 32 batches of 16 pairs of the dev file, under one encoder or the other."""
    records = read_records(path.with_name(path.name.replace("train", "dev")))[:512]
    columns = [encode([record[name] for record in records]) for name in TASKS[kind][1][:2]]
    vectors = torch.stack([torch.as_tensor(column) for column in columns]).float()
    scores = torch.tensor([record.get("score", 0.0) for record in records])
    loss = make_loss(LOSSES[kind], {})
    batches = range(0, len(records), 16)
    return statistics.fmean(
        float(loss(Embedded(vectors[:, b : b + 16], NO_TEXTS, scores[b : b + 16]))) for b in batches
    )


def ours(path, kind, batch, steps, precision):
    config = EncoderConfig(
        train_path=[str(path)], loss=kind, batch_size=batch, scheduler="none", lr=LR, gpus=0
    )
    config.precision = precision
    data, module = EncoderData(config), EncoderLitModule(config)
    data.tokenizer = MiniLMTokenizer(MODEL, module.model.model.max_length)
    watch = Watch()
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        **hardware(config),
        max_steps=steps,
        gradient_clip_val=1.0,
        logger=False,
        callbacks=[watch],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    module.eval()
    tokens = data.tokenizer.encode
    loss = held_out(
        path,
        kind,
        lambda texts: torch.cat(
            [
                module.model(e["input_ids"], e["attention_mask"])
                for e in (tokens(texts[b : b + 32]) for b in range(0, len(texts), 32))
            ]
        ),
    )
    return steps * batch / watch.seconds, loss


def theirs(path, kind, batch, steps, precision):
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import (
        CoSENTLoss,
        MultipleNegativesRankingLoss,
    )
    from transformers import TrainerCallback

    class Times(TrainerCallback):
        def on_train_begin(self, *arguments, **more):
            self.began = time.perf_counter()

        def on_log(self, args, state, control, logs=None, **more):
            if "loss" in logs:
                self.seconds = time.perf_counter() - self.began

    times = Times()
    columns = TASKS[kind][1]
    records = read_records(path)
    dataset = Dataset.from_dict({name: [r[name] for r in records] for name in columns})
    model = SentenceTransformer(str(find_model(MODEL).path), device="cpu")
    loss = {"cosent": CoSENTLoss, "mnrl": MultipleNegativesRankingLoss}[kind](model)
    arguments = SentenceTransformerTrainingArguments(
        output_dir="/tmp/benchmark-sentence-transformers",
        per_device_train_batch_size=batch,
        max_steps=steps,
        learning_rate=LR,
        weight_decay=0.01,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        use_cpu=True,
        bf16=precision == "bf16",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        batch_sampler="no_duplicates" if kind == "mnrl" else "batch_sampler",
        seed=0,
    )
    trainer = SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=dataset, loss=loss, callbacks=[times]
    )
    trainer.train()
    return steps * batch / times.seconds, held_out(path, kind, model.encode)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--task", choices=TASKS, action="append")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(2)
    runs = [("32", ours, theirs), ("bf16", ours, theirs)]
    for kind in options.task or TASKS:
        name, _, batch = TASKS[kind]
        found = {}
        for _, (precision, *sides) in itertools.product(range(options.rounds), runs):
            for side in sides:
                result = side(options.folder / name, kind, batch, options.steps, precision)
                found.setdefault((precision, side.__name__), []).append(result)
        rates = {key: statistics.median(r for r, _ in values) for key, values in found.items()}
        for (precision, side), values in found.items():
            losses = statistics.fmean(loss for _, loss in values)
            print(
                f"{kind} {precision:>4} {side:<6} {rates[precision, side]:6.1f} pairs/s "
                f"loss {losses:.4f}"
            )
        for precision in ("32", "bf16"):
            ratio = rates[precision, "ours"] / rates[precision, "theirs"]
            print(f"{kind} {precision:>4} ratio {ratio:.2f}")
        print(f"{kind} auto against 32: {rates['bf16', 'ours'] / rates['32', 'theirs']:.2f}")


if __name__ == "__main__":
    main()
