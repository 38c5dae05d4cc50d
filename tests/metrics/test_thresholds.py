"""Scores over thresholds and calibration scores from merged histograms against scikit-learn on the raw predictions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, roc_curve

from remind.metrics.histograms import BINS, bins, centres, edges
from remind.metrics.reliability import ECE_BOUND, curves
from remind.metrics.scores import SCORES, intervals, scores
from remind.metrics.statistics import collect, merge
from remind.metrics.thresholds import NET_BENEFIT_AT

SPREADS = st.sampled_from([1e-3, 0.5, 3.0, 30.0])


def draw(seed, number, classes, spread):
    rng = np.random.default_rng(seed)
    label_B = rng.integers(classes, size=number)
    logits_BC = spread * (rng.normal(size=(number, classes)) + np.eye(classes)[label_B])
    return label_B, logits_BC - np.logaddexp.reduce(logits_BC, axis=1, keepdims=True)


def merged(label_B, log_p_BC, sites=3):
    """Statistics of the patients, merged from several sites."""
    parts = [np.arange(len(label_B)) % sites == s for s in range(min(sites, len(label_B)))]
    nothing = np.zeros(len(label_B))
    ones = np.ones(len(label_B), dtype=np.int64)
    return merge([collect(ones[p], label_B[p], nothing[p], log_p_BC[p], nothing[p]) for p in parts])[1]


def odds_of(log_p_BC, c):
    return log_p_BC[:, c] - np.logaddexp.reduce(np.delete(log_p_BC, c, axis=1), axis=1)


def best_sensitivity(label_B, odds_B, specificity=0.9):
    false_T, true_T, _ = roc_curve(label_B, odds_B, drop_intermediate=False)
    return true_T[false_T <= 1 - specificity + 1e-9].max()


@given(seed=st.integers(0, 10**6), number=st.integers(2, 150), classes=st.integers(2, 4), spread=SPREADS)
def test_they_are_those_of_the_pooled_patients_within_the_bound(seed, number, classes, spread):
    label_B, log_p_BC = draw(seed, number, classes, spread)
    found = scores(merged(label_B, log_p_BC))
    scored = [1] if classes == 2 else [c for c in range(classes) if 0 < (label_B == c).sum() < number]
    if len(set(label_B.tolist())) == 1:
        assert found.auprc is found.auprc_bound is found.sensitivity is found.sensitivity_bound is None
    else:
        exact = np.mean([average_precision_score(label_B == c, odds_of(log_p_BC, c)) for c in scored])
        assert abs(found.auprc - exact) <= found.auprc_bound + 1e-9
        exact = np.mean([best_sensitivity(label_B == c, odds_of(log_p_BC, c)) for c in scored])
        assert -1e-9 <= exact - found.sensitivity <= found.sensitivity_bound + 1e-9
    assert found.brier == pytest.approx(
        brier_score_loss(label_B, np.exp(log_p_BC), labels=list(range(classes)))
        if classes > 2
        else brier_score_loss(label_B, np.exp(log_p_BC[:, 1]), pos_label=1)
    )
    every = [1] if classes == 2 else range(classes)
    treated = [(np.exp(log_p_BC[:, c]) > NET_BENEFIT_AT, label_B == c) for c in every]
    odds = NET_BENEFIT_AT / (1 - NET_BENEFIT_AT)
    exact = np.mean([(t & y).mean() - odds * (t & ~y).mean() for t, y in treated])
    assert found.net_benefit == pytest.approx(exact, abs=1e-12)
    assert abs(found.ece - np.mean([exact_ece(label_B == c, odds_of(log_p_BC, c)) for c in every])) <= ECE_BOUND


def exact_ece(label_B, odds_B):
    """ECE of the unbinned probabilities on tenths, by the definition; edges as the module says."""
    edge_R = np.arange(1, 10) / 10
    low, high = edges(bins(np.log(edge_R / (1 - edge_R))))
    assert (abs(1 / (1 + np.exp(-low)) - edge_R) < 0.001).all(), "an edge hardly moves"
    assert (low < high).all()
    place_B = np.searchsorted(low, odds_B, side="right")
    p_B = 1 / (1 + np.exp(-odds_B))
    return sum(abs((label_B[place_B == r] - p_B[place_B == r]).sum()) for r in range(10)) / len(label_B)


def test_bounds_are_small_for_ordinary_scores():
    label_B, log_p_BC = draw(0, 2000, 2, 2.0)
    found = scores(merged(label_B, log_p_BC))
    assert found.auprc_bound < 0.005
    assert found.sensitivity_bound < 0.005


@pytest.mark.parametrize("scale", [0.2, 1.0, 100.0, 1000.0])
def test_confident_models_keep_small_bounds(scale):
    label_B, log_p_BC = draw(1, 1000, 2, scale)
    assert scores(merged(label_B, log_p_BC)).auprc_bound <= 0.005


def test_ties_are_scikit_learn_s_and_the_bound_is_what_they_leave_open():
    label_B, odds_B = np.array([0, 1, 0, 1, 1]), np.array([0.0, 0.0, 0.0, 2.0, 2.0])
    log_p_BC = -np.logaddexp(0, np.stack([odds_B, -odds_B], axis=1))
    found = scores(merged(label_B, log_p_BC))
    assert found.auprc == pytest.approx(average_precision_score(label_B, odds_B))
    assert found.auprc_bound == pytest.approx(1 - found.auprc), (
        "the best order is 1; the worst, 3/5 of the last, is nearer"
    )


@given(x=st.floats(-1e300, 1e300))
def test_a_score_lies_in_its_bin(x):
    place = bins(np.array([x]))
    (low,), (high,) = edges(place)
    assert low - 1e-9 * abs(low) <= x <= high + 1e-9 * abs(high)
    if abs(x) < 8:
        assert abs(centres(place)[0] - x) <= 1 / 512 + 1e-12


def test_edges_meet():
    low, high = edges(np.arange(BINS))
    np.testing.assert_allclose(low[1:], high[:-1], rtol=1e-9)
    assert (np.diff(centres(np.arange(BINS))) > 0).all()


def test_reliability_counts_everybody():
    label_B, log_p_BC = draw(3, 500, 3, 1.0)
    found = curves(merged(label_B, log_p_BC).scores)
    assert len(found) == 3
    assert [int(one.n_R.sum()) for one in found] == [500] * 3
    assert [int(one.positives_R.sum()) for one in found] == np.bincount(label_B).tolist()


@pytest.mark.parametrize(("slope", "true"), [(1.0, 0.0), (3.0, 0.161)])
def test_the_interval_of_the_calibration_error_holds_its_level(slope, true):
    """Labels drawn from p, reported as p of slope·log-odds: the true ECE is that of many patients."""
    rng = np.random.default_rng(0)

    def sample(number):
        odds_B = rng.normal(size=number)
        label_B = (rng.random(number) < 1 / (1 + np.exp(-odds_B))).astype(np.int64)
        told_B = slope * odds_B
        return label_B, -np.logaddexp(0, np.stack([told_B, -told_B], axis=1))

    assert scores(merged(*sample(200_000))).ece == pytest.approx(true, abs=0.004)
    held = [low <= true <= high for low, high in (intervals(merged(*sample(150)))["ece"] for _ in range(200))]
    assert np.mean(held) >= 0.93


def test_intervals_hold_their_estimate():
    for seed in range(20):
        statistics = merged(*draw(seed, 3 + seed, 2 + seed % 3, 2.0))
        for name, found in intervals(statistics).items():
            value = SCORES[name].value(statistics)
            assert (found is None) == (value is None), name
            assert found is None or found[0] <= value <= found[1], name
