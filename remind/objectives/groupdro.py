"""GroupDRO (Sagawa et al. 2020): the λ of REMIND, settings in [dro] of the config."""

from collections.abc import Mapping

from remind.objectives.base import Objective, registry
from remind.objectives.group_dro import initial_weights, update_weights
from remind.objectives.weighting import Unit, WeightState


@registry.register(
    "groupdro",
    title="the worst groups gain weight by exponentiated gradient",
    paper="Sagawa et al., Distributionally robust neural networks for group shifts",
    year=2020,
)
class GroupDRO(Objective):
    """min_θ max_{λ∈Δ} Σ_k λ_k R_k(θ) with λ_k ← λ_k·exp(γ R_k) / Σ_j λ_j·exp(γ R_j) (REMIND.md Eq. 2–4).

    Differs from the authors' code: the weights of groups absent from a round keep their odds, where the public code
    lets them lose mass; and γ of a round is γ × local steps, for the gradient adds up in the exponent.
    """

    weighs = True

    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """λ₀ as ``dro.initial`` says."""
        return WeightState(initial_weights(counts, self.config.dro.initial))

    def update(
        self, state: WeightState[Unit], risks: Mapping[Unit, float], counts: Mapping[Unit, int], steps: int
    ) -> WeightState[Unit]:
        """One exponentiated-gradient step."""
        return WeightState(update_weights(state.weights, risks, self.config.dro.gamma * steps))
