"""What a difference between two rankings is worth: intervals by bootstrap, and a paired test."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
SAMPLES = 10_000
TIE = 1e-9  # two values of a metric that differ by less are equal but for rounding
AT_ONCE = 2**20  # numbers that a resampling holds in memory
Numbers = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Estimate:
    """A figure of a sample, and the interval ``low`` … ``high`` that it has with 95 % confidence
    for questions of the same kind.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class Comparison:
    """One system against another on the same queries: the other's mean, the mean ``difference``
    (ours less the other's), ``p`` of the paired randomisation test, and the numbers of queries
    where ours is better, worse and equal.
    """

    other: float
    difference: Estimate
    p: float
    wins: int
    losses: int
    ties: int


def estimate_mean(values: Sequence[float], *, samples: int = SAMPLES, seed: int = 0) -> Estimate:
    """The mean of values, one a query, with its bootstrap interval."""
    low, high = bootstrap_interval(values, samples=samples, seed=seed)
    return Estimate(float(np.mean(values)), low, high)


def bootstrap_interval(
    values: Sequence[float],
    *,
    confidence: float = CONFIDENCE,
    samples: int = SAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Where the mean lies with this confidence: percentiles of the means of ``samples`` drawings
    with replacement (Efron 1979). The same seed gives the same interval. ValueError without values.
    """
    numbers = np.asarray(values, np.float64)
    return resampled_interval(
        lambda rows: numbers[rows].mean(axis=1),
        len(numbers),
        confidence=confidence,
        samples=samples,
        seed=seed,
    )


def resampled_interval(
    statistic: Callable[[Rows], Numbers],
    count: int,
    *,
    confidence: float = CONFIDENCE,
    samples: int = SAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """:func:`bootstrap_interval` of any statistic of ``count`` observations: it gets drawings of
    their positions int64 [b, count] and gives float64 [b].
    """
    if count < 1:
        raise ValueError("an interval needs at least one value")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    random = np.random.default_rng(seed)
    drawn = [statistic(random.integers(count, size=size)) for size in _blocks(samples, count)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(drawn), [tail, 1 - tail])
    return float(low), float(high)


def _blocks(samples: int, count: int) -> Iterator[tuple[int, int]]:
    """Shapes of at most ``AT_ONCE`` numbers that have ``samples`` rows together."""
    size = max(1, AT_ONCE // count)
    for first in range(0, samples, size):
        yield min(size, samples - first), count


def randomisation_test(
    differences: Sequence[float], *, samples: int = SAMPLES, seed: int = 0
) -> float:
    """The p value, two-sided, of paired differences whose mean would be 0: how often the mean is as
    far from 0 when each sign is tossed (Fisher 1935; Smucker, Allan & Carterette 2007).

    Exact where there are at most ``samples`` ways to toss them; else that many are drawn, and the
    one that was observed counts among them, so that p is never 0 (Phipson & Smyth 2010).
    """
    found = np.asarray(differences, np.float64)
    found = found[np.abs(found) > TIE]  # a sign of zero changes nothing
    total = float(found.sum())
    least = abs(total) - TIE
    if 2 ** len(found) <= samples:
        tossed = np.arange(2 ** len(found))[:, None] >> np.arange(len(found)) & 1
        return float(np.mean(_as_far(tossed, found, total, least)))
    random = np.random.default_rng(seed)
    shapes = _blocks(samples, len(found))
    as_far = sum(
        int(_as_far(random.integers(2, size=s), found, total, least).sum()) for s in shapes
    )
    return (1 + as_far) / (1 + samples)


def _as_far(tossed: Rows, found: Numbers, total: float, least: float) -> npt.NDArray[np.bool_]:
    """Where the sum is at least that far from 0, with the signs of those that are 1 turned."""
    return np.abs(total - 2 * (tossed @ found)) >= least


def differences(ours: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Ours less the other's for each query; ValueError unless both have the same queries."""
    if ours.keys() != other.keys():
        odd = min(ours.keys() ^ other.keys())
        raise ValueError(f"only one of the two has query {odd!r}; compare on the same queries")
    return {query: value - other[query] for query, value in ours.items()}


def compare(
    ours: Mapping[str, float],
    other: Mapping[str, float],
    *,
    samples: int = SAMPLES,
    seed: int = 0,
) -> Comparison:
    """Ours against another by one metric, query by query; errors are those of :func:`differences`
    and :func:`bootstrap_interval`.
    """
    paired = list(differences(ours, other).values())
    wins, losses = sum(d > TIE for d in paired), sum(d < -TIE for d in paired)
    return Comparison(
        other=float(np.mean(list(other.values()))) if other else 0.0,
        difference=estimate_mean(paired, samples=samples, seed=seed),
        p=randomisation_test(paired, samples=samples, seed=seed),
        wins=wins,
        losses=losses,
        ties=len(paired) - wins - losses,
    )
