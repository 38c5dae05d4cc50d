"""The temperature of several classes from merged sums, against that of the pooled patients."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from remind.metrics.tempering import BETA_K, fit_temperature, pooled, tempered


def draw(seed, number, classes, scale):
    rng = np.random.default_rng(seed)
    logits_BC = 2 * rng.normal(size=(number, classes))
    p_BC = np.exp(logits_BC) / np.exp(logits_BC).sum(axis=1, keepdims=True)
    label_B = np.array([rng.choice(classes, p=p) for p in p_BC])
    told_BC = scale * logits_BC
    return rng.integers(1, 4, size=number), label_B, told_BC - np.logaddexp.reduce(told_BC, axis=1, keepdims=True)


def loss(log_p_BC, label_B, log_beta):
    z_BC = np.exp(log_beta) * log_p_BC
    z_BC = z_BC - np.logaddexp.reduce(z_BC, axis=1, keepdims=True)
    return -z_BC[np.arange(len(label_B)), label_B].sum()


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.parametrize(("seed", "scale"), [(0, 0.3), (1, 1.0), (2, 3.0), (3, 10.0)])
def test_the_temperature_is_that_of_the_pooled_patients(seed, scale, classes):
    group_B, label_B, log_p_BC = draw(seed, 300, classes, scale)
    sites = [np.arange(300) % 4 == s for s in range(4)]
    sums = pooled(tempered(group_B[s], label_B[s], log_p_BC[s]) for s in sites)
    whole = pooled([tempered(group_B, label_B, log_p_BC)])
    np.testing.assert_allclose(sums.loss_K, whole.loss_K)
    np.testing.assert_allclose(sums.slope_K, whole.slope_K, atol=1e-9)
    assert sums.count == 300

    def objective(log_beta):
        return loss(log_p_BC, label_B, log_beta) + log_beta**2 / 2

    best = minimize_scalar(objective, bounds=(-4, 3), method="bounded", options={"xatol": 1e-9}).x
    found = -np.log(fit_temperature(sums, 1.0))
    assert found == pytest.approx(best, abs=0.02)
    assert objective(found) - objective(best) < 300 * 1e-4
    assert 1 / scale == pytest.approx(np.exp(found), rel=0.25), "and it undoes what was done to the log-odds"


def test_slopes_are_those_of_the_losses():
    sums = pooled([tempered(*draw(4, 50, 3, 1.0))])
    middle = np.gradient(sums.loss_K, BETA_K)[5:-5]
    assert np.corrcoef(middle, sums.slope_K[5:-5])[0, 1] > 0.99
    assert (np.diff(sums.slope_K) >= 0).all(), "the loss is convex"


def test_a_model_that_is_right_or_wrong_about_everybody_has_a_temperature_at_an_end():
    label_B = np.arange(30) % 3
    sure_BC = np.where(np.arange(3) == label_B[:, None], -0.1, -5.0)
    ones = np.ones(30, dtype=np.int64)
    right = pooled([tempered(ones, label_B, sure_BC)])
    wrong = pooled([tempered(ones, (label_B + 1) % 3, sure_BC)])
    assert fit_temperature(right, 0.0) == pytest.approx(1 / BETA_K[-1])
    assert fit_temperature(wrong, 0.0) == pytest.approx(1 / BETA_K[0])
