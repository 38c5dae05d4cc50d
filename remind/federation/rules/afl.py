"""Agnostic federated learning."""

from collections.abc import Mapping

from pydantic import Field

from remind.config import NonNegative
from remind.federation.rules.base import registry
from remind.federation.rules.simplex import ascend
from remind.federation.rules.units import UnitOptions, UnitRule
from remind.objectives.lambda_step import initial_weights
from remind.objectives.weighting import Unit, WeightState


class AFLOptions(UnitOptions):
    """The step of the ascent."""

    step: NonNegative = Field(0.1, description="γ_λ, per round")


@registry.register(
    "afl",
    title="worst mixture of sites: weights by projected gradient ascent on the losses",
    paper="Mohri et al., Agnostic federated learning",
    year=2019,
    options=AFLOptions,
)
class AFL(UnitRule):
    """min_θ max_{λ∈Δ} Σ_s λ_s F_s(θ); λ ← Π_Δ(λ + γ_λ·F), from λ = n_s/n.

    The paper takes one step of each a round; here the descent is a round of local steps.
    """

    options: AFLOptions

    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Return n_s/n."""
        return WeightState(initial_weights(counts, "proportional"))

    def update(
        self, state: WeightState[Unit], risks: Mapping[Unit, float], counts: Mapping[Unit, int], steps: float
    ) -> WeightState[Unit]:
        """Take one projected step."""
        return WeightState(ascend(state.weights, risks, self.options.step))
