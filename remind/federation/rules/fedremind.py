"""Federated REMIND: groups that span sites."""

from typing_extensions import override

from remind.federation.rules.base import Rule, registry
from remind.federation.site_weights import Spanning
from remind.objectives.base import Objective


@registry.register(
    "fedremind",
    title="the objective's group weights are global: one λ_k for all patients of group k at all sites",
    paper="Wu et al., REMIND, arXiv 2603.00046, in the federated form of this project",
    year=2026,
)
class FedRemindRule(Rule):
    """Every patient of group k weighs λ_k/n_k with the global n_k, so that Σ_s F_s = Σ_k λ_k R_k (algorithm §3).

    Per-domain loss sums and counts on the broadcast model, in one exchange, as AgnosticFedAvg (arXiv 2104.02748).
    """

    private = True

    @override
    def weighing(self, objective: Objective) -> Spanning:
        return Spanning(objective)
