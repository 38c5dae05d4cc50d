"""Corrected intervals and tests against scipy, arithmetic by hand, brute force and simulation."""

import math
from itertools import chain, combinations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from remind_studies.results.statistics import estimate, holm, paired, tied_best

SCORES = st.floats(0, 1, allow_subnormal=False).map(lambda x: round(x, 6))
MANY = st.lists(SCORES, min_size=2, max_size=30)
P_VALUES = st.lists(st.floats(0, 1), max_size=6)


@given(values=MANY)
def test_without_overlap_the_interval_is_students(values):
    assume(np.std(values) > 1e-9)
    found, oracle = estimate(values, 0.0), stats.ttest_1samp(values, 0.0)
    interval = oracle.confidence_interval(0.95)
    assert (found.n, found.mean) == (len(values), pytest.approx(np.mean(values)))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.p == pytest.approx(oracle.pvalue)


@given(pairs=st.lists(st.tuples(SCORES, SCORES), min_size=2, max_size=30))
def test_without_overlap_the_paired_test_is_students(pairs):
    one, other = zip(*pairs, strict=True)
    assume(np.std(np.subtract(one, other)) > 1e-9)
    found, oracle = paired(one, other, 0.0), stats.ttest_rel(one, other)
    interval = oracle.confidence_interval(0.95)
    assert found.p == pytest.approx(oracle.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_the_papers_formula_by_hand():
    found = estimate([0.02, 0.04, 0.06], 1 / 4)  # a test set a quarter of the training set
    error = 0.02 * math.sqrt(1 / 3 + 1 / 4)
    t = 0.04 / error  # 2.6186; Student's law of 2 degrees of freedom has a closed form
    assert found.p == pytest.approx(1 - t / math.sqrt(2 + t**2))
    quantile = 0.95 * math.sqrt(2 / (4 * 0.975 * 0.025))  # 4.3027
    assert (found.low, found.high) == pytest.approx((0.04 - quantile * error, 0.04 + quantile * error))
    assert found.p == pytest.approx(0.12012, abs=1e-5)


@given(values=MANY, ratio=st.floats(0.01, 2))
def test_overlap_widens_the_interval_by_the_root_of_the_factors(values, ratio):
    assume(np.std(values) > 1e-6)
    plain, corrected = estimate(values, 0.0), estimate(values, ratio)
    wider = math.sqrt((1 / len(values) + ratio) * len(values))
    assert corrected.high - corrected.low == pytest.approx(wider * (plain.high - plain.low))
    assert corrected.p >= plain.p


@given(values=st.lists(st.none() | SCORES, max_size=20), shift=st.integers(0, 5))
def test_undefined_values_are_left_out_pairwise(values, shift):
    other = [None if i % 3 == shift else 0.5 for i in range(len(values))]
    both = [i for i, value in enumerate(values) if value is not None and other[i] is not None]
    assert estimate(values, 0.2) == estimate([v for v in values if v is not None], 0.2)
    assert paired(values, other, 0.2) == paired([values[i] for i in both], [0.5] * len(both), 0.2)


def test_too_few_values_have_no_interval():
    none, one = estimate([None, None], 0.2), estimate([None, 0.7], 0.2)
    assert (none.n, none.mean, none.sd, none.low, none.high, none.p) == (0, None, None, None, None, None)
    assert (one.n, one.mean, one.sd, one.low, one.high, one.p) == (1, 0.7, None, None, None, None)


def test_values_that_do_not_differ_prove_nothing():
    constant, same = paired([0.3, 0.4, 0.5], [0.2, 0.3, 0.4], 0.2), paired([0.3, 0.4], [0.3, 0.4], 0.2)
    assert constant.mean == pytest.approx(0.1)
    assert (constant.low, constant.high, constant.p) == (None, None, None)
    assert (same.mean, same.low, same.p) == (0.0, None, 1.0)


def closed_testing(p_values: list[float]) -> list[float]:
    """Holm's procedure as what it is: Bonferroni's test of every set of hypotheses that holds the one in question."""
    everyone = range(len(p_values))
    sets = list(chain.from_iterable(combinations(everyone, size) for size in range(1, len(p_values) + 1)))
    return [max(min(1.0, len(s) * min(p_values[j] for j in s)) for s in sets if i in s) for i in everyone]


@given(p_values=P_VALUES)
def test_holm_is_closed_testing(p_values):
    assert holm(p_values) == pytest.approx(closed_testing(p_values))


@given(p_values=P_VALUES, seed=st.integers(0, 100))
def test_holm_knows_no_order_and_passes_over_tests_not_made(p_values, seed):
    order = np.random.default_rng(seed).permutation(len(p_values))
    adjusted = holm(p_values)
    assert holm([p_values[i] for i in order]) == [adjusted[i] for i in order]
    assert holm([None, *p_values, None]) == [None, *adjusted, None]


def brute_force_best(values: dict[str, np.ndarray]) -> set[str]:
    best = max(values, key=lambda name: values[name].mean())
    p_values = {
        name: stats.ttest_rel(own, values[best]).pvalue for name, own in values.items() if name != best
    }  # the ratio is 0 here
    adjusted = dict(zip(p_values, closed_testing(list(p_values.values())), strict=True))
    return {best} | {name for name, p in adjusted.items() if p >= 0.05}


@given(seed=st.integers(0, 10**6), arms=st.integers(1, 5), spread=st.sampled_from([0.01, 0.05, 0.2]))
def test_tied_best_is_who_holm_does_not_tell_from_the_best_mean(seed, arms, spread):
    rng = np.random.default_rng(seed)
    values = {f"arm {i}": rng.normal(0.7, spread) + rng.normal(0, 0.05, size=8) for i in range(arms)}
    assert set(tied_best(values, 0.0, lower=False)) == brute_force_best(values)
    turned = {name: -own for name, own in values.items()}
    assert tied_best(turned, 0.0, lower=True) == tied_best(values, 0.0, lower=False)
    assert set(tied_best(dict(reversed(values.items())), 0.0, lower=False)) == brute_force_best(values)


def test_a_clear_winner_stands_alone_and_lower_losses_win():
    jitter = np.array([0.0, 0.01, -0.01, 0.005, -0.005, 0.0, 0.01, -0.01, 0.002, 0.0])
    values = {"low": 0.5 + jitter[::-1], "high": 0.9 - jitter, "also high": 0.9 + jitter}
    assert tied_best(values, 0.25, lower=False) == ("high", "also high")
    assert tied_best(values, 0.25, lower=True) == ("low",)


def test_missing_seeds_do_not_make_a_winner():
    steady = [0.8, 0.6, 0.7, 0.5, 0.9]
    lucky = [None, None, None, None, 0.85]  # its mean is higher, but where both ran it is behind
    behind = [None, 0.3, 0.41, 0.2, 0.61]
    assert tied_best({"lucky": lucky, "steady": steady}, 0.0, lower=False) == ("steady",)
    assert tied_best({"behind": behind, "steady": steady}, 0.0, lower=False) == ("steady",)
    assert tied_best({"a": [None, 0.2], "b": [0.1, None]}, 0.0, lower=False) == ("a", "b"), "never run together"
    assert tied_best({"a": [None, None], "b": [0.1, None]}, 0.0, lower=False) == ("b",)
    assert tied_best({"a": [None, None]}, 0.0, lower=False) == ()
    assert tied_best({}, 0.0, lower=False) == ()


def differences(datasets: int, n: int, folds: int, partitions: int) -> np.ndarray:
    """Accuracy of a rule on the one feature minus that of the rule on the other, (datasets, partitions · folds).

    Both features tell the label equally well, so over datasets neither rule is better. Each split fits the thresholds
    on its training patients.
    """
    rng = np.random.default_rng(0)
    label_RN = rng.integers(2, size=(datasets, n)).astype(bool)
    x_RN2 = rng.normal(size=(datasets, n, 2)) + 0.8 * label_RN[..., None]

    def mean(chosen_RN):
        return (x_RN2 * chosen_RN[..., None]).sum(axis=1, keepdims=True) / chosen_RN.sum(axis=1)[:, None, None]

    found = []
    for _ in range(partitions):
        fold_RN = np.argsort(rng.random((datasets, n)), axis=1) % folds
        for fold in range(folds):
            test_RN = fold_RN == fold
            sick_R12, well_R12 = mean(~test_RN & label_RN), mean(~test_RN & ~label_RN)
            said_RN2 = (x_RN2 > (sick_R12 + well_R12) / 2) == (sick_R12 > well_R12)
            right_RN2 = (said_RN2 == label_RN[..., None]) & test_RN[..., None]
            found.append((right_RN2[..., 0].sum(axis=1) - right_RN2[..., 1].sum(axis=1)) / test_RN.sum(axis=1))
    return np.stack(found, axis=1)


@pytest.mark.parametrize(("partitions", "naive_at_least"), [(2, 0.12), (6, 0.3)])
def test_false_claims_on_overlapping_splits(partitions, naive_at_least):
    difference_RJ = differences(datasets=800, n=60, folds=5, partitions=partitions)

    def claims(ratio: float) -> float:
        p_values = [estimate(own.tolist(), ratio).p for own in difference_RJ]
        return float(np.mean([p is not None and p < 0.05 for p in p_values]))

    assert claims(0.2 / 0.8) <= 0.05, "corrected: at most the nominal level"
    assert claims(0.0) >= naive_at_least, "as if the runs were independent: far above it"
