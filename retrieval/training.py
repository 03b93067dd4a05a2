"""What the training of encoders has of an index: evaluation by search, negatives, pairs."""

import json
import random
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexes.view import View
from retrieval.assembly import Encoder
from retrieval.building import build_index
from retrieval.documents import Document
from retrieval.evaluation import DEFAULT_METRICS, read_beir, search_all
from retrieval.hits import document
from retrieval.known_items import known_items
from retrieval.metrics import means
from retrieval.runs import replace_lines
from retrieval.runtimes import find_recorded
from retrieval.searcher import Searcher
from retrieval.sts import spearman

if TYPE_CHECKING:
    from miniformer.train.pairs import Example

# The encoder alone is measured, on whole documents.
PLAIN: dict[str, Any] = {"lexical": False, "passages": "none", "kind": "flat"}
MINED_DEPTH = 50  # hits of a query among which its hard negatives are
TOO_SIMILAR = 0.95  # of the positive's own similarity: likely a positive that nobody marked
CUT = 400  # characters of a passage that are trained on
# What adapts a model to a collection without harm; see benchmarks/RESULTS.md.
ADAPTING = {
    **{"base_share": 0.75, "freeze_embeddings": True},
    **{"batch_size": 32, "lr": 5e-5, "warmup_steps": 5},
}

Evaluate = Callable[[Path], Mapping[str, float]]


def evaluator(sources: Sequence[str | Path], *, dtype: str = "auto") -> Evaluate:
    """Measure a model folder on every source: a BEIR folder gives nDCG@10 and recall@100 through an
    index and a search, a file of scored pairs (``sentence1``, ``sentence2``, ``score``) Spearman's
    ρ. Of several sources each metric has its source's name behind it, and the first is the mean.
    """
    measures = [_retrieval(Path(s)) if Path(s).is_dir() else _similarity(Path(s)) for s in sources]
    names = [_unique_name(Path(source), sources) for source in sources]

    def measure(folder: Path) -> dict[str, float]:
        encoder = Encoder(str(folder), dtype=dtype)
        results = [each(encoder) for each in measures]
        if len(results) == 1:
            return dict(results[0])
        first = next(iter(results[0]))
        mean = float(np.mean([next(iter(result.values())) for result in results]))
        named = zip(names, results, strict=True)
        return {first: mean} | {f"{m}/{n}": v for n, result in named for m, v in result.items()}

    return measure


def _unique_name(path: Path, sources: Sequence[str | Path]) -> str:
    same = sum(Path(source).stem == path.stem for source in sources) > 1
    return re.sub(r"\W+", "-", str(path)) if same else path.stem


def _retrieval(folder: Path) -> Callable[[Encoder], Mapping[str, float]]:
    judged = read_beir(folder)

    def measure(encoder: Encoder) -> Mapping[str, float]:
        with tempfile.TemporaryDirectory() as place:
            index = Path(place) / "index"
            build_index(judged.corpus, index, encoder=encoder, metadata_columns=[], **PLAIN)
            with Searcher(index, encoder=encoder) as searcher:
                run = search_all(searcher, judged.queries, k=100)
        return means(run, judged.qrels, DEFAULT_METRICS)

    return measure


def _similarity(path: Path) -> Callable[[Encoder], Mapping[str, float]]:
    from miniformer.train.records import read_records

    records = read_records(path)
    texts = [[record.text(name) for record in records] for name in ("sentence1", "sentence2")]
    scores = np.array([record.number("score") for record in records])

    def measure(encoder: Encoder) -> Mapping[str, float]:
        left, right = (encoder.encode(column) for column in texts)
        return {"spearman": spearman(np.sum(left * right, axis=1), scores)}

    return measure


def adapting(folder: Path) -> dict[str, Any]:
    """What adapts the model of an index to its documents by pairs of :func:`write_pairs`: fields of
    :class:`~miniformer.train.encoder_config.EncoderConfig`. ValueError where it is not here.
    """
    return {"base": str(find_recorded(View(folder).content.model).path), **ADAPTING}


def write_pairs(folder: Path, path: Path, count: int, *, seed: int = 0) -> None:
    """Make up to ``count`` pairs of the documents of an index, without labels (see
    :mod:`retrieval.known_items`): JSON lines of query and positive. ValueError for fewer than two.
    """
    view, chance = View(folder), random.Random(seed)
    places = np.random.default_rng(seed).permutation(view.positions())
    items = (item for place in places for item in known_items(document(view, int(place)), chance))
    made = [(item.question, item.passage.strip()[:CUT]) for item in islice(items, count)]
    if len(made) < 2:
        raise ValueError(
            f"{folder}: its {len(view)} rows make {len(made)} pairs, two are needed at least; "
            "pairs are made of titles with texts, and of texts of eight words or more"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_lines(path, (json.dumps({"query": q, "positive": text}) for q, text in made))


def mine_negatives(folder: Path, examples: Sequence["Example"], count: int) -> list["Example"]:
    """The same examples with ``count`` hard negatives each: of all positives, those that an index
    of this model ranks highest for the query, without its own positives and what is as good.

    An example with too few takes the next positives of the file; ValueError where there are not
    enough of them.
    """
    positives = list(dict.fromkeys(example.texts[1] for example in examples))
    known: dict[str, set[str]] = {}
    for example in examples:
        known.setdefault(example.texts[0], set()).add(example.texts[1])
    queries = list(known)
    encoder = Encoder(str(folder))
    rows = (Document(str(number), text) for number, text in enumerate(positives))
    with tempfile.TemporaryDirectory() as place:
        build_index(rows, Path(place) / "index", encoder=encoder, **PLAIN)
        with Searcher(Path(place) / "index", encoder=encoder) as searcher:
            found = dict(zip(queries, searcher.search_batch(queries, MINED_DEPTH), strict=True))
    mined = []
    for example in examples:
        query, positive = example.texts[:2]
        own = next((hit.score for hit in found[query] if hit.text == positive), 1.0)
        hard = [h.text for h in found[query] if h.score < TOO_SIMILAR * own]
        hard = [text for text in hard if text not in known[query]][:count]
        taken = known[query].union(hard)
        spare = (text for text in positives if text not in taken)
        hard += islice(spare, count - len(hard))
        if len(hard) < count:
            raise ValueError(
                f"{count} hard negatives are asked for, but only {len(hard)} of {len(positives)} "
                f"passages do not answer {query[:60]!r}; bring more passages, or ask for fewer"
            )
        mined.append(replace(example, texts=(query, positive, *hard)))
    return mined
