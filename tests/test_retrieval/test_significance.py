"""Intervals and the paired test: equal to enumeration, to a plain loop, and to SciPy."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from retrieval import significance
from retrieval.significance import (
    bootstrap_interval,
    compare,
    differences,
    estimate_mean,
    randomisation_test,
)

RNG = np.random.default_rng(7)
PAIRED = [
    RNG.normal(0.3, 1, 9),
    RNG.normal(0, 1, 12),
    np.array([0.5, -0.25, 0.25, 0.25, 0.0, 0.5, -0.5, 0.25]),  # many sums are equal
    np.array([0.1] * 7 + [0.3]),
]


@pytest.mark.parametrize("paired", PAIRED, ids=len)
def test_p_is_exact_where_all_tossings_can_be_gone_through(paired):
    sums = [abs(np.dot(signs, paired)) for signs in product([1, -1], repeat=len(paired))]
    expected = np.mean(np.array(sums) >= abs(paired.sum()) - 1e-9)
    assert randomisation_test(paired) == pytest.approx(expected, abs=1e-12)
    theirs = stats.permutation_test(
        (paired,), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert randomisation_test(paired) == pytest.approx(theirs.pvalue, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.4])
def test_drawn_tossings_come_near_the_exact_p(shift):
    paired = np.random.default_rng(1).normal(shift, 1, 16)
    exact = randomisation_test(paired, samples=2**16)
    drawn = randomisation_test(paired, samples=20_000)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 20_000))


def test_p_is_never_0_and_1_where_nothing_differs():
    assert randomisation_test([1.0] * 60, samples=999) == 1 / 1000
    assert randomisation_test([0.0] * 60) == 1
    assert randomisation_test([0.1 + 0.2 - 0.3] * 60) == 1  # rounding is no difference
    assert randomisation_test([]) == 1
    assert randomisation_test([0.0] * 100 + [1.0] * 3) == randomisation_test([1.0] * 3) == 2 / 8


def test_a_test_of_nothing_is_right_as_often_as_it_says():
    random = np.random.default_rng(3)
    p = [randomisation_test(random.normal(0, 1, 25), samples=199) for _ in range(400)]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.045)


VALUES = RNG.random(40) ** 2


def test_the_interval_is_that_of_a_plain_loop():
    random = np.random.default_rng(5)
    drawn = sorted(VALUES[random.integers(40, size=40)].mean() for _ in range(201))
    found = bootstrap_interval(VALUES, samples=201, seed=5)
    assert found == pytest.approx((drawn[5], drawn[195]))  # 2.5 % and 97.5 % of 0 … 200
    wide = bootstrap_interval(VALUES, samples=201, seed=5, confidence=0.99)
    assert wide == pytest.approx((drawn[1], drawn[199]))


def test_the_interval_does_not_depend_on_what_fits_into_memory(monkeypatch):
    def found():
        p = randomisation_test(VALUES - 0.4, samples=500)
        return [*bootstrap_interval(VALUES, samples=500), p]

    whole = found()
    monkeypatch.setattr(significance, "AT_ONCE", 120)
    assert found() == pytest.approx(whole, abs=1e-12)


def test_the_interval_is_near_scipys_and_follows_its_seed():
    theirs = stats.bootstrap(
        (VALUES,), np.mean, n_resamples=10_000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    ours = bootstrap_interval(VALUES)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.006)
    assert ours == bootstrap_interval(VALUES, seed=0) != bootstrap_interval(VALUES, seed=1)


def test_an_interval_has_the_mean_of_the_kind_as_often_as_it_says():
    random = np.random.default_rng(11)
    hits = 0
    for seed in range(200):
        low, high = bootstrap_interval(random.random(50), samples=400, seed=seed)
        hits += low <= 0.5 <= high
    assert hits / 200 == pytest.approx(0.95, abs=0.045)


def test_an_estimate_is_the_mean_with_its_interval():
    found = estimate_mean([0.0, 0.5, 1.0, 1.0])
    assert found.value == 0.625
    assert (found.low, found.high) == bootstrap_interval([0.0, 0.5, 1.0, 1.0])
    one = estimate_mean([0.25])
    assert (one.value, one.low, one.high, str(one)) == (0.25, 0.25, 0.25, "0.2500 [0.2500, 0.2500]")


def test_a_comparison_is_query_by_query():
    ours = {"a": 0.5, "b": 0.25, "c": 1.0, "d": 0.1 + 0.2}
    other = {"d": 0.3, "c": 0.0, "a": 0.25, "b": 0.5}
    found = compare(ours, other)
    paired = [0.25, -0.25, 1.0, 0.0]
    assert list(differences(ours, other).values()) == pytest.approx(paired, abs=1e-12)
    assert found.other == pytest.approx(1.05 / 4)
    assert found.difference.value == pytest.approx(1.0 / 4)
    interval = found.difference.low, found.difference.high
    assert interval == pytest.approx(bootstrap_interval(paired))
    assert (found.wins, found.losses, found.ties) == (2, 1, 1)
    # Of the eight tossings of .25, .25 and 1 the sums are 1.5, 1, 1, .5 and their negatives.
    assert found.p == 6 / 8
    back = compare(other, ours)
    assert back.difference.value == -found.difference.value
    assert (back.p, back.wins, back.losses) == (found.p, 1, 2)


def test_what_cannot_be_compared_is_said():
    with pytest.raises(ValueError, match="only one of the two has query 'b'"):
        compare({"a": 1.0, "b": 0.0}, {"a": 1.0})
    with pytest.raises(ValueError, match="at least one value"):
        bootstrap_interval([])
    with pytest.raises(ValueError, match="confidence must lie between 0 and 1, got 95"):
        bootstrap_interval([1.0], confidence=95)
