"""What releases cost together: against Opacus, against figures of other accountants, and by hand."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from opacus.accountants import PRVAccountant, RDPAccountant
from opacus.accountants.analysis import rdp
from scipy.stats import norm

from remind.errors import UserError
from remind.privacy import accounting
from remind.privacy.accounting import (
    ORDERS,
    Mechanism,
    compose,
    epsilon,
    exact_epsilon,
    noise_multiplier,
    zero_curve,
)

# σ for ε 8, 3 and 1 by numerical composition: measured with Opacus' PRV accountant, RDP needs 5 to 8 % more.
SCHEDULES = [
    (0.064, 1200, 1e-5, (1.53, 3.21, 8.44)),
    (0.064, 240, 1e-5, (0.92, 1.63, 3.91)),
    (1.0, 60, 1e-5, (4.66, 10.8, 29.4)),
    (0.152, 240, 1e-4, (1.49, 3.05, 7.73)),
    (0.046, 480, 1e-5, (0.91, 1.62, 3.93)),
    (0.082, 240, 1e-5, (1.05, 1.98, 4.92)),
]


@pytest.mark.parametrize(("rate", "steps", "delta", "noises"), SCHEDULES)
def test_epsilon_of_known_schedules(rate, steps, delta, noises):
    for noise, wanted in zip(noises, (8, 3, 1), strict=True):
        found = epsilon(Mechanism("gradient", noise, rate, steps).curve(), delta)
        assert wanted * 0.98 < found < wanted * 1.13, (noise, wanted, found)


def test_epsilon_of_one_gaussian_release_by_hand():
    """Without sampling the curve is α/2σ²; here minimised over all real orders."""
    delta, noise = 1e-5, 5.0
    orders = np.linspace(1.001, 400, 400_000)
    by_hand = (
        orders / (2 * noise**2) + np.log((orders - 1) / orders) - (math.log(delta) + np.log(orders)) / (orders - 1)
    )
    found = epsilon(Mechanism("counts", noise).curve(), delta)
    assert by_hand.min() <= found < by_hand.min() * 1.001


def test_figures_of_three_accountants_for_one_schedule():
    """Measured for this schedule: dp-accounting PLD 7.953, RDP of dp-accounting 8.61."""
    gradient = Mechanism("gradient", 1.53, 0.064, 1200)
    ours = epsilon(gradient.curve(), 1e-5)
    assert ours == pytest.approx(8.61, abs=0.01)
    assert prv(gradient) == pytest.approx(7.953, abs=0.02)
    assert 7.953 < prv(gradient) < ours < 1.1 * 7.953
    assert exact_epsilon([gradient], 1e-5) is None, "it is for releases of all patients"


def prv(*mechanisms):
    """ε of a schedule by Opacus' numerical composition, at most 0.02 above the true one."""
    accountant = PRVAccountant()
    accountant.history = [(m.noise, m.rate, m.steps) for m in mechanisms]
    return accountant.get_epsilon(delta=1e-5)


@pytest.mark.parametrize(
    "mechanisms",
    [
        [Mechanism("gradient", 4.66, 1.0, 60)],
        [Mechanism("gradient", 10.8, 1.0, 60), Mechanism("losses", 30.0, 1.0, 7), Mechanism("counts", 5.0)],
        [Mechanism("gradient", 0.4, 1.0, 3), Mechanism("counts", 1.0)],
    ],
)
def test_exact_epsilon_is_that_of_numerical_composition_and_never_more_than_renyis(mechanisms):
    found = exact_epsilon(mechanisms, 1e-5)
    assert found == pytest.approx(prv(*mechanisms), abs=0.021)
    assert found <= prv(*mechanisms)
    assert found < epsilon(compose(mechanisms), 1e-5)


@pytest.mark.parametrize("delta", [1e-10, 1e-5, 0.1])
@pytest.mark.parametrize("mu", [1e-3, 0.1, 1.0, 5.0, 40.0, 1000.0])
def test_exact_epsilon_has_the_delta_of_the_gaussian_mechanism(mu, delta):
    """δ(ε) = Φ(μ/2 − ε/μ) − e^ε·Φ(−μ/2 − ε/μ), by the logarithm of Φ (Balle and Wang 2018)."""
    found = exact_epsilon([Mechanism("g", 1 / mu)], delta)

    def of(wanted):
        first, second = norm.logcdf(mu / 2 - wanted / mu), wanted + norm.logcdf(-mu / 2 - wanted / mu)
        return math.exp(first) * -math.expm1(second - first)

    assert of(found) <= delta * (1 + 1e-6)
    assert found == 0 or of(found - 1e-6 * max(1.0, found)) > delta * (1 - 1e-6)


@pytest.mark.parametrize("rate", [0.01, 0.2, 1.0])
def test_unequal_releases_equal_opacus(rate):
    accountant = RDPAccountant()
    accountant.history = [(1.1, rate, 30), (4.0, 1.0, 3), (2.0, 0.5, 7)]
    curve = compose([Mechanism("a", 1.1, rate, 30), Mechanism("b", 4.0, 1.0, 3), Mechanism("c", 2.0, 0.5, 7)])
    ours, theirs = epsilon(curve, 1e-5), accountant.get_epsilon(delta=1e-5, alphas=list(ORDERS))
    assert ours == pytest.approx(theirs, rel=1e-9)


