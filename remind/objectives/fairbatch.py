"""FairBatch: batch shares that move from the best group to the worst."""

from collections.abc import Mapping
from math import fsum

from pydantic import Field

from remind.config import Unit01
from remind.objectives.base import Objective, registry
from remind.objectives.lambda_step import initial_weights
from remind.objectives.weighting import Unit, WeightState
from remind.registry import Options


class FairBatchOptions(Options):
    """The size of a move."""

    alpha: Unit01 = Field(0.005, description="share of a batch that moves each round, from the best group to the worst")


@registry.register(
    "fairbatch",
    title="batch shares move by α from the group with the lowest risk to the one with the highest",
    paper="Roh et al., FairBatch: batch selection for model fairness",
    year=2021,
    options=FairBatchOptions,
)
class FairBatch(Objective):
    """s_k starts at n_k/n; each round s_argmax R += α, s_argmin R −= α, clipped to [0, 1], renormalised.

    The paper moves once an epoch and between two groups of a fairness notion; here a round is the epoch and the units
    are the modality combinations.
    """

    weighs = True
    sampling = "group"
    options: FairBatchOptions

    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        """Return n_k/n."""
        return WeightState(initial_weights(counts, "proportional"))

    def update(
        self, state: WeightState[Unit], risks: Mapping[Unit, float], counts: Mapping[Unit, int], steps: float
    ) -> WeightState[Unit]:
        """Make one move among the groups that reported; the others keep their share."""
        if len(risks) < 2:
            return state
        ranked = sorted(risks, key=lambda unit: (risks[unit], unit))
        moved = dict(state.weights)
        moved[ranked[-1]] = min(1.0, moved[ranked[-1]] + self.options.alpha)
        moved[ranked[0]] = max(0.0, moved[ranked[0]] - self.options.alpha)
        mass, total = (fsum(shares[unit] for unit in ranked) for shares in (state.weights, moved))
        return WeightState(moved | {unit: mass * moved[unit] / total for unit in ranked})
