"""FedDG-GA: sites weigh more where the common model does worse than their own (Zhang et al. 2023).

    G_s = F_s(θ) − F_s(θ_s),  θ_s the site's model before the average that gave θ
    a_s ← a_s + d_r·(G_s − mean G)/max |G − mean G|,  clipped to 0 … 1;  a ← a/Σ a
    d_r = (1 − r/R)·d,  r of R rounds

F_s is the mean loss of the site's training patients. θ_s was measured at the end of the round before and θ at the
beginning of this one, so that a round stays one exchange: a_s of round r act in round r + 1.

What we do differently: a begins at n_s/n, as all rules here do (1/N in the paper). A site that missed rounds compares
with its own model of the last round that counted. The mean and the largest gap are those
of the sites that can compare; the others keep their weight.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import fsum
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from remind.federation.rules.base import Rule, registry
from remind.federation.site_weights import Losses, Nested, SomeWeighing, Within, mean_loss
from remind.objectives.base import Objective
from remind.objectives.lambda_step import initial_weights
from remind.objectives.weighting import Unit, Weighting, WeightState
from remind.registry import Options

ROUNDING = 1e-12


class FedDGGAOptions(Options):
    """The step."""

    step: Annotated[float, Field(gt=0, lt=1)] = Field(0.2, description="d, of the first round; it falls linearly to 0")


@registry.register(
    "feddg_ga",
    title="sites weigh more where the common model does worse than their own: the generalisation gap",
    paper="Zhang et al., Federated domain generalization with generalization adjustment, CVPR 2023",
    year=2023,
    options=FedDGGAOptions,
)
class FedDGGA(Rule):
    """Sites weigh more where the common model does worse than their own (`Adjusted`)."""

    weighs = True
    measures_local = True
    options: FedDGGAOptions

    @override
    def weighing(self, objective: Objective) -> SomeWeighing:
        return Adjusted(BySize(), objective, self.options.step)


class BySize(Weighting):
    """n_s/n at first. A site that joins later gets an equal share, and the odds of the others do not change."""

    @override
    def initial(self, counts: Mapping[Unit, int]) -> WeightState[Unit]:
        return WeightState(initial_weights(counts, "proportional"))


@dataclass(frozen=True)
class Adjusted(Within):
    """Sites weighed by their gaps. The memory of the sites' state is F_s(θ_s), by site."""

    step: float = 0.2

    @override
    def compare(self, state: Nested, received: Losses, local: Losses, progress: float) -> Nested:
        own = {site: mean_loss(losses) for site, losses in sorted(local.items()) if losses}
        last, weights = state.sites.memory, dict(state.sites.weights)
        gaps = {s: mean_loss(losses) - last[s] for s, losses in sorted(received.items()) if losses and s in last}
        weights |= adjusted({site: weights[site] for site in gaps}, gaps, self.step * (1 - progress))
        return replace(state, sites=WeightState(weights, {**last, **own}))


def adjusted(weights: Mapping[str, float], gaps: Mapping[str, float], step: float) -> dict[str, float]:
    """Return the weights after a step along the gaps; their sum does not change."""
    if not gaps:
        return {}
    mean = fsum(gaps.values()) / len(gaps)
    largest = max(abs(gap - mean) for gap in gaps.values())
    if largest <= ROUNDING * max(abs(gap) for gap in gaps.values()):  # alike but for rounding
        return dict(weights)
    moved = {s: min(max(weights[s] + step * (gap - mean) / largest, 0.0), 1.0) for s, gap in gaps.items()}
    total, before = fsum(moved.values()), fsum(weights.values())
    return {s: before * w / total for s, w in moved.items()} if total > 0 else dict(weights)
