"""Our metrics beside ir_measures on random runs with ties: the largest difference of each.

pip install ir_measures; python -m benchmarks.metrics_check [--runs 1000] [--golden FILE]
"""

import argparse
import json
import random
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from retrieval.documents import Qrel
from retrieval.metrics import METRICS, per_query, ranked

CUTOFFS = (1, 3, 5, 10, 20, 100)
ALL = tuple(f"{name}@{k}" for name in METRICS for k in CUTOFFS)
GRADES = (-1, 0, 0, 0, 1, 1, 2, 3)
Run = dict[str, dict[str, float]]
Judged = tuple[Run, list[Qrel]]


def random_judged(draw: random.Random, queries: int = 8) -> Judged:
    """A run and judgments: ids that sort otherwise than their numbers, many equal scores, some that
    only float64 tells apart, negative grades, queries without ranking, judgment or relevance.
    """
    run: Run = {}
    qrels = []
    for number in range(queries):
        query = f"q{number}"
        pool = [f"{draw.choice('dDé𝄞')}{n}" for n in draw.sample(range(400), draw.randint(1, 120))]
        if draw.random() < 0.9:
            levels = draw.choice([1, 2, 5, 1_000_000])
            found = draw.sample(pool, draw.randint(1, len(pool)))
            run[query] = {doc: _score(draw, levels) for doc in found}
        if draw.random() < 0.9:
            judged = draw.sample(pool, draw.randint(1, len(pool)))
            others = [f"never found {n}" for n in range(draw.randint(0, 5))]
            qrels += [Qrel(query, doc, draw.choice(GRADES)) for doc in judged + others]
    return run, qrels


def _score(draw: random.Random, levels: int) -> float:
    nearly = draw.choice([0.0, 0.0, 1e-12])  # less than float32 can tell
    return draw.randrange(levels) / levels - 0.25 + nearly


def by_ir_measures(run: Run, qrels: list[Qrel]) -> dict[str, dict[str, float]]:
    """The same values by ir_measures, for the queries that have a relevant document.

    Its reciprocal rank with a cutoff and its share of judged documents rank equal scores the other
    way round than the metrics that it takes from trec_eval; they get a run without ties, which has
    the order of trec_eval.
    """
    import ir_measures

    relevant = {qrel.query_id for qrel in qrels if qrel.relevance > 0}
    truth = [ir_measures.Qrel(*qrel) for qrel in qrels]
    untied = {
        query: {doc: -float(rank) for rank, doc in enumerate(ranked(scores))}
        for query, scores in run.items()
    }
    values: dict[str, dict[str, float]] = {metric: {} for metric in ALL}
    for given, names in ((run, SAME_TIES), (untied, OTHER_TIES)):
        measures = {
            ir_measures.parse_measure(f"{names[name]}@{k}"): f"{name}@{k}"
            for name in names
            for k in CUTOFFS
        }
        for found in ir_measures.iter_calc(list(measures), truth, _scored(given)):
            if found.query_id in relevant:
                values[measures[found.measure]][found.query_id] = found.value
    return values


SAME_TIES = {"ndcg": "nDCG", "map": "AP", "recall": "R", "precision": "P"}
OTHER_TIES = {"mrr": "RR", "judged": "Judged"}


def _scored(run: Run) -> list[Any]:
    import ir_measures

    return [ir_measures.ScoredDoc(q, doc, s) for q, docs in run.items() for doc, s in docs.items()]


def reciprocal_rank_by_trec_eval(run: Run, qrels: list[Qrel], k: int) -> dict[str, float]:
    """Its reciprocal rank without a cutoff, with the ties as they are, cut at k."""
    import ir_measures

    truth = [ir_measures.Qrel(*qrel) for qrel in qrels]
    found = ir_measures.iter_calc([ir_measures.RR], truth, _scored(run))
    return {each.query_id: each.value if each.value >= 1 / k else 0.0 for each in found}


def differences(run: Run, qrels: list[Qrel]) -> Iterator[tuple[str, float]]:
    """Each metric and how far ours is from theirs, query by query."""
    ours, theirs = per_query(run, qrels, ALL), by_ir_measures(run, qrels)
    for metric in ALL:
        assert ours[metric].keys() == theirs[metric].keys()
        for query, value in ours[metric].items():
            yield metric.split("@")[0], abs(value - theirs[metric][query])
    for k in CUTOFFS:
        whole = reciprocal_rank_by_trec_eval(run, qrels, k)
        for query, value in ours[f"mrr@{k}"].items():
            yield "mrr, with ties", abs(value - whole[query])


def largest_differences(runs: int) -> tuple[dict[str, float], int]:
    """The largest difference of each metric on so many random runs, and how many values there were.

    Run n is drawn with the seed n.
    """
    largest: dict[str, float] = {}
    compared = 0
    for seed in range(runs):
        for metric, difference in differences(*random_judged(random.Random(seed))):
            largest[metric] = max(largest.get(metric, 0.0), difference)
            compared += 1
    return largest, compared


def golden(runs: int) -> Mapping[str, Any]:
    """Small runs, their judgments and what ir_measures says, to be kept with the tests."""
    cases = []
    for seed in range(runs):
        run, qrels = random_judged(random.Random(10_000 + seed), queries=2)
        qrels = [q for q in qrels if len(run.get(q.query_id, ())) < 40]
        if any(q.relevance > 0 for q in qrels):
            run = {query: run[query] for query in {q.query_id for q in qrels} if query in run}
            values = by_ir_measures(run, qrels)
            cases.append({"run": run, "qrels": qrels, "values": _of_means(values)})
    return {"made_with": f"ir_measures {version('ir_measures')}", "cases": cases}


def _of_means(values: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {metric: sum(of.values()) / len(of) for metric, of in values.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--golden", type=Path)
    options = parser.parse_args()
    if options.golden:
        options.golden.write_text(json.dumps(golden(options.runs), ensure_ascii=False) + "\n")
        return
    largest, compared = largest_differences(options.runs)
    print(f"ir_measures {version('ir_measures')}, {options.runs} runs, {compared} values")
    for metric, difference in largest.items():
        print(f"{metric:15} {difference:.3g}")


if __name__ == "__main__":
    main()