def test_conversion_equals_opacus():
    curve = Mechanism("a", 3.0, 0.3, 11).curve()
    assert epsilon(curve, 1e-6) == pytest.approx(
        rdp.get_privacy_spent(orders=ORDERS, rdp=curve, delta=1e-6)[0], rel=1e-12
    )


def test_adding_rows_one_by_one_is_exact():
    one = Mechanism("gradient", 1.2, 0.1).curve()
    summed = zero_curve()
    for _ in range(100):
        summed = summed + one
    np.testing.assert_allclose(summed, Mechanism("gradient", 1.2, 0.1, 100).curve(), rtol=1e-12)


def test_reports_of_losses_beside_a_gradient_of_all_patients_cost_little():
    """60 exchanges of all patients, σ 4.66, with 60 reports of losses at five times that noise: 8.00 → 8.18 (PRV)."""
    gradient, losses = Mechanism("gradient", 4.66, 1.0, 60), Mechanism("losses", 5 * 4.66, 1.0, 60)
    alone, both = epsilon(gradient.curve(), 1e-5), epsilon(compose([gradient, losses]), 1e-5)
    assert both / alone == pytest.approx(8.18 / 8.00, rel=0.01)


@pytest.mark.parametrize("wanted", [1.0, 3.0, 8.0])
@pytest.mark.parametrize(("rate", "steps"), [(0.1, 200), (1.0, 60)])
def test_noise_found_is_enough_and_hardly_more(wanted, rate, steps):
    others = Mechanism("counts", 20.0).curve()
    noise = noise_multiplier(wanted, 1e-5, rate, steps, others)
    cost = [epsilon(others + Mechanism("steps", noise * f, rate, steps).curve(), 1e-5) for f in (1, 0.995)]
    assert cost[0] <= wanted < cost[1]


BUMPS = Mechanism("counts", 20.0).curve() + np.where(np.arange(len(ORDERS)) % 7 == 3, 0.0, 0.2)  # a valley every seven


@pytest.mark.parametrize("others", [zero_curve(), Mechanism("counts", 20.0).curve(), BUMPS])
@pytest.mark.parametrize(("rate", "steps"), [(0.2, 30), (1.0, 3), (0.0, 3)])
def test_noise_found_near_the_best_order_is_that_of_all_orders(rate, steps, others):
    def too_little(noise):
        return epsilon(others + Mechanism("steps", noise, rate, steps).curve(), 1e-5) > 1.0

    assert noise_multiplier(1.0, 1e-5, rate, steps, others) == accounting._search(too_little, others, 1.0, 1e-5)[0]


def test_curves_are_computed_by_opacus_without_the_rest_of_it():
    assert Path(accounting._opacus().__file__).samefile(rdp.__file__)
    code = (
        "import sys; from remind.privacy.accounting import Mechanism; Mechanism('g', 1.0, 0.1).curve();"
        "print({'opacus', 'torch'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_no_noise_is_enough_when_others_have_spent_all():
    with pytest.raises(UserError, match="other releases alone cost"):
        noise_multiplier(1.0, 1e-5, others=Mechanism("counts", 1.0).curve())


def test_less_noise_more_steps_and_more_patients_cost_more():
    base = epsilon(Mechanism("g", 2.0, 0.1, 50).curve(), 1e-5)
    for more in (Mechanism("g", 1.8, 0.1, 50), Mechanism("g", 2.0, 0.11, 50), Mechanism("g", 2.0, 0.1, 51)):
        assert epsilon(more.curve(), 1e-5) > base


@pytest.mark.parametrize("noise", [0.05, 0.3, 0.7, 50.0, 3000.0])
@pytest.mark.parametrize("rate", [1e-4, 0.1, 0.9, 0.999999])
def test_sampling_never_costs_more_than_all_patients(noise, rate):
    """Also where the series of the sampled mechanism loses its digits."""
    sampled, full = Mechanism("g", noise, rate).curve(), Mechanism("g", noise).curve()
    assert (sampled >= 0).all()
    assert (sampled <= full).all()


def test_no_noise_is_no_privacy_and_no_release_costs_nothing():
    assert epsilon(Mechanism("g", 0.0, 0.1).curve(), 1e-5) == math.inf
    assert exact_epsilon([Mechanism("g", 0.0)], 1e-5) == math.inf
    for free in (Mechanism("g", 0.0, 0.0, 10), Mechanism("g", 0.0, 0.5, 0)):
        assert epsilon(free.curve(), 1e-5) == 0
        assert exact_epsilon([free], 1e-5) == 0


@pytest.mark.parametrize("wrong", [(-1.0, 1.0, 1), (math.nan, 1.0, 1), (1.0, 1.1, 1), (1.0, -0.1, 1), (1.0, 1.0, -1)])
def test_impossible_mechanisms_are_refused(wrong):
    with pytest.raises(ValueError, match="gradient"):
        Mechanism("gradient", *wrong)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5])
def test_impossible_delta_is_refused(delta):
    with pytest.raises(ValueError, match="delta"):
        epsilon(zero_curve(), delta)
