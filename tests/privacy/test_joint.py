"""Shares of noise: what they add up to, what their rounding costs, and an audit that sees them broken."""

import math

import numpy as np
import pytest

from remind.errors import UserError
from remind.privacy import joint
from remind.privacy.accounting import Mechanism, epsilon
from remind.privacy.joint import clip_for, in_units, share_of, shared_steps
from remind.privacy.noise import STEPS_PER_CLIP, Randomness

CLIP, NOISE, SITES, MOST = 0.5, 2.0, 4, 2**31 // 4


def secret(number):
    return bytes([number]) * 32


def total(sums, question, hospitals=SITES):
    """The sum over hospitals, in numbers: every hospital with its share."""
    steps = [
        joint.shared_steps(one, CLIP, share_of(NOISE, hospitals), MOST, Randomness(secret(s), question, "noise"))
        for s, one in enumerate(sums)
    ]
    return in_units(np.sum(steps, axis=0), CLIP)


def test_shares_add_up_to_the_noise_and_lie_on_the_grid():
    sums = [np.full(20_000, 0.1 * s) for s in range(SITES)]
    found = total(sums, "q")
    assert np.std(found - np.sum(sums, axis=0)) == pytest.approx(NOISE * CLIP, rel=0.02)
    steps = found * STEPS_PER_CLIP / CLIP
    assert np.array_equal(steps, np.rint(steps))


def test_a_hospital_more_than_counted_on_only_adds_noise():
    counted_on_three = total([np.zeros(20_000)] * SITES, "q", hospitals=3)
    assert np.std(counted_on_three) == pytest.approx(NOISE * CLIP * math.sqrt(4 / 3), rel=0.02)


def test_the_same_question_gets_the_same_integers_and_no_other_does():
    def of(question, number=1):
        return shared_steps(np.ones(8), 1.0, 1.0, MOST, Randomness(secret(number), question, "noise"))

    assert np.array_equal(of("q"), of("q"))
    assert not np.array_equal(of("q"), of("r"))
    assert not np.array_equal(of("q"), of("q", 2))


def test_neighbours_differ_by_the_clip_after_rounding():
    rng, numbers = np.random.default_rng(0), 3000
    clip = clip_for(CLIP, numbers)
    worst = 0.0
    for _ in range(50):
        others, patient = rng.normal(size=numbers), rng.normal(size=numbers)
        patient *= clip / np.linalg.norm(patient)
        apart = np.rint((others + patient) / CLIP * STEPS_PER_CLIP) - np.rint(others / CLIP * STEPS_PER_CLIP)
        worst = max(worst, float(np.linalg.norm(apart)))
    assert 0.99 * STEPS_PER_CLIP < worst <= STEPS_PER_CLIP
    with pytest.raises(UserError, match="too many for a grid"):
        clip_for(CLIP, STEPS_PER_CLIP**2)


def test_what_is_too_large_is_cut_and_what_is_not_finite_refused():
    randomness = Randomness(secret(1), "q", "noise")
    assert np.array_equal(shared_steps(np.array([1e9, -1e9]), CLIP, 1.0, 100, randomness), [100, -100])
    with pytest.raises(ValueError, match="not finite"):
        shared_steps(np.array([np.nan]), CLIP, 1.0, MOST, randomness)
    with pytest.raises(UserError, match="too little to be told from rounding"):
        shared_steps(np.zeros(1), CLIP, 1e-5, MOST, randomness)


@pytest.mark.parametrize("hospitals", [1, 3])
@pytest.mark.parametrize("share", [joint.LEAST_SHARE, 9.3])
def test_rounded_shares_cost_no_more_than_a_normal_number(share, hospitals):
    """The exact Rényi divergence between the sum of rounded shares and the same shifted by a patient."""
    reach = math.ceil(14 * share)
    k = np.arange(-reach, reach + 1)
    edges = np.array([math.erf((x - 0.5) / (share * math.sqrt(2))) for x in [*k, reach + 1]])
    one = np.diff(edges) / 2
    whole = one
    for _ in range(hospitals - 1):
        whole = np.convolve(whole, one)
    shift, deviation = 1, share * math.sqrt(hospitals)
    p, q = whole[shift:], whole[:-shift]
    sure = (p > 1e-13) & (q > 1e-13)  # beyond, erf itself is not exact
    for order in (1.5, 2.0, 4.0, 8.0):
        divergence = np.log(np.sum(p[sure] ** order * q[sure] ** (1 - order))) / (order - 1)
        assert divergence <= order * shift**2 / (2 * deviation**2) * (1 + 1e-6)
        assert divergence > 0.9 * order * shift**2 / (2 * (deviation**2 + hospitals / 12))


def audited(calls=150):
    """Distance between sums with and without a canary far above C, and the spread of the sums, in units of σC."""
    canary, others = np.zeros(50), np.random.default_rng(1).normal(size=50)
    canary[7] = 100.0

    def along(patient, question):
        clipped = patient * min(1.0, joint.clip_for(CLIP, 50) / max(float(np.linalg.norm(patient)), 1e-30))
        return total([others + clipped, others, others, others], question)[7]

    inside = np.array([along(canary, f"in {i}") for i in range(calls)])
    without = np.array([along(0 * canary, f"out {i}") for i in range(calls)])
    spread = np.concatenate([inside - inside.mean(), without - without.mean()]).std()
    return (inside.mean() - without.mean()) / (NOISE * CLIP), spread / (NOISE * CLIP)


def passes():
    distance, spread = audited()
    return distance < 1 / NOISE + 0.25 and 0.85 < spread < 1.15


def test_the_audit_passes():
    distance, spread = audited()
    assert 0.25 < distance < 1 / NOISE + 0.25
    assert spread == pytest.approx(1.0, abs=0.15)


def scaled(factor):
    return lambda *given: np.rint(_noise_of(given, factor)).astype(np.int64)


def _noise_of(given, factor):
    exact, bound, _, _, _ = given
    rounded = np.rint(exact / bound * STEPS_PER_CLIP)
    return rounded + factor * (shared_steps(*given) - rounded)


@pytest.mark.parametrize("broken", ["noise off", "noise halved", "one hospital leaves its share out", "clip off"])
def test_the_audit_fails_when_a_share_is_broken(broken, monkeypatch):
    if broken == "clip off":
        monkeypatch.setattr(joint, "clip_for", lambda clip, numbers: 1e9)
    elif broken == "one hospital leaves its share out":  # seen where shares are counted on that are not there
        monkeypatch.setattr(joint, "shared_steps", _without_the_share_of(3))
    else:
        monkeypatch.setattr(joint, "shared_steps", scaled(0.0 if broken == "noise off" else 0.5))
    if broken == "one hospital leaves its share out":
        assert audited()[1] < 0.95
    else:
        assert not passes()


def _without_the_share_of(number):
    calls = iter(range(10**6))
    return lambda *given: scaled(0.0)(*given) if next(calls) % SITES == number else shared_steps(*given)


def test_what_is_left_if_all_others_leave_their_noise_out_is_said_by_the_share():
    together = epsilon(Mechanism("gradient", 4.0, 1.0, 60).curve(), 1e-5)
    alone = epsilon(Mechanism("gradient", share_of(4.0, 4), 1.0, 60).curve(), 1e-5)
    assert together < alone
    assert share_of(4.0, 4) == 2.0
    with pytest.raises(ValueError, match="no hospital"):
        share_of(1.0, 0)
