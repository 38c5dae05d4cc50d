"""Empirical risk minimisation: every patient has the same weight."""

from remind.objectives.base import Objective, registry


@registry.register(
    "erm", title="every patient has the same weight", paper="Vapnik, Principles of risk minimization", year=1991
)
class ERM(Objective):
    """min Σ_i ℓ_i / n: λ_k = n_k/n, whatever the risks."""

    private = True
