"""LG-FedAvg: local encoders, shared fusion."""

from remind.federation.rules.base import Rule, registry


@registry.register(
    "lg",
    title="encoders stay at the site; the fusion is averaged, weighted by patients",
    paper="Liang et al., Think locally, act globally: federated learning with local and global representations",
    year=2020,
)
class LG(Rule):
    """θ_shared ← Σ_s n_s/n·θ_s; each site weighs its own groups by the objective, knowing nothing of the others."""

    private = True
    encoders = ("local", "frozen")
