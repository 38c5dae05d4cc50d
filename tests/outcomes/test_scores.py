"""Scores of outcomes from merged statistics against scikit-learn, scikit-survival or all pairs of pooled patients."""

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    cohen_kappa_score,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
)

from remind.metrics.scores import intervals, scores
from remind.metrics.statistics import GroupStatistics, merge, total
from remind.outcomes.base import Outcome, Seen
from remind.outcomes.multilabel import Multilabel
from remind.outcomes.ordinal import Ordinal
from remind.outcomes.regression import Regression
from remind.outcomes.survival import Survival

N, SITES = 240, 4
REGRESSION = Regression(low=0.0, high=20.0, mean=6.0, scale=2.0, unit="%")
SURVIVAL = Survival(edges=(1.0, 2.0, 4.0, 7.0, 10.0))
LABELS = Multilabel(labels=("a", "b", "c"))
GRADES = Ordinal(classes=("low", "middle", "high", "highest"))


def seen_of(label_N, target_NT) -> Seen:
    nothing = np.zeros(len(label_N))
    return Seen(np.ones(len(label_N), dtype=np.int64), label_N, target_NT, nothing, nothing)


def merged(outcome: Outcome, label_N, target_NT, raw_NW, seed=0) -> GroupStatistics:
    """The statistics of the sites' patients, added up."""
    site_N = np.random.default_rng(seed).integers(SITES, size=len(label_N))
    parts = [
        outcome.collect(
            seen_of(label_N[site_N == s], None if target_NT is None else target_NT[site_N == s]), raw_NW[site_N == s]
        )
        for s in range(SITES)
    ]
    found = total(merge(parts))
    assert found is not None
    assert not outcome.problem(found)
    return found


def numbers(seed: int):
    rng = np.random.default_rng(seed)
    y_N = rng.normal(6, 2, N).clip(0.5, 19)
    raw_NW = ((y_N - 6) / 2 * 0.7 + rng.normal(0.2, 0.6, N))[:, None]
    return y_N, raw_NW


def test_scores_of_numbers_are_those_of_the_pooled_patients():
    y_N, raw_NW = numbers(0)
    p_N = REGRESSION.predict(raw_NW)[:, 0]
    found = scores(merged(REGRESSION, np.zeros(N, dtype=np.int64), y_N[:, None], raw_NW))
    assert found.mae == pytest.approx(mean_absolute_error(y_N, p_N), rel=1e-9)
    assert found.rmse == pytest.approx(mean_squared_error(y_N, p_N) ** 0.5, rel=1e-9)
    assert found.r2 == pytest.approx(r2_score(y_N, p_N), rel=1e-9)
    expected = 2 * np.cov(y_N, p_N, ddof=0)[0, 1] / (y_N.var() + p_N.var() + (y_N.mean() - p_N.mean()) ** 2)
    assert found.ccc == pytest.approx(expected, rel=1e-9)
    assert found.accuracy is None
    assert found.auroc is None


def test_a_prediction_beyond_the_range_counts_as_its_end():
    raw_NW = np.array([[50.0], [-50.0]])
    assert REGRESSION.predict(raw_NW).tolist() == [[20.0], [0.0]]
    found = merged(REGRESSION, np.zeros(2, dtype=np.int64), np.array([[20.0], [1.0]]), raw_NW)
    assert scores(found).mae == pytest.approx(0.5)


@pytest.mark.parametrize("score", ["mae", "rmse", "r2", "ccc"])
def test_intervals_of_numbers_cover_what_resampled_patients_give(score):
    drawn, ends = [], []
    for seed in range(120):
        y_N, raw_NW = numbers(seed)
        found = merged(REGRESSION, np.zeros(N, dtype=np.int64), y_N[:, None], raw_NW)
        drawn.append(getattr(scores(found), score))
        ends.append(intervals(found)[score])
    true = float(np.mean(drawn))
    assert 0.88 <= np.mean([low <= true <= high for low, high in ends]) <= 1.0
    widths = np.mean([high - low for low, high in ends])
    assert widths == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.3)


def times(seed: int):
    rng = np.random.default_rng(seed)
    risk_N = rng.standard_normal(N)
    time_N, censored_N = 5 * np.exp(-0.7 * risk_N) * rng.exponential(1, N), rng.uniform(0.5, 14, N)
    event_N = (time_N <= censored_N).astype(np.float64)
    raw_NW = 0.8 * risk_N[:, None] + rng.normal(-1, 0.4, (N, 5))
    return np.stack([np.minimum(time_N, censored_N), event_N], axis=1), raw_NW


