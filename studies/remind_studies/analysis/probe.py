"""An observer that evaluates the model every few rounds while this process trains it."""

from collections.abc import Callable, Mapping

from torch import Tensor

from remind.config import Config
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind_server.outputs.records import Observer, RoundRecord, RunStart
from remind_server.rounds.tasks import stage_of
from remind_studies.analysis.document import Look
from remind_studies.analysis.looks import Looking


class Probe(Observer):
    """Looks after 0, `every`, 2·`every` … rounds and after the last one; None: after the last one only."""

    def __init__(self, looking: Looking, every: int | None, say: Callable[[str], None]) -> None:
        self.looking, self.every, self.say = looking, every, say
        self.looks: list[Look] = []

    def started(self, start: RunStart) -> None:
        """Look at the model that all sites begin with."""
        if self.every is not None:
            fresh = GlobalModel.build(start.config, start.schema, start.counts)
            self._look(fresh.tensors, 0)

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Look at the model after the round, where it is one of those."""
        last = record.round == record.rounds
        if last or (self.every is not None and record.round % self.every == 0):
            self._look(tensors, record.round)
        if last or record.round % max(1, record.rounds // 10) == 0:
            self.say(f"  round {record.round} of {record.rounds}")

    def _look(self, tensors: Mapping[str, Tensor], rounds: int) -> None:
        routing = routes(self.looking.hospitals.config, rounds)
        self.looks.append(self.looking.at(tensors, rounds, routing))


def routes(config: Config, rounds: int) -> bool:
    """Whether Φ_k is in use after so many rounds: as in the round that follows, or as in the final examination."""
    if rounds >= config.train.rounds:
        return config.train.routing_rounds > 0
    return stage_of(config, rounds, methods_of(config).objective.phases(config.train.rounds))[0] == 2
