"""GroupDRO as pure functions (Eq. 2–4; algorithm §2, §3): λ over groups by exponentiated gradient.

Weights are a mapping group → λ whose values sum to 1. No result depends on the order of groups or sites.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

from remind.config.train import Initial
from remind.metrics.statistics import GroupLoss

Weights = Mapping[int, float]
Unit = TypeVar("Unit", int, str)  # a group, or a site if a rule weighs sites
LEAST = 1e-300  # smallest λ that is multiplied; n_{s,k}/n_k of it is still a number with full precision


def initial_weights(count_of: Mapping[Unit, int], kind: Initial = "uniform", prior: float = 50.0) -> dict[Unit, float]:
    """Return λ₀ over the groups seen in training (algorithm §4.6).

    uniform: 1/G, as in the paper. proportional: ∝ n_k; with γ = .02 λ hardly changes, so that training is close to ERM.
    sqrt: ∝ √n_k, for cohorts whose rarest groups have only a few patients, which 1/G each would repeat hundreds of
    times. shrunk: ∝ r_k/G + (1 − r_k)·n_k/n with r_k = n_k/(n_k + prior), so that only groups with enough patients get
    the weight 1/G.
    """
    total_n, number = math.fsum(count_of.values()), len(count_of)

    def raised(n: int) -> float:
        if kind == "shrunk":
            trust = n / (n + prior)
            return trust / number + (1 - trust) * n / total_n
        return float(n ** {"uniform": 0.0, "sqrt": 0.5, "proportional": 1.0}[kind])

    values = {g: raised(n) for g, n in sorted(count_of.items())}
    total = math.fsum(values.values())
    return {g: value / total for g, value in values.items()}


def update_weights(
    weights: Mapping[Unit, float], risk_of: Mapping[Unit, float], gamma: float, most: float = math.inf
) -> dict[Unit, float]:
    """Take λ_k ← λ_k·exp(γ R_k) / Σ_j λ_j·exp(γ R_j) over the groups that reported a risk (Eq. 4).

    A group without a report keeps its λ to the last bit: the reporting groups redistribute exactly their own mass, so
    an absent group neither gains nor loses odds (algorithm §3).

    Parameters
    ----------
    weights
        λ before the update, on the simplex.
    risk_of
        R_k of each reporting group; each must have a weight.
    gamma
        Step per round: γ of one step times the local steps of the round, because the gradient adds up in the exponent.
    most
        Largest change of ln(λ_j/λ_k) of two groups (`tilted`).
    """
    logs = {g: math.log(w) for g, w in weights.items() if w > 0}  # 0 stays 0
    tilt = {g: gamma * risk for g, risk in risk_of.items() if g in logs}
    return {**weights, **{g: weight_of(log) for g, log in tilted(logs, tilt, most).items()}}


def tilted(logs: Mapping[Unit, float], tilt: Mapping[Unit, float], most: float = math.inf) -> dict[Unit, float]:
    """Return ln λ of the units in `tilt` after λ_k ∝ λ_k·exp(tilt_k); their mass stays. Empty if nothing moves.

    Logarithms do not underflow: a weight that has become very small grows again as soon as its risk is the higher one.

    Parameters
    ----------
    logs
        ln λ of every unit in `tilt`, and perhaps of others.
    most
        Bound on the change of ln(λ_j/λ_k) of any two units, and so of each one's ln λ and ln-odds: tilts are moved into
        a window of that width. The window holds the median as far as it can, so that one false number changes its own
        weight, and not the order of the others.
    """
    ranked = sorted(tilt.values())
    if not ranked or ranked[0] == ranked[-1]:
        return {}
    middle = (ranked[(len(ranked) - 1) // 2] + ranked[len(ranked) // 2]) / 2
    low = max(ranked[0], min(middle - most / 2, ranked[-1] - most))
    inside = {k: min(max(tilt[k] - low, 0.0), most) for k in sorted(tilt)}
    highest = max(inside.values())  # subtracted from all: it cancels, and avoids a loss of precision
    raised = {k: logs[k] + t - highest for k, t in inside.items()}
    shift = _log_sum([logs[k] for k in raised]) - _log_sum(list(raised.values()))
    return {k: log + shift for k, log in raised.items()}


def weight_of(log: float) -> float:
    """Return λ of ln λ. It is never 0, so that no group's share of the objective is lost."""
    return max(math.exp(log), LEAST)


def _log_sum(logs: Sequence[float]) -> float:
    """Return ln Σ exp."""
    highest = max(logs)
    return highest + math.log(math.fsum(math.exp(log - highest) for log in logs))


def floored(weights: Mapping[Unit, float], least: Mapping[Unit, float]) -> dict[Unit, float]:
    """Return weights with lower bounds `least`; the other units in `least` give the difference, in proportion.

    Units without a lower bound keep their weights to the last bit, and the sum is unchanged. If there is too little
    mass for all bounds, each unit gets its share of it.
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
    """Return R_k = Σ_s loss_sum_{s,k} / Σ_s count_{s,k} of statistics merged over sites, + c/√n_k (algorithm §3, §4.8).

    This is never a mean of site means. The adjustment c/√n_k estimates how much the training loss of a group with n_k
    patients is too low. Groups without training patients have no weight and are left out.
    """
    return {
        k: loss.loss_sum / loss.count + adjustment / math.sqrt(counts[k])
        for k, loss in sorted(loss_of.items())
        if k in counts
    }


def admit(weights: Mapping[Unit, float], newcomers: Mapping[Unit, int]) -> dict[Unit, float]:
    """Return the weights with groups first seen after the start: 1/G each, the others' odds unchanged."""
    fresh = sorted(g for g in newcomers if g not in weights)
    if not fresh:
        return dict(weights)
    share = 1 / (len(weights) + len(fresh))
    kept = 1 - share * len(fresh)
    grown = {g: kept * w for g, w in weights.items()} | dict.fromkeys(fresh, share)
    return {g: grown[g] for g in sorted(grown)}


def site_share(weights: Weights, counts: Mapping[int, int], own: Mapping[int, int]) -> float:
    """Return W_s = Σ_{k∈G_s} λ_k·n_{s,k}/n_k, a site's share of the objective; Σ_s W_s = 1 (algorithm §3).

    Parameters
    ----------
    weights, counts
        λ_k and the global n_k.
    own
        n_{s,k} of the groups the site observes.
    """
    return math.fsum(weights[k] * n / counts[k] for k, n in own.items())
