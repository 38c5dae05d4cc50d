"""Intervals compared with other implementations, and their coverage of the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import binomtest, norm

from remind.metrics.formulas import auroc, balanced_accuracy, macro_f1
from remind.metrics.intervals import (
    auroc_interval,
    balanced_accuracy_interval,
    delong_variance,
    macro_f1_interval,
    wilson,
)
from remind.metrics.scores import intervals, scores
from remind.metrics.statistics import collect
from tests.builders.stored_runs import statistics

TABLES = hnp.arrays(np.int64, (3, 3), elements=st.integers(0, 40)).filter(lambda table: table.sum() > 0)


@given(st.integers(1, 500), st.data())
def test_wilson_is_scipys(n, data):
    k = data.draw(st.integers(0, n))
    theirs = binomtest(k, n).proportion_ci(0.95, method="wilson")
    assert wilson(k / n, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_delong_is_its_definition():
    """By pairs and placements, on scores with many ties."""
    rng = np.random.default_rng(0)
    rest, positive = rng.integers(0, 12, 30), rng.integers(3, 15, 17)
    histogram_2K = np.array([np.bincount(x, minlength=16) for x in (rest, positive)])
    kernel = (positive[:, None] > rest) + 0.5 * (positive[:, None] == rest)
    expected = kernel.mean(axis=1).var(ddof=1) / 17 + kernel.mean(axis=0).var(ddof=1) / 30
    assert delong_variance(histogram_2K) == pytest.approx(expected)


@given(TABLES)
def test_intervals_hold_their_estimates(table):
    for estimate, found in (
        (macro_f1(table), macro_f1_interval(table)),
        (balanced_accuracy(table), balanced_accuracy_interval(table)),
    ):
        assert (found is None) == (estimate is None)
        assert found is None or 0 <= found[0] <= estimate <= found[1] <= 1


@given(hnp.arrays(np.int64, (2, 8), elements=st.integers(0, 5)))
def test_auroc_intervals_hold_their_estimates(histogram_2K):
    estimate, found = auroc(histogram_2K), auroc_interval(histogram_2K[None])
    assert (found is None) == (estimate is None)
    assert found is None or 0 <= found[0] <= estimate[0] <= found[1] <= 1


def test_a_perfect_score_of_few_patients_is_not_certain():
    table, histogram_2K = np.diag([5, 4]), np.eye(2, dtype=np.int64) * 5
    assert balanced_accuracy_interval(table)[0] < 0.85
    assert macro_f1_interval(table)[0] < 0.9
    assert auroc_interval(histogram_2K[None])[0] < 0.7


@pytest.mark.parametrize("n", [1, 2, 9])
@pytest.mark.parametrize("label", [0, 1, None])
def test_no_interval_of_the_registry_has_no_width(n, label):
    """Patients of one class, or of two, who are all sure and right: nothing is certain of so few."""
    label_B = np.arange(n) % 2 if label is None else np.full(n, label)
    log_p_BC = np.log(np.where(np.arange(2) == label_B[:, None], 1 - 1e-9, 1e-9))
    found = collect(np.ones(n, dtype=np.int64), label_B, np.zeros(n), log_p_BC, np.zeros(n))[1]
    values, widths = scores(found), intervals(found)
    for name, interval in widths.items():
        assert (interval is None) == (getattr(values, name) is None), name
        assert interval is None or interval[1] - interval[0] > 0.01, name
    one_class = len(set(label_B.tolist())) == 1
    for name in ("macro_f1", "balanced_accuracy", "auroc", "auprc", "sensitivity"):
        assert (getattr(values, name) is None) == one_class, name


def test_more_patients_narrow_every_interval():
    few, many = (intervals(statistics(n, seed=1)) for n in (30, 3000))
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "auroc"):
        assert np.diff(many[name]) < 0.3 * np.diff(few[name])


@pytest.mark.parametrize("n", [40, 200])
def test_nineteen_in_twenty_hold_the_truth(n):
    """Truth of the generator: AUROC Φ(skill/√2), and recall Φ(skill/2) for both classes."""
    repeats, skill = 400, 1.0
    recall = norm.cdf(skill / 2)
    truth = {
        "accuracy": recall,
        "balanced_accuracy": recall,
        "macro_f1": recall,
        "auroc": norm.cdf(skill / np.sqrt(2)),
    }
    hits = dict.fromkeys(truth, 0)
    for seed in range(repeats):
        made = statistics(n, seed, skill)
        if scores(made).auroc is None:
            continue
        found = intervals(made)
        for name, value in truth.items():
            low, high = found[name]
            hits[name] += low <= value <= high
    for name, number in hits.items():
        assert 0.92 <= number / repeats <= 0.99, name
