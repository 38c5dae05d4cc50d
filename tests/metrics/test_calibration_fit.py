"""Calibration from merged histograms against that of the pooled patients, computed by scikit-learn and scipy."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from remind.metrics.calibration import Calibration
from remind.metrics.calibration_fit import LEAST, calibrated, fit
from remind.metrics.scores import scores
from remind.metrics.statistics import collect, merge, total

CLASSES = ("no", "yes")


def patients(seed, number, slope=1.0, bias=0.0):
    """Groups, labels and told log-odds; the true log-odds are slope·told + bias."""
    rng = np.random.default_rng(seed)
    group_B, odds_B = rng.choice([1, 3, 4], size=number, p=[0.6, 0.35, 0.05]), rng.normal(size=number) * 2
    label_B = (rng.random(number) < 1 / (1 + np.exp(-slope * odds_B - bias))).astype(np.int64)
    return group_B, label_B, odds_B


def log_p(odds_B):
    return -np.logaddexp(0, np.stack([odds_B, -odds_B], axis=1))


def by_group(group_B, label_B, odds_B, sites=4):
    nothing = np.zeros(len(label_B))
    parts = [np.arange(len(label_B)) % sites == s for s in range(sites)]
    return merge(collect(group_B[p], label_B[p], nothing[p], log_p(odds_B[p]), nothing[p]) for p in parts)


@pytest.mark.parametrize(("seed", "slope", "scale"), [(0, 0.3, 1.0), (1, 1.0, 1.0), (2, 2.5, 1.0), (3, 1.0, 50.0)])
def test_temperature_is_that_of_the_pooled_patients(seed, slope, scale):
    group_B, label_B, odds_B = patients(seed, 600, slope)
    odds_B = odds_B * scale

    def pooled(log_slope):
        z_B = np.exp(log_slope) * odds_B
        return np.logaddexp(0, np.where(label_B == 1, -z_B, z_B)).sum() + log_slope**2 / 2

    best = minimize_scalar(pooled, bounds=(-4.6, 3), method="bounded", options={"xatol": 1e-10}).x
    found = fit(by_group(group_B, label_B, odds_B), CLASSES, "temperature")
    assert np.log(found.scaling.weights[1]) == pytest.approx(best, abs=2e-3)
    assert pooled(np.log(found.scaling.weights[1])) - pooled(best) < 1e-3
    assert (found.patients, found.reason, found.point) == (600, "", None)


def test_vector_scaling_is_platt_s():
    group_B, label_B, odds_B = patients(5, 2000, 0.6, -1.0)
    found = fit(by_group(group_B, label_B, odds_B), CLASSES, "vector")
    pooled = LogisticRegression(C=1e6, tol=1e-10).fit(odds_B[:, None], label_B)
    assert found.scaling.weights[1] == pytest.approx(pooled.coef_[0, 0], abs=0.01)
    assert found.scaling.bias[1] - found.scaling.bias[0] == pytest.approx(pooled.intercept_[0], abs=0.01)


def test_what_it_does_on_other_patients_is_what_these_would_show():
    """Statistics of calibrated predictions from histograms, against the patients' own calibrated predictions."""
    found = fit(by_group(*patients(0, 800, 0.4, 0.5)), CLASSES, "vector", "sensitivity >= 0.8", own=True)
    assert set(found.group_scaling) == set(found.group_points) == {1, 3}, "group 4 has too few patients"
    group_B, label_B, odds_B = patients(9, 500, 0.4, 0.5)
    after = total(calibrated(by_group(group_B, label_B, odds_B), found))
    p_BC = found.calibrated(log_p(odds_B), group_B)
    shown = scores(after)
    assert shown.n == 500
    assert shown.log_loss == pytest.approx(log_loss(label_B, p_BC), abs=1 / 512)
    assert shown.brier == pytest.approx(brier_score_loss(label_B, p_BC[:, 1]), abs=1 / 1024)
    decided_B = found.decide(p_BC, group_B)
    expected_CC = np.zeros((2, 2), dtype=np.int64)
    np.add.at(expected_CC, (label_B, decided_B), 1)
    np.testing.assert_array_equal(after.confusion_CC, expected_CC)
    raw = scores(total(by_group(group_B, label_B, odds_B)))
    assert shown.log_loss < raw.log_loss
    assert shown.ece < raw.ece


