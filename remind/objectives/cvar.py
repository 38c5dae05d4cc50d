"""Conditional value at risk over groups."""

from collections.abc import Mapping
from math import fsum
from typing import Annotated

from pydantic import Field

from remind.objectives.base import Objective, registry
from remind.objectives.lambda_step import initial_weights
from remind.objectives.weighting import Unit, WeightState
from remind.registry import Options


class CVaROptions(Options):
    """Which share is the worst."""

    alpha: Annotated[float, Field(gt=0, le=1)] = Field(0.1, description="α: share of the groups that count as worst")


@registry.register(
    "cvar",
    title="mean risk of the worst share α of the groups",
    paper="Rockafellar and Uryasev, Optimization of conditional value-at-risk; Levy et al., NeurIPS 2020",
    year=2000,
    options=CVaROptions,
)
class CVaR(Objective):
    """CVaR_α = max Σ_k λ_k R_k over the simplex with λ_k ≤ 1/(α·G): the mean of the worst α of the group risks.

    With α·G no whole number, the group at the boundary counts in part. The public code of Levy et al. takes the worst
    patients of a batch; groups are the units here, as in GroupDRO.
    """

    weighs = True
    options: CVaROptions

    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Return 1/G each: no risks are known yet."""
        return WeightState(initial_weights(counts, "uniform"))

    def update(
        self, state: WeightState[Unit], risks: Mapping[Unit, float], counts: Mapping[Unit, int], steps: float
    ) -> WeightState[Unit]:
        """Return the maximiser for the last reported risk of each group.

        A group that never reported keeps its weight.
        """
        return worst_of_known(state, {**state.memory, **risks}, self.options.alpha)


def worst_of_known(state: WeightState[Unit], known: Mapping[Unit, float], alpha: float) -> WeightState[Unit]:
    """Apply `worst` to the units with a known risk; together they keep the mass that they had.

    A unit that never reported keeps its weight, 1/G, so the bound 1/(α·G) on the others remains that of all G units.
    """
    mass = fsum(state.weights[unit] for unit in known)
    moved = {unit: mass * weight for unit, weight in worst(known, alpha).items()} if known else {}
    return WeightState({**state.weights, **moved}, known)


def worst(risks: Mapping[Unit, float], alpha: float) -> dict[Unit, float]:
    """Return weights whose weighted risk is the mean of the worst α of the risks.

    Units of equal risk get equal shares.
    """
    cap, left = 1 / (alpha * len(risks)), 1.0
    weights = dict.fromkeys(sorted(risks), 0.0)
    for risk in sorted(set(risks.values()), reverse=True):
        tied = [unit for unit in weights if risks[unit] == risk]
        given = min(left, cap * len(tied))
        weights |= dict.fromkeys(tied, given / len(tied))
        left -= given
    return weights
