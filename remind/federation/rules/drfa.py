"""Distributionally robust federated averaging."""

from collections.abc import Mapping

import numpy as np
from typing_extensions import override

from remind.federation.rules.afl import AFL, AFLOptions
from remind.federation.rules.base import registry
from remind.metrics.statistics import GroupLoss
from remind.objectives.weighting import Unit, WeightState
from remind.training.work import LocalWork


@registry.register(
    "drfa",
    title="as afl, with the losses at a random moment of the round's local steps",
    paper="Deng et al., Distributionally robust federated averaging",
    year=2020,
    options=AFLOptions,
)
class DRFA(AFL):
    """λ ← Π_Δ(λ + τ·γ_λ·F(θ^{(t')})), t' uniform in 1 … τ, the round's local steps, the same t' at every site.

    The paper sends the average of the sites' snapshots out once more to be measured; that second exchange would double
    the cost of a round, so each site measures its own snapshot.
    """

    @override
    def work(self, work: LocalWork) -> Mapping[int, GroupLoss] | None:
        if not work.plan:
            return None
        moment = 1 + int(np.random.default_rng(work.settings.round_seed).integers(len(work.plan)))
        work.steps(0, moment)
        losses = work.measure()
        work.steps(moment, None)
        return losses

    def update(
        self, state: WeightState[Unit], risks: Mapping[Unit, float], counts: Mapping[Unit, int], steps: float
    ) -> WeightState[Unit]:
        """Make one projected step for all local steps."""
        return super().update(state, {unit: steps * risk for unit, risk in risks.items()}, counts, steps)