@pytest.mark.parametrize("method", ["none", "temperature", "vector"])
@pytest.mark.parametrize("wanted", ["sensitivity >= 0.9", "specificity >= .95", "youden"])
def test_the_operating_point_is_the_best_that_fulfils_the_condition(method, wanted):
    group_B, label_B, odds_B = patients(1, 400)
    found = fit(by_group(group_B, label_B, odds_B), CLASSES, method, wanted)
    point, decided_B = (
        found.point,
        found.decide(found.calibrated(log_p(odds_B), group_B), np.zeros(400, dtype=np.int64)),
    )
    assert (point.positives, point.negatives) == (label_B.sum(), 400 - label_B.sum())
    sensitivity, specificity = decided_B[label_B == 1].mean(), 1 - decided_B[label_B == 0].mean()
    assert (point.sensitivity, point.specificity) == pytest.approx((sensitivity, specificity))
    possible = [(np.mean(odds_B[label_B == 1] >= t), np.mean(odds_B[label_B == 0] < t)) for t in odds_B]
    if wanted == "youden":
        assert sensitivity + specificity == pytest.approx(max(a + b for a, b in possible), abs=0.01)
    elif wanted.startswith("sensitivity"):
        assert sensitivity >= 0.9
        assert specificity == pytest.approx(max(b for a, b in possible if a >= 0.9), abs=0.01)
    else:
        assert specificity >= 0.95
        assert sensitivity == pytest.approx(max(a for a, b in possible if b >= 0.95), abs=0.01)


def test_separable_patients_have_finite_parameters():
    label_B = np.arange(60) % 2
    found = fit(by_group(np.ones(60, dtype=np.int64), label_B, 4.0 * label_B - 2), CLASSES, "vector", "youden")
    assert 1 < found.scaling.weights[1] < 20
    assert (found.point.sensitivity, found.point.specificity) == (1, 1)
    worse = fit(by_group(np.ones(60, dtype=np.int64), label_B, 2 - 4.0 * label_B), CLASSES, "temperature")
    assert 0 < worse.scaling.weights[1] < 0.1, "a model that is wrong is believed as little as may be"


def test_a_condition_that_only_nobody_fulfils():
    label_B = np.array([0] * 20 + [1] * 20)
    odds_B = np.where(label_B == 1, -1.0, 1.0)
    found = fit(by_group(np.ones(40, dtype=np.int64), label_B, odds_B), CLASSES, "none", "specificity >= 0.9")
    assert (found.point.sensitivity, found.point.specificity) == (0, 1)
    ones_B = np.ones(40, dtype=np.int64)
    assert found.decide(found.calibrated(log_p(odds_B), ones_B), ones_B).sum() == 0


def test_too_few_patients_or_other_classes_have_a_reason():
    few = by_group(np.ones(40, dtype=np.int64), (np.arange(40) < LEAST - 1).astype(np.int64), np.linspace(-1, 1, 40))
    found = fit(few, CLASSES, "temperature", "youden")
    assert (found.method, found.point) == ("none", None)
    assert found.reason == "9 validation patients of the rarest class; at least 10 are needed"
    assert fit({}, CLASSES, "none") == Calibration.none(CLASSES)
    nothing = np.zeros(30)
    three = collect(np.ones(30, dtype=np.int64), np.arange(30) % 3, nothing, np.full((30, 3), -np.log(3)), nothing)
    assert "there are 3" in fit(three, ("a", "b", "c"), "temperature").reason
