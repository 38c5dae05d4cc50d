"""GroupDRO as pure functions (Eq. 2–4; algorithm §2, §3): λ over groups by exponentiated gradient.

Weights are a mapping group → λ; its values sum to 1. Nothing depends on the order in which groups or sites come.
"""

import math
from collections.abc import Mapping
from typing import Literal, TypeVar

from remind.metrics.statistics import GroupLoss

Weights = Mapping[int, float]
Unit = TypeVar("Unit", int, str)  # a group, or a site where a rule weighs sites
Initial = Literal["uniform", "sqrt", "proportional"]


def initial_weights(count_of: Mapping[Unit, int], kind: Initial = "uniform") -> dict[Unit, float]:
    """λ₀ over the groups seen in training, ∝ n_k^a (algorithm §4.6).

    uniform: a = 0, the paper's. proportional: a = 1, from which γ = .02 hardly ever moves: plain ERM. sqrt: a = ½, for
    cohorts whose rarest groups hold a handful of patients, whom 1/G each would have seen hundreds of times.
    """
    exponent = {"uniform": 0.0, "sqrt": 0.5, "proportional": 1.0}[kind]
    raised = {g: n**exponent for g, n in sorted(count_of.items())}
    total = math.fsum(raised.values())
    return {g: value / total for g, value in raised.items()}


def update_weights(weights: Mapping[Unit, float], risk_of: Mapping[Unit, float], gamma: float) -> dict[Unit, float]:
    """λ_k ← λ_k·exp(γ R_k) / Σ_j λ_j·exp(γ R_j), over the groups that reported a risk (Eq. 4).

    A group without a report keeps its λ: those that did report share among themselves exactly the mass they had, so
    that an absent group neither gains nor loses odds (algorithm §3).

    Parameters
    ----------
    weights
        λ before the update, on the simplex.
    risk_of
        R_k of each reporting group; each must have a weight.
    gamma
        Step per round: γ of one step times the local steps of the round, for the gradient adds up in the exponent.
    """
    reported = sorted(g for g in risk_of if weights[g] > 0)  # 0 stays 0
    if not reported:
        return dict(weights)
    mass = math.fsum(weights[g] for g in reported)
    highest = max(risk_of[g] for g in reported)  # subtracted from all exponents: cancels, and prevents overflow
    raised = {g: weights[g] * math.exp(gamma * (risk_of[g] - highest)) for g in reported}
    total = math.fsum(raised.values())
    return {g: mass * raised[g] / total if g in raised else weight for g, weight in weights.items()}


def floored(weights: Mapping[Unit, float], least: Mapping[Unit, float]) -> dict[Unit, float]:
    """Weights of which those in `least` are at least that much; the others of these give, in proportion, what it takes.

    Units without a least weight keep theirs to the last bit, and the sum stays. Where there is less to give than the
    least weights need, each gets its share of what there is.
    """
    mass, needed = math.fsum(weights[k] for k in least), math.fsum(least.values())
    if needed >= mass:
        return dict(weights) | {k: mass * w / needed for k, w in least.items() if needed > 0}
    low = {k for k in least if weights[k] == 0}
    while True:
        above = math.fsum(weights[k] for k in least if k not in low)
        scale = (mass - math.fsum(least[k] for k in low)) / above
        fresh = {k for k in least if k not in low and weights[k] * scale < least[k]}
        if not fresh:
            return {k: w if k not in least else least[k] if k in low else w * scale for k, w in weights.items()}
        low |= fresh


def risks(loss_of: Mapping[int, GroupLoss], counts: Mapping[int, int], adjustment: float = 0.0) -> dict[int, float]:
    """R_k = Σ_s loss_sum_{s,k} / Σ_s count_{s,k} of statistics merged over sites, + c/√n_k (algorithm §3, §4.8).

    Never a mean of site means. The adjustment c stands for how much a group's training loss, n_k patients in all,
    flatters it; groups without training patients steer nothing and are left out.
    """
    return {
        k: loss.loss_sum / loss.count + adjustment / math.sqrt(counts[k])
        for k, loss in sorted(loss_of.items())
        if k in counts
    }


def admit(weights: Mapping[Unit, float], newcomers: Mapping[Unit, int]) -> dict[Unit, float]:
    """Weights with groups first seen after the start: 1/G each, the others' odds unchanged."""
    fresh = sorted(g for g in newcomers if g not in weights)
    if not fresh:
        return dict(weights)
    share = 1 / (len(weights) + len(fresh))
    kept = 1 - share * len(fresh)
    grown = {g: kept * w for g, w in weights.items()} | dict.fromkeys(fresh, share)
    return {g: grown[g] for g in sorted(grown)}


def site_share(weights: Weights, counts: Mapping[int, int], own: Mapping[int, int]) -> float:
    """W_s = Σ_{k∈G_s} λ_k·n_{s,k}/n_k, the share of the objective that lies at a site; Σ_s W_s = 1 (algorithm §3).

    Parameters
    ----------
    weights, counts
        λ_k and the global n_k.
    own
        n_{s,k} of the groups the site observes.
    """
    return math.fsum(weights[k] * n / counts[k] for k, n in own.items())
