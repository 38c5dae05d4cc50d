"""No federation: the lower reference."""

from remind.federation.rules.base import Rule, registry


@registry.register("local", title="each site alone; nothing is averaged", paper="lower anchor", year=0)
class Local(Rule):
    """Every site trains its own model on its own patients; statistics are reported, tensors never."""

    private = True
    encoders = ("local", "frozen")
    groups_travel = False
    sends = False

    def travels(self, name: str) -> bool:
        """Send nothing."""
        return False
