"""Group-balanced sampling."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field
from typing_extensions import override

from remind.objectives.base import Objective, registry
from remind.objectives.lambda_step import initial_weights
from remind.objectives.weighting import Unit, WeightState
from remind.registry import Options


class BalancedOptions(Options):
    """How far towards equal groups."""

    towards: Literal["uniform", "sqrt"] = Field("uniform", description="shares 1/G, or in proportion to √n_k")


@registry.register(
    "balanced",
    title="draw a group first, uniformly (or by √n_k), then a patient of the group",
    paper="Kang et al., Decoupling representation and classifier for long-tailed recognition",
    year=2020,
    options=BalancedOptions,
)
class Balanced(Objective):
    """Pr(patient i) = λ_k / n_k with λ_k = 1/G, or λ_k ∝ √n_k; every drawn patient has the same weight."""

    weighs = True
    sampling = "group"
    options: BalancedOptions

    @override
    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        return WeightState(initial_weights(counts, self.options.towards))

    def admit(self, state: WeightState[Unit], counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Compute the weights again: the shares depend only on the groups that exist."""
        return self.initial(counts)
