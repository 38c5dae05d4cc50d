"""Federated group DRO with KL regularisation or CVaR (Guo and Yang 2024)."""

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from remind.config import Positive, Unit01
from remind.federation.rules.base import registry
from remind.federation.rules.units import UnitOptions, UnitRule
from remind.objectives.cvar import worst_of_known
from remind.objectives.lambda_step import initial_weights
from remind.objectives.weighting import Unit, WeightState

PAPER = "Guo and Yang, Communication-efficient federated group distributionally robust optimization, NeurIPS 2024"


class AverageOptions(UnitOptions):
    """How risks are averaged over rounds."""

    beta: Unit01 = Field(0.5, description="share of a round's risk in the moving average")


class KLOptions(AverageOptions):
    """The temperature."""

    mu: Positive = Field(1.0, description="μ of λ ∝ p·exp(R/μ)")


class CVaROptions(AverageOptions):
    """Which share is the worst."""

    alpha: Annotated[float, Field(gt=0, le=1)] = Field(0.5, description="share of the units that count as worst")


def average(memory: Mapping[Unit, float], risks: Mapping[Unit, float], beta: float) -> dict[Unit, float]:
    """Compute u ← (1 − β)·u + β·R of the units that reported; the first report is taken as u."""
    return {**memory, **{unit: (1 - beta) * memory.get(unit, r) + beta * r for unit, r in risks.items()}}


@registry.register(
    "fgdro_kl",
    title="weights p·exp(R/μ) on moving averages of the risks",
    paper=PAPER,
    year=2024,
    options=KLOptions,
)
class FGDROKL(UnitRule):
    """max_λ Σ λ_k R_k − μ·KL(λ ‖ p): λ_k ∝ p_k·exp(u_k/μ), u the moving average of R; p = n_k/n."""

    options: KLOptions

    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Return p."""
        return WeightState(initial_weights(counts, "proportional"))

    def update(
        self, state: WeightState[Unit], risks: Mapping[Unit, float], counts: Mapping[Unit, int], steps: float
    ) -> WeightState[Unit]:
        """Return the maximiser for the averaged risks, or as close to it as one round may go.

        Units without a report keep their weight.
        """
        known = average(state.memory, risks, self.options.beta)
        logs = state.log_weights()
        goal = {unit: math.log(counts[unit]) + u / self.options.mu for unit, u in known.items()}
        return state.tilt({k: goal[k] - logs[k] for k in goal}, self.config.dro.max_log_odds_step, known)


@registry.register(
    "fgdro_cvar",
    title="mean risk of the worst share α of the units, on moving averages of the risks",
    paper=PAPER,
    year=2024,
    options=CVaROptions,
)
class FGDROCVaR(UnitRule):
    """max Σ λ_k u_k with λ_k ≤ 1/(αK), u the moving average of R.

    The paper descends on CVaR's dual variable by stochastic steps; with K units the maximiser is known in closed form.
    """

    options: CVaROptions

    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Return 1/K each."""
        return WeightState(initial_weights(counts, "uniform"))

    def update(
        self, state: WeightState[Unit], risks: Mapping[Unit, float], counts: Mapping[Unit, int], steps: float
    ) -> WeightState[Unit]:
        """Return the maximiser for the averaged risks; a unit that never reported keeps its weight."""
        return worst_of_known(state, average(state.memory, risks, self.options.beta), self.options.alpha)
