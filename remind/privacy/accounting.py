"""The privacy accountant: composes the cost of all releases in Rényi differential privacy (RDP).

Two data sets are adjacent if one of them has one more patient. A release is a Gaussian mechanism, optionally on a
Poisson sample of the patients. Its curve is its RDP at fixed orders. Curves of releases about the same patients add up,
even if a later release is chosen after an earlier one is known. A ledger can therefore store the sum, and a budget may
stop the next release (Feldman and Zrnic, "Individual privacy accounting via a Rényi filter", 2021). For releases about
disjoint patients, the maximum of the curves applies.

Opacus computes the curves of sampled mechanisms (Mironov et al., "Rényi differential privacy of the sampled Gaussian
mechanism", 2019). For releases of all patients that were fixed in advance, `exact_epsilon` is smaller.
"""

import contextlib
import importlib
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from remind.errors import UserError

Curve = NDArray[np.float64]
# The orders of Opacus, and higher ones, because the best order of a few releases with much noise is above 100. Ledgers
# store curves at these orders. Curves at other orders cannot be added to them (`ORDERS_VERSION`).
ORDERS: tuple[float, ...] = (
    *(1 + x / 10 for x in range(1, 100)),
    *(float(x) for x in (11, *range(12, 64), 64, 80, 96, 128, 192, 256, 512, 1024)),
)
ORDERS_VERSION = 1
MOST_NOISE = 1e6
PRECISION = 1.001  # `noise_multiplier` returns at most this factor times the smallest sufficient noise


@dataclass(frozen=True)
class Mechanism:
    """One release, or several equal ones.

    Attributes
    ----------
    what
        Name of what is released: ``gradient``, ``losses``.
    noise
        Noise multiplier σ: standard deviation of the noise divided by the L2 sensitivity of the release.
    rate
        Sampling rate q: the probability with which each patient takes part, drawn secretly for each step; 1: all.
    steps
        Number of such releases.
    """

    what: str
    noise: float
    rate: float = 1.0
    steps: int = 1

    def __post_init__(self) -> None:
        """Refuse values that no mechanism can have.

        Raises
        ------
        ValueError
            The text names the wrong value.
        """
        if not (self.noise >= 0 and math.isfinite(self.noise)):
            raise ValueError(f"{self.what}: a noise multiplier of {self.noise} is not possible; 0 or more")
        if not 0 <= self.rate <= 1:
            raise ValueError(f"{self.what}: a sampling rate of {self.rate} is not possible; 0 to 1")
        if self.steps < 0:
            raise ValueError(f"{self.what}: {self.steps} steps are not possible")

    def curve(self) -> Curve:
        """Return the RDP at `ORDERS`; infinite without noise."""
        if not self.steps or not self.rate:
            return zero_curve()
        return self.steps * np.array(_one_step(self.noise, self.rate))


def zero_curve() -> Curve:
    """Return the curve of no release."""
    return np.zeros(len(ORDERS))


def compose(mechanisms: Iterable[Mechanism]) -> Curve:
    """Return the curve of the composition of releases about the same patients."""
    return sum((mechanism.curve() for mechanism in mechanisms), zero_curve())


def epsilon(curve: Curve, delta: float) -> float:
    """Return the smallest ε for which the curve implies (ε, δ)-DP (Balle et al. 2020, theorem 21); may be infinite."""
    if not 0 < delta < 1:
        raise ValueError(f"delta = {delta} is not possible; above 0, below 1")
    if not curve.any():
        return 0.0
    return max(0.0, float(_bounds(curve, np.array(ORDERS), delta).min()))


def noise_multiplier(
    wanted: float, delta: float, rate: float = 1.0, steps: int = 1, others: Curve | None = None
) -> float:
    """Return the smallest noise multiplier with which all releases together cost at most the wanted ε.

    Parameters
    ----------
    wanted
        ε of these steps and `others` together.
    others
        Curve of the other releases about the same patients.

    Raises
    ------
    UserError
        No noise is sufficient, because the other releases alone cost too much.
    """
    beside = zero_curve() if others is None else others

    def too_little(noise: float) -> bool:
        return epsilon(beside + Mechanism("steps", noise, rate, steps).curve(), delta) > wanted

    if rate and steps:
        near = _Near(beside, Mechanism("steps", 1.0, rate, steps), delta)
        # The orders near the best may ask for too much noise, never for too little. All orders are asked once.
        with contextlib.suppress(UserError):
            found, below = _search(lambda noise: near.epsilon(noise, wanted) > wanted, beside, wanted, delta)
            if below == 0 or too_little(below):
                return found
    return _search(too_little, beside, wanted, delta)[0]


