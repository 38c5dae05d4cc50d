"""The expected change from a test, against a Gaussian model with a known truth.

y is 0 or 1 with probability ½; x_a and x_b are N(±μ, 1) given y and independent. So ln p₁/p₀ is 2μ_a·x_a without b
and 2μ_a·x_a + 2μ_b·x_b with it, and given x_a, x_b is a mixture of two Gaussians: the expectations are integrals over
one variable, and the probability of another decision is a value of Φ.
"""

from math import erf, sqrt

import numpy as np
import pytest

from remind.prediction.expected_change import Pairs, expect, neighbours

A, B = 0.8, 1.0
X = np.linspace(-9, 9, 4001)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def both(p):
    return np.stack([1 - p, p], axis=-1)


def likeliest(p_BC):
    return p_BC.argmax(axis=1)


def drawn(number, rng, strength=B):
    """Pairs of the true model, and log-odds without the test."""
    label = rng.integers(2, size=number)
    sign = 2 * label - 1
    z = 2 * A * (A * sign + rng.standard_normal(number))
    step = 2 * strength * (strength * sign + rng.standard_normal(number))
    return Pairs(both(sigmoid(z)), both(sigmoid(z + step)), label), z


def truth(z, strength=B):
    """Expected change, probability of another decision and expected gain, for one patient of log-odds z."""
    p = sigmoid(z)
    density = sum(w * np.exp(-((X - s * strength) ** 2) / 2) / np.sqrt(2 * np.pi) for w, s in ((p, 1.0), (1 - p, -1.0)))
    later = sigmoid(z + 2 * strength * X)
    gain = later * np.log(later / p) + (1 - later) * np.log((1 - later) / (1 - p))
    cut, sign = -z / (2 * strength), -np.sign(z)  # the decision changes where x_b lies beyond the cut

    def beyond(mean):
        return 0.5 * (1 + erf(sign * (mean - cut) / sqrt(2)))

    flips = p * beyond(strength) + (1 - p) * beyond(-strength)
    return np.trapezoid(density * np.abs(later - p), X), flips, np.trapezoid(density * gain, X)


@pytest.fixture(scope="module")
def found():
    """Estimates of 300 patients from 1000 others, and the truth of each."""
    pairs, _ = drawn(1000, np.random.default_rng(0))
    others, z = drawn(300, np.random.default_rng(1))
    expected = expect(pairs, others.without_RC, likeliest(others.without_RC), likeliest, 30)
    true_N3 = np.array([truth(one) for one in z])
    return expected, true_N3, z


@pytest.mark.parametrize(("column", "name", "close"), [(0, "change", 0.015), (1, "flips", 0.04), (2, "gain", 0.02)])
def test_estimates_are_near_the_truth_and_most_intervals_hold_it(found, column, name, close):
    expected, true_N3, _ = found
    near = expected.near_N
    value_N3, true_N = getattr(expected, f"{name}_N3")[near], true_N3[near, column]
    assert np.sqrt(np.mean((value_N3[:, 0] - true_N) ** 2)) < close
    assert true_N.std() > 2 * close, "patients differ, and the estimates follow them"
    held = np.mean((value_N3[:, 1] <= true_N) & (true_N <= value_N3[:, 2]))
    assert held > 0.85, f"95 % intervals hold the truth of {held:.0%}"


def test_what_labels_say_agrees_with_what_a_true_model_believes(found):
    expected, _, _ = found
    near = expected.near_N
    gap = expected.measured_N3[near, 0] - expected.gain_N3[near, 0]
    assert abs(gap.mean()) < 0.03


def test_strangers_get_no_number():
    pairs, _ = drawn(500, np.random.default_rng(2))
    p = both(sigmoid(np.array([0.0, 40.0])))
    expected = expect(pairs, p, likeliest(p), likeliest, 30)
    assert expected.near_N.tolist() == [True, False]
    assert np.isnan(expected.change_N3[1]).all()
    assert np.isfinite(expected.change_N3[0]).all()


def test_one_in_a_hundred_of_the_same_kind_counts_as_a_stranger(found):
    expected, _, _ = found
    assert 0.97 < expected.near_N.mean() < 1.0


def test_a_test_that_tells_nothing_changes_nothing():
    pairs, _ = drawn(200, np.random.default_rng(3), strength=0.0)
    expected = expect(pairs, pairs.without_RC, likeliest(pairs.without_RC), likeliest, 30)
    for value in (expected.change_N3, expected.gain_N3, expected.measured_N3):
        assert np.abs(value).max() < 1e-12
    assert (expected.flips_N3[:, 0] == 0).all()
    assert (expected.flips_N3[:, 2] > 0).all(), "200 patients do not prove that it never happens"


def test_a_test_that_misleads_the_model_is_told_by_the_labels_alone():
    """The model takes noise for a sign: it believes in a gain, and its log-loss grows."""
    rng = np.random.default_rng(4)
    pairs, z = drawn(1000, rng, strength=0.0)
    misled = Pairs(pairs.without_RC, both(sigmoid(z + 1.5 * rng.standard_normal(1000))), pairs.label_R)
    p = both(np.array([0.5]))
    expected = expect(misled, p, likeliest(p), likeliest, 30)
    assert expected.gain_N3[0, 1] > 0.1
    assert expected.measured_N3[0, 2] < 0.0


def test_unknown_labels_leave_the_measured_gain_open():
    pairs, _ = drawn(100, np.random.default_rng(5))
    unknown = Pairs(pairs.without_RC, pairs.with_RC, np.full(100, -1))
    expected = expect(unknown, pairs.without_RC[:1], np.array([0]), likeliest, 30)
    assert np.isnan(expected.measured_N3).all()
    assert np.isfinite(expected.gain_N3).all()


def test_three_classes_and_their_order(found):
    rng = np.random.default_rng(6)
    logits_RC = rng.normal(size=(400, 3))
    step_RC = rng.normal(size=(400, 3))
    p_RC, later_RC = (np.exp(v) / np.exp(v).sum(axis=1, keepdims=True) for v in (logits_RC, logits_RC + step_RC))
    label_R = np.array([rng.choice(3, p=p) for p in later_RC])
    first = expect(Pairs(p_RC, later_RC, label_R), p_RC[:20], likeliest(p_RC[:20]), likeliest, 30)
    turn = [2, 0, 1]
    turned = Pairs(p_RC[:, turn], later_RC[:, turn], np.argsort(turn)[label_R])
    second = expect(turned, p_RC[:20, turn], likeliest(p_RC[:20, turn]), likeliest, 30)
    for name in ("change_N3", "flips_N3", "gain_N3", "measured_N3"):
        assert np.allclose(getattr(first, name), getattr(second, name), equal_nan=True)


def test_the_number_of_neighbours():
    assert [neighbours(n, 30) for n in (30, 40, 100, 1000)] == [30, 30, 40, 251]
