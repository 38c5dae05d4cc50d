"""GroupDRO (Sagawa et al. 2020): the λ of REMIND, settings in [dro] of the config."""

from collections.abc import Mapping

from remind.objectives.base import Objective, registry
from remind.objectives.lambda_step import floored, initial_weights
from remind.objectives.weighting import Unit, WeightState


@registry.register(
    "groupdro",
    title="the worst groups gain weight by exponentiated gradient",
    paper="Sagawa et al., Distributionally robust neural networks for group shifts",
    year=2020,
)
class GroupDRO(Objective):
    """min_θ max_{λ∈Δ} Σ_k λ_k R_k(θ) with λ_k ← λ_k·exp(γ R_k) / Σ_j λ_j·exp(γ R_j) (Eq. 2–4; algorithm §2.7).

    Differs from the authors' code: the weights of groups absent from a round keep their odds, where the public code
    lets them lose mass; and γ of a round is γ × local steps, because the gradient adds up in the exponent.

    With ``dro.regret`` the step uses R_k − R*_k, the difference to the group's lowest risk in this run so far, so that
    a group that is hard for every model does not get all the weight (algorithm §4.8; cf. Agarwal and Zhang, Minimax
    regret optimization, 2022). With ``dro.floor`` no λ_k falls below that share of λ₀.

    The state is ln λ: a λ_k that is too small to change a sum of losses grows again when its risk is the higher one.
    No round changes ln(λ_j/λ_k) by more than ``dro.max_log_odds_step``, whatever risks are reported.
    """

    weighs = True
    private = True
    linear = True

    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Return λ₀ as ``dro.initial`` says."""
        return WeightState(initial_weights(counts, self.config.dro.initial, self.config.dro.prior))

    def update(
        self, state: WeightState[Unit], risks: Mapping[Unit, float], counts: Mapping[Unit, int], steps: float
    ) -> WeightState[Unit]:
        """Take one exponentiated-gradient step."""
        dro, lowest = self.config.dro, dict(state.memory)
        if dro.regret:
            lowest |= {k: min(risk, lowest.get(k, risk)) for k, risk in risks.items()}
            risks = {k: risk - lowest[k] for k, risk in risks.items()}
        gamma = dro.gamma * steps
        moved = state.tilt({k: gamma * risk for k, risk in risks.items()}, dro.max_log_odds_step, lowest)
        if not dro.floor:
            return moved
        initial = initial_weights(counts, dro.initial, dro.prior)
        return WeightState(floored(moved.weights, {k: dro.floor * initial[k] for k in risks}), lowest)