def _search(too_little: Callable[[float], bool], beside: Curve, wanted: float, delta: float) -> tuple[float, float]:
    """Return the smallest noise multiplier that is enough, by bisection, and the largest that was not; 0: none."""
    low, high = 0.0, 1.0
    while too_little(high):
        low, high = high, 2 * high
        if high > MOST_NOISE:
            other = epsilon(beside, delta)
            raise UserError(
                f"no noise is enough for an epsilon of {wanted:g} at delta {delta:g}"
                + (f": other releases alone cost {other:.3g}; release less, or allow more" if other else "; allow more")
            )
    while high > PRECISION * low and high > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if too_little(middle) else (low, middle)
    return high, low


class _Near:
    """ε by the orders near the best one, which moves little with the noise; never less than by all orders.

    Parameters
    ----------
    beside
        Curve of the other releases.
    steps
        The mechanism, with any noise.
    delta
        δ.
    """

    def __init__(self, beside: Curve, steps: Mechanism, delta: float) -> None:
        self._beside, self._steps, self._delta = beside, steps, delta
        self._best = len(ORDERS) // 2

    def epsilon(self, noise: float, wanted: float) -> float:
        """Return the first bound that is at most `wanted`, or the smallest down the slope."""
        here = self._at(noise, self._best)
        for step in (-1, 1):
            while here > wanted and 0 <= self._best + step < len(ORDERS):
                beside = self._at(noise, self._best + step)
                if not beside < here:
                    break
                here, self._best = beside, self._best + step
        return here

    def _at(self, noise: float, place: int) -> float:
        order = ORDERS[place]
        cost = self._beside[place] + self._steps.steps * _at_order(noise, self._steps.rate, order)
        return float(_bounds(cost, order, self._delta))


def _bounds(curve: Any, orders: Any, delta: float) -> Any:
    """Return the bound on ε of each order."""
    return curve - (math.log(delta) + np.log(orders)) / (orders - 1) + np.log1p(-1 / orders)


def exact_epsilon(mechanisms: Iterable[Mechanism], delta: float) -> float | None:
    """Return the smallest ε of releases of all patients, whose composition is one Gaussian mechanism; None if sampled.

    Noise multipliers σ_i compose to μ² = Σ 1/σ_i² (Dong et al., "Gaussian differential privacy", 2022), which gives
    δ = Φ(μ/2 − ε/μ) − e^ε·Φ(−μ/2 − ε/μ) (Balle and Wang, "Improving the Gaussian mechanism for differential privacy",
    2018). It is valid only for noise that was fixed before the first release, so no budget uses it.
    """
    released = [m for m in mechanisms if m.steps and m.rate]
    if any(m.rate < 1 for m in released):
        return None
    if any(m.noise == 0 for m in released):
        return math.inf
    if not released:
        return 0.0
    mu = math.sqrt(math.fsum(m.steps / m.noise**2 for m in released))
    low, high = 0.0, epsilon(compose(released), delta)
    if _delta_of(mu, low) <= delta:
        return 0.0
    while high - low > 1e-9 * max(1.0, high) and low < (middle := (low + high) / 2) < high:
        low, high = (middle, high) if _delta_of(mu, middle) > delta else (low, middle)
    return high


def _delta_of(mu: float, wanted: float) -> float:
    """Return δ of a Gaussian mechanism of this μ at an ε, or an upper bound where δ is below every number of use."""
    below, above = mu / 2 - wanted / mu, mu / 2 + wanted / mu
    tail = math.erfc(above / math.sqrt(2)) / 2
    density = math.exp(-above * above / 2) / math.sqrt(2 * math.pi)
    # e^ε·φ(above) = φ(below), so neither factor overflows. Far out, the tail is at least φ·x/(x² + 1).
    ratio = tail / density if above < 30 else above / (above * above + 1)
    return math.erfc(-below / math.sqrt(2)) / 2 - math.exp(-below * below / 2) / math.sqrt(2 * math.pi) * ratio


@lru_cache(maxsize=256)
def _one_step(noise: float, rate: float) -> tuple[float, ...]:
    return tuple(_at_order(noise, rate, order) for order in ORDERS)


@lru_cache(maxsize=16384)
def _at_order(noise: float, rate: float, order: float) -> float:
    """Return the RDP of one release at one order."""
    if noise == 0:
        return math.inf
    unsampled = order / (2 * noise * noise)
    if rate == 1:
        return unsampled
    try:
        found = float(_opacus().compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=order))
    except (ValueError, OverflowError):  # the series does not converge at this order; infinite is a valid bound
        return unsampled
    # A release without sampling never costs less; a rounding error of the series must not contradict this.
    return min(found, unsampled) if math.isfinite(found) and found >= 0 else unsampled


@cache
def _opacus() -> ModuleType:
    """Return Opacus' module of curves without the packages around it, whose import takes seconds."""
    package = find_spec("opacus")
    for folder in (package and package.submodule_search_locations) or ():
        file = Path(folder) / "accountants" / "analysis" / "rdp.py"
        if file.is_file() and (spec := spec_from_file_location("remind.privacy._opacus_rdp", file)) and spec.loader:
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return importlib.import_module("opacus.accountants.analysis.rdp")
