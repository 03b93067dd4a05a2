"""How good an index finds, without labels: its own titles and sentences ask for their documents."""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from indexes.view import View
from retrieval.documents import Qrel
from retrieval.encoding import TextEncoder
from retrieval.evaluation import evaluate_run, search_all
from retrieval.hits import document
from retrieval.known_items import KnownItem, known_items
from retrieval.searcher import Searcher
from retrieval.sidecars import LEXICAL
from retrieval.significance import Estimate

QUESTIONS = 500  # rows that are looked at, and questions that are asked, at most
ALIKE = 0.98  # the least cosine of near-duplicates
EXAMPLES = 5  # of near-duplicates that are named
DEPTH = 10  # recall@10, mrr@10


@dataclass(frozen=True)
class Twins:
    """A row and the other row that is nearest to it."""

    id: str
    other: str
    cosine: float


@dataclass(frozen=True)
class QualityReport:
    """What :func:`check_quality` found over ``sampled`` of the ``rows``; shares are in 0 … 1, and
    None where there is nothing to measure.

    ``modes`` has for each way to rank the mean reciprocal rank and the recall of ``questions``
    known items, mrr@10 and recall@10. ``kind_recall`` is the share of the ten nearest rows by exact
    search that the index's ``kind`` finds for them. ``truncated`` is the share of rows whose text
    was longer than the model reads (None where vectors were imported), ``near_duplicates`` that of
    rows to which another row has a cosine of 0.98 or more, ``examples`` the first of those.
    """

    folder: str
    rows: int
    sampled: int
    questions: int
    kind: str
    modes: Mapping[str, Mapping[str, Estimate]] = field(default_factory=dict)
    kind_recall: float | None = None
    truncated: float | None = None
    near_duplicates: float | None = None
    examples: Sequence[Twins] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def check_quality(
    folder: str | Path,
    *,
    questions: int = QUESTIONS,
    seed: int = 0,
    encoder: TextEncoder | None = None,
) -> QualityReport:
    """Draw up to ``questions`` rows, let each ask for its document (see
    :mod:`retrieval.known_items`), and measure whether it is found, by each way to rank.

    Such questions share more words with what answers them than people's do: compare indexes and
    modes by them, and do not take them for the quality of a search. The same seed draws the same
    rows. ValueError for fewer than one question; the other errors are those of opening an index.
    """
    if questions < 1:
        raise ValueError(f"questions must be at least 1, got {questions}")
    with Searcher(folder, encoder=encoder) as searcher:
        view, chance = View(folder), random.Random(seed)
        positions = view.positions()
        drawn = sorted(chance.sample(range(len(positions)), min(questions, len(positions))))
        sample = positions[drawn]
        asked = _questions(view, sample, chance)
        modes = ("dense", "lexical", "hybrid") if LEXICAL in view.content.sidecars else ("dense",)
        twins = _twins(view, sample)
        return QualityReport(
            folder=str(folder),
            rows=len(view),
            sampled=len(sample),
            questions=len(asked),
            kind="flat" if view.content.ann is None else view.content.ann["kind"],
            modes={mode: _found(searcher, asked, mode) for mode in modes} if asked else {},
            kind_recall=_kind_recall(view, searcher, asked) if asked else None,
            truncated=_truncated(view, sample),
            near_duplicates=len(twins) / len(sample) if len(sample) else None,
            examples=_different(twins)[:EXAMPLES],
        )


def _questions(view: View, sample: Any, chance: random.Random) -> list[KnownItem]:
    """One question of each row that has one."""
    made = [list(known_items(document(view, int(place)), chance)) for place in sample]
    return [chance.choice(items) for items in made if items]


def _found(searcher: Searcher, asked: Sequence[KnownItem], mode: str) -> Mapping[str, Estimate]:
    queries = {str(number): item.question for number, item in enumerate(asked)}
    qrels = [Qrel(str(n), item.document.document_id, 1) for n, item in enumerate(asked)]
    run = search_all(searcher, queries, DEPTH, mode=mode)
    return evaluate_run(run, qrels, (f"mrr@{DEPTH}", f"recall@{DEPTH}")).metrics


def _kind_recall(view: View, searcher: Searcher, asked: Sequence[KnownItem]) -> float:
    """By questions: rows that an index knows would flatter it."""
    if view.content.ann is None:
        return 1.0
    vectors = searcher.encoder.encode_query([item.question for item in asked])
    found, true = (view.search(vectors, DEPTH, exact=exact)[1] for exact in (False, True))
    shares = [np.isin(there, line).mean() for there, line in zip(true, found, strict=True)]
    return float(np.mean(shares))


def _truncated(view: View, sample: Any) -> float | None:
    if not len(sample) or "truncated" not in view.content.source:
        return None
    records = (json.loads(view.payload(int(place))) for place in sample)
    return float(np.mean([record.get("dropped", 0) > 0 for record in records]))


def _different(twins: Sequence[Twins]) -> list[Twins]:
    """Each pair once."""
    return list({frozenset((each.id, each.other)): each for each in reversed(twins)}.values())[::-1]


def _twins(view: View, sample: Any) -> list[Twins]:
    """The sampled rows that have a near-duplicate, and that."""
    if len(view) < 2:
        return []
    scores, nearest = view.search(view.vectors(sample), 2, exact=True)
    twins = []
    for own, cosines, places in zip(sample, scores, nearest, strict=True):
        at = int(places[0] == own)  # of equal rows either may come first
        if cosines[at] >= ALIKE:
            one, other = (document(view, int(place)).id for place in (own, places[at]))
            twins.append(Twins(one, other, float(cosines[at])))
    return twins
