"""Statistics for J runs on overlapping splits: intervals, paired tests, equivalence, power, Holm's correction.

The runs of a study train on overlapping patients, so their values are not independent and S²/J is too small a variance
of their mean. Nadeau and Bengio (2003, Inference for the generalization error, Machine Learning 52) replace it by

    (1/J + n_test/n_train) · S²,        t = mean / √that, with J − 1 degrees of freedom,

which Bouckaert and Frank (2004) apply to repeated K-fold cross-validation. A value is None where it is undefined or its
run is missing; such seeds are left out, of a pair if either is None.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from scipy.special import nctdtrinc, stdtr, stdtrit  # Student's laws and quantiles

Values = Sequence[float | None]  # one per seed, in the order of the seeds

LEVEL = 0.05
POWER = 0.8  # of the smallest difference that could have been seen
SAME = 5  # seeds on which all must be the same to count as equal
MARGIN = 0.005  # differences below it do not matter: what is shown to be smaller is called equal
NOISE = 1e-12  # spreads below are rounding: values that are equal, or differ by a constant


@dataclass(frozen=True)
class Inference:
    """A mean over seeds, and how far it can be trusted.

    Attributes
    ----------
    n
        Values that are defined.
    mean, sd
        Of those; the sd, of n − 1 degrees of freedom, is None for fewer than two.
    low, high
        95 % interval of the mean; None for fewer than two values, or where they do not differ.
    p
        Of the hypothesis that the mean is 0; None where there is no interval, but 1 for two or more zeros.
    """

    n: int
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None
    p: float | None


def estimate(values: Values, ratio: float) -> Inference:
    """Return the mean of the values with its interval and test.

    Parameters
    ----------
    ratio
        n_test/n_train of a run; 0 for runs on independent patients, where this is Student's t.
    """
    defined_J = np.array([value for value in values if value is not None], dtype=np.float64)
    n = len(defined_J)
    if n == 0:
        return Inference(0, None, None, None, None, None)
    mean = float(defined_J.mean())
    if n < 2:
        return Inference(n, mean, None, None, None, None)
    sd = float(defined_J.std(ddof=1))
    if sd <= NOISE:  # equal values do not tell how much others would differ
        return Inference(n, mean, 0.0, None, None, 1.0 if abs(mean) <= NOISE else None)
    error = sd * math.sqrt(1 / n + ratio)
    half = float(stdtrit(n - 1, 1 - LEVEL / 2)) * error
    return Inference(n, mean, sd, mean - half, mean + half, 2 * float(stdtr(n - 1, -abs(mean) / error)))


def paired(values: Values, against: Values, ratio: float) -> Inference:
    """Return the mean of the differences, `values` minus `against`, seed by seed."""
    return estimate(_differences(values, against), ratio)


def holm(p_values: Values) -> list[float | None]:
    """Return p-values adjusted by Holm (1979), so that the probability of any false claim is at most α.

    The i-th smallest of m becomes the largest of (m − j + 1)·p_(j) over j ≤ i, at most 1. None is no test and stays.
    """
    made = [i for i, p in enumerate(p_values) if p is not None]
    p_m = np.array([p_values[i] for i in made], dtype=np.float64)
    order_m = np.argsort(p_m, kind="stable")
    stepped_m = p_m[order_m] * (len(p_m) - np.arange(len(p_m)))
    adjusted: list[float | None] = [None] * len(p_values)
    for position, p in zip(order_m, np.minimum(np.maximum.accumulate(stepped_m), 1.0), strict=True):
        adjusted[made[position]] = float(p)
    return adjusted


@dataclass(frozen=True)
class Standing:
    """Where competitors stand to the one of the best mean.

    Attributes
    ----------
    first
        The best mean; empty where nobody has values.
    equal
        Competitors within the margin of the first by the equivalence test.
    open
        Competitors neither shown to differ from it nor shown to be equal. All others are behind.
    """

    first: str
    equal: tuple[str, ...] = ()
    open: tuple[str, ...] = ()


def equivalence(values: Values, against: Values, ratio: float, margin: float) -> float | None:
    """Return p of the hypothesis that the difference is `margin` or more, in either direction.

    Two one-sided tests (Schuirmann 1987) with the variance of this module: the larger p. Equal on each
    of `SAME` seeds or more: 0; on fewer that may be chance, as scores of few patients are coarse.
    """
    found = paired(values, against, ratio)
    if found.mean is None or found.sd is None or found.p is None:
        return None
    if found.sd <= NOISE:
        return 0.0 if found.n >= SAME else None
    error = found.sd * math.sqrt(1 / found.n + ratio)
    return float(stdtr(found.n - 1, (abs(found.mean) - margin) / error))


def detectable(sd: float | None, n: int, ratio: float, level: float = LEVEL, power: float = POWER) -> float | None:
    """Return the smallest true difference that a test of this level finds with this power, if the spread is `sd`.

    From the noncentral t distribution with n − 1 degrees of freedom; the power in the wrong direction is not counted.
    """
    if sd is None or n < 2 or sd <= NOISE:
        return None
    limit = float(stdtrit(n - 1, 1 - level / 2))
    return float(nctdtrinc(n - 1, 1 - power, limit)) * sd * math.sqrt(1 / n + ratio)


def standings(values: Mapping[str, Values], ratio: float, margin: float, *, lower: bool) -> Standing:
    """Return which competitor is first, which ones are equal to it, and which ones are open.

    The first is ahead of every other competitor on their common seeds. If none is, the first is the one that falls
    behind least; among equals, the one that is listed first. Without missing values it has the best mean. A competitor
    with a single value is considered only if none has more. Tests of difference and of equivalence are both adjusted by
    Holm over the rivals.

    Parameters
    ----------
    values
        Of each competitor.
    lower
        Whether lower values are better.
    """
    known = {name: sum(value is not None for value in own) for name, own in values.items()}
    enough = min(2, max(known.values(), default=0))
    names = [name for name in values if known[name] >= enough > 0]
    if not names:
        return Standing("")

    def lead(name: str) -> float:
        gaps = [_differences(values[name], values[other]) for other in names if other != name]
        return min(((-1 if lower else 1) * fmean(gap) for gap in gaps if gap), default=0.0)

    first = max(names, key=lead)
    rivals = [name for name in names if name != first]
    told = _sure(rivals, [paired(values[name], values[first], ratio).p for name in rivals])
    equal = _sure(rivals, [equivalence(values[name], values[first], ratio, margin) for name in rivals])
    return Standing(
        first,
        tuple(name for name in rivals if name in equal),
        tuple(name for name in rivals if name not in equal | told),
    )


def _sure(names: Sequence[str], p_values: Values) -> set[str]:
    """Return those whose p, adjusted by Holm, is below the level."""
    return {name for name, p in zip(names, holm(p_values), strict=True) if p is not None and p < LEVEL}


def _differences(values: Values, against: Values) -> list[float]:
    return [x - y for x, y in zip(values, against, strict=True) if x is not None and y is not None]