def test_c_index_and_brier_are_those_of_all_pairs():
    target_NT, raw_NW = times(0)
    label_N = SURVIVAL.encode([target_NT[:, 0], target_NT[:, 1].astype(int)]).label_R
    statistics = merged(SURVIVAL, label_N, target_NT, raw_NW)
    found, s_NK = scores(statistics), SURVIVAL.survival(raw_NW)
    place_N, event_N = SURVIVAL.placed(target_NT)
    share_N, width_K = s_NK @ SURVIVAL.widths_K, SURVIVAL.widths_K
    # G: the share that is not censored when an interval begins
    g_K = np.cumprod([1 - np.sum((place_N == k) & ~event_N) / np.sum(place_N >= k) for k in range(5)])
    good = [0.0, 0.0]
    pairs = [0.0, 0.0]
    for i in np.flatnonzero(event_N):
        later = place_N > place_N[i]
        concordant = np.sum(share_N[later] > share_N[i]) + np.sum(share_N[later] == share_N[i]) / 2
        for way, weight in enumerate((1.0, 1 / g_K[place_N[i]] ** 2)):
            good[way] += weight * concordant
            pairs[way] += weight * later.sum()
    assert abs(found.c_index - good[0] / pairs[0]) <= found.c_index_bound < 0.01
    assert abs(found.c_ipcw - good[1] / pairs[1]) <= found.c_ipcw_bound
    brier = 0.0
    for k in range(5):
        died, alive = event_N & (place_N <= k), place_N > k
        one = np.sum(s_NK[died, k] ** 2 / g_K[place_N[died]]) + np.sum((1 - s_NK[alive, k]) ** 2) / g_K[k]
        brier += width_K[k] * one / N
    assert found.integrated_brier == pytest.approx(brier / 10, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_survival_are_scikit_survivals(seed):
    """Time counts in intervals: an event is in the middle of one, and censoring between two."""
    metrics, util = pytest.importorskip("sksurv.metrics"), pytest.importorskip("sksurv.util")  # not with Python 3.13
    target_NT, raw_NW = times(seed)
    found = scores(merged(SURVIVAL, np.zeros(N, dtype=np.int64), target_NT, raw_NW))
    s_NK, (place_N, event_N) = SURVIVAL.survival(raw_NW), SURVIVAL.placed(target_NT)
    time_N, risk_N = place_N + 0.5 * event_N, -s_NK @ SURVIVAL.widths_K
    seen = util.Surv.from_arrays(event_N, time_N)
    assert (
        abs(found.c_index - metrics.concordance_index_censored(event_N, time_N, risk_N)[0])
        <= found.c_index_bound
        < 0.01
    )
    assert abs(found.c_ipcw - metrics.concordance_index_ipcw(seen, seen, risk_N)[0]) <= found.c_ipcw_bound < 0.01
    _, brier_K = metrics.brier_score(seen, seen, s_NK, np.arange(5) + 0.75)  # after the events of an interval
    expected = brier_K @ SURVIVAL.widths_K / SURVIVAL.edges[-1]
    assert found.integrated_brier == pytest.approx(expected, rel=1e-9)


def test_the_interval_of_the_c_index_is_as_wide_as_it_varies():
    drawn, widths = [], []
    for seed in range(60):
        target_NT, raw_NW = times(seed)
        found = merged(SURVIVAL, np.zeros(N, dtype=np.int64), target_NT, raw_NW)
        low, high = intervals(found)["c_index"]
        drawn.append(scores(found).c_index)
        widths.append(high - low)
    assert np.mean(widths) == pytest.approx(2 * 1.96 * np.std(drawn), rel=0.35)


def test_scores_of_labels_are_means_over_labels_that_are_known():
    rng = np.random.default_rng(0)
    raw_NL = rng.standard_normal((N, 3))
    target_NL = (raw_NL + rng.standard_normal((N, 3)) > [0.5, 0.0, 1.2]).astype(np.float64)
    target_NL[rng.random((N, 3)) < 0.2] = np.nan
    found = scores(merged(LABELS, np.zeros(N, dtype=np.int64), target_NL, raw_NL))
    known = [~np.isnan(target_NL[:, c]) for c in range(3)]
    of_labels = [(target_NL[known[c], c], raw_NL[known[c], c]) for c in range(3)]
    assert abs(found.auroc - np.mean([roc_auc_score(*one) for one in of_labels])) <= found.auroc_bound
    expected = np.mean([average_precision_score(*one) for one in of_labels])
    assert abs(found.auprc - expected) <= found.auprc_bound + 1e-9


def test_kappa_of_ordered_classes_is_scikit_learns():
    rng = np.random.default_rng(0)
    label_N, raw_NW = rng.integers(4, size=N), rng.standard_normal((N, 3))
    raw_NW[:, 0] -= label_N
    found = merged(GRADES, label_N, None, raw_NW)
    called_N = GRADES.log_p(__import__("torch").from_numpy(raw_NW)).argmax(dim=1).numpy()
    expected = cohen_kappa_score(label_N, called_N, weights="quadratic", labels=range(4))
    assert scores(found).weighted_kappa == pytest.approx(expected)
    low, high = intervals(found)["weighted_kappa"]
    assert low < expected < high < low + 0.5
