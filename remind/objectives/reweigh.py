"""Inverse-frequency weights."""

from collections.abc import Mapping

from remind.objectives.base import Objective, registry
from remind.objectives.lambda_step import initial_weights
from remind.objectives.weighting import Unit, WeightState


@registry.register(
    "reweigh",
    title="patients drawn uniformly, each loss weighted by 1/n_k of its group",
    paper="Japkowicz and Stephen, The class imbalance problem",
    year=2002,
)
class Reweigh(Objective):
    """Loss of patient i weighted ∝ 1/n_k: the objective of `balanced`, by weights instead of draws."""

    weighs = True
    sampling = "weighted"

    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Return λ_k = 1/G, so that a patient weighs 1/(G·n_k)."""
        return WeightState(initial_weights(counts, "uniform"))

    def admit(self, state: WeightState[Unit], counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Compute the weights again: they depend only on the groups that exist."""
        return self.initial(counts)
