"""Runs under secure aggregation whose coordinator dies and is started again."""

from remind_server.rounds.masked_exchange import MaskedExchange
from remind_server.rounds.strategy import FedRemind


class Killed(BaseException):
    """The end of a process."""


class DyingExchange(MaskedExchange):
    """An exchange that dies in the second round, after its sums were opened or before."""

    point = "opened"

    def run(self, grid, state, tasks, sample):
        if state.round == 1 and self.point == "before":
            raise Killed
        outcome = super().run(grid, state, tasks, sample)
        if state.round == 1:
            raise Killed
        return outcome


class Dying(FedRemind):
    """A coordinator with such an exchange."""

    def __init__(self, *given, point="opened", **named):
        super().__init__(*given, **named)
        assert self.secure is not None
        exchange = DyingExchange(self.course, self.observers, self.secure)
        exchange.point, self.rounds.exchange = point, exchange


def resumed(settings):
    return settings.model_copy(update={"run": settings.run.model_copy(update={"resume": True})})
