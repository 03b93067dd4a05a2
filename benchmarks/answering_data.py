"""Questions for the generator that ships: ``python -m benchmarks.answering_data FOLDER [SHARE]``.

From the data whose licence lets a model trained on it be shared: SquadShifts' train splits, QAMR
and PolicyQA. Each question stands beside its passage, alone or with a retrieved one that does not
have its answer; some stand beside such a passage only and have no answer. ``swapped.jsonl`` has the
same examples in the same order, in half of which the answer was replaced, in the passage too, by
another question's: there the passage alone can tell. ``crowd.jsonl`` has the same questions among
the passages nearest to them, as they come from an index. ``tune.jsonl`` holds
questions on passages that the others have none of, half of them without an answer; so does
``tune-asked.jsonl``, to be asked of an index of ``tune-passages.jsonl``. ``SHARE`` (default 1)
takes that part of the questions only.
"""

import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from zlib import crc32

import numpy as np
from pyarrow import parquet

from benchmarks.data import DATA
from benchmarks.training_data import SEED, write_lines
from retrieval import Document, Searcher, build_index

# file -> the part of its questions that is taken: PolicyQA and QAMR ask much of few passages
SOURCES = {
    **{f"squadshifts-{name}-train": 1.0 for name in ("amazon-reviews", "new-wiki", "reddit")},
    **{"policyqa-dev": 0.5, "policyqa-test": 0.5, "qamr-dev": 0.5},
}
BESIDE, WITHOUT = 0.25, 0.3  # of the questions: with a wrong passage too; again with only one
NEAREST = 10  # retrieved passages, of which the wrong ones are drawn
CROWD = 3  # passages of a question in crowd.jsonl
SWAPPED, ALIKE = 0.5, 0.5  # of the answers: another's instead; of these: of a question begun alike
HELD_OUT = 12  # one of so many SquadShifts passages is for tuning


def questions(name: str, share: float, chance: np.random.Generator) -> list[dict]:
    rows = parquet.read_table(DATA / f"qa/{name}.parquet").to_pylist()
    rows = [rows[n] for n in sorted(chance.permutation(len(rows))[: int(len(rows) * share)])]
    kept = []
    for row in rows:
        answers = [answer for answer in row["answers"] if answer in row["context"]]
        if row["question"].strip() and answers:
            kept.append(
                {"question": row["question"], "context": row["context"], "answers": answers}
            )
    return kept


def with_wrong(rows: list[dict], chance: np.random.Generator) -> None:
    """Give each question a passage that was retrieved for it and has none of its answers."""
    contexts = list(dict.fromkeys(row["context"] for row in rows))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        documents = (Document(str(number), text) for number, text in enumerate(contexts))
        build_index(documents, path, lexical=False, passages="none")
        searcher = Searcher(path)
        found = searcher.search_batch([row["question"] for row in rows], NEAREST)
    for row, hits in zip(rows, found, strict=True):
        wrong = [h.text for h in hits if not any(answer in h.text for answer in row["answers"])]
        row["nearest"] = wrong[:CROWD]
        row["wrong"] = wrong[chance.integers(len(wrong))] if wrong else None


def examples(row: dict, chance: np.random.Generator, *, tuning: bool) -> list[dict]:
    question, answers = row["question"], row["answers"]
    passages = [row["context"]]
    draw = chance.random()
    if row["wrong"] and draw < BESIDE and not tuning:
        passages.insert(int(chance.integers(2)), row["wrong"])
    right = {"question": question, "passages": passages, "answers": answers}
    nothing = {"question": question, "passages": [row["wrong"]], "answers": []}
    if tuning:
        return [nothing] if row["wrong"] and draw < 0.5 else [right]
    again = row["wrong"] and chance.random() < WITHOUT
    return [right, nothing] if again else [right]


def crowd(row: dict, chance: np.random.Generator) -> dict:
    """A question among the passages nearest to it, its own one of them or not."""
    passages, answers = row["nearest"], []
    if len(passages) < CROWD or chance.random() >= WITHOUT:
        passages, answers = [row["context"], *passages[: CROWD - 1]], row["answers"]
    passages = [passages[n] for n in chance.permutation(len(passages))]
    return {"question": row["question"], "passages": passages, "answers": answers}


def beginning(question: str) -> str:
    """What kind of thing a question asks for, roughly: its first two words."""
    return " ".join(question.lower().split()[:2])


def swapped(lines: list[dict], chance: np.random.Generator) -> list[dict]:
    """Give half of the answered questions another question's answer, in their passages too."""
    alike, every = defaultdict(list), []
    for line in lines:
        if line["answers"]:
            alike[beginning(line["question"])].append(line["answers"][0])
            every.append(line["answers"][0])
    changed = []
    for line in lines:
        if line["answers"] and chance.random() < SWAPPED:
            same = chance.random() < ALIKE
            others = alike[beginning(line["question"])] if same else every
            other, passages = others[chance.integers(len(others))], line["passages"]
            for answer in sorted(set(line["answers"]), key=len, reverse=True):
                passages = [passage.replace(answer, other) for passage in passages]
            line = line | {"passages": passages, "answers": [other]}
        changed.append(line)
    return changed


def tuning_index(folder: Path, rows: list[dict]) -> None:
    """Half of the passages for an index, and questions on all of them."""
    kept = {row["context"] for row in rows if crc32(row["context"][::-1].encode()) % 2}
    write_lines(
        folder / "tune-passages.jsonl",
        [{"id": str(number), "text": text} for number, text in enumerate(sorted(kept))],
    )
    asked = [row | {"answers": row["answers"] if row["context"] in kept else []} for row in rows]
    names = ("question", "context", "answers")
    write_lines(folder / "tune-asked.jsonl", [{n: row[n] for n in names} for row in asked])


def held_out(name: str, context: str) -> bool:
    return name.startswith("squad") and crc32(context.encode()) % HELD_OUT == 0


def main(folder: Path, share: float) -> None:
    chance = np.random.default_rng(SEED)
    folder.mkdir(parents=True, exist_ok=True)
    train, tune, learned, tuning = [], [], [], []
    for name, part in SOURCES.items():
        rows = questions(name, part * share, chance)
        for held, into in ((False, train), (True, tune)):
            some = [row for row in rows if held == held_out(name, row["context"])]
            if some:
                with_wrong(some, chance)
            (tuning if held else learned).extend(some)
            for row in some:
                into += examples(row, chance, tuning=held)
        print(f"{name}: {len(rows)} questions", file=sys.stderr)
    tuning_index(folder, tuning)
    other = np.random.default_rng(SEED + 1)
    crowded = [crowd(row, other) for row in learned]
    mixed = {
        name: [lines[n] for n in chance.permutation(len(lines))]
        for name, lines in (("train", train), ("tune", tune), ("crowd", crowded))
    }
    mixed["swapped"] = swapped(mixed["train"], np.random.default_rng(SEED + 2))
    for name, lines in mixed.items():
        write_lines(folder / f"{name}.jsonl", lines)
        empty = sum(not line["answers"] for line in lines)
        print(f"{name}.jsonl: {len(lines)} examples, {empty} without answer", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 1.0)
