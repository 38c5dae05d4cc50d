"""All patients at one site: the upper reference."""

from typing_extensions import override

from remind.federation.rules.base import Rule, registry
from remind.federation.site_weights import Spanning
from remind.objectives.base import Objective


@registry.register("pooled", title="all patients in one place; simulations only", paper="upper anchor", year=0)
class Pooled(Rule):
    """One site that holds every patient of the simulation's hospitals, with their splits."""

    encoders = ("local", "frozen")
    pooled = True

    @override
    def weighing(self, objective: Objective) -> Spanning:
        return Spanning(objective)
