"""An observer that evaluates the model every few rounds while this process trains it."""

from collections.abc import Callable, Mapping

from torch import Tensor

from remind.config import Config
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind_server.outputs.records import Observer, RoundRecord, RunStart
from remind_server.rounds.tasks import stage_of
from remind_studies.analysis.document import Look
from remind_studies.analysis.looks import Inspection


class Probe(Observer):
    """Evaluates the model after 0, `every`, 2·`every` … rounds and after the last one; None: only after the last."""

    def __init__(self, inspection: Inspection, every: int | None, say: Callable[[str], None]) -> None:
        self.inspection, self.every, self.say = inspection, every, say
        self.looks: list[Look] = []

    def started(self, start: RunStart) -> None:
        """Evaluate the initial model."""
        if self.every is not None:
            fresh = GlobalModel.build(start.config, start.schema, start.counts)
            self._look(fresh.tensors, 0)

    def round_done(self, record: RoundRecord, tensors: Mapping[str, Tensor]) -> None:
        """Evaluate the model after the round, if the round is one of these."""
        last = record.round == record.rounds
        if last or (self.every is not None and record.round % self.every == 0):
            self._look(tensors, record.round)
        if last or record.round % max(1, record.rounds // 10) == 0:
            self.say(f"  round {record.round} of {record.rounds}")

    def _look(self, tensors: Mapping[str, Tensor], rounds: int) -> None:
        routing = routes(self.inspection.hospitals.config, rounds)
        self.looks.append(self.inspection.at(tensors, rounds, routing))


def routes(config: Config, rounds: int) -> bool:
    """Return whether the model uses Φ_k after this many rounds, as in the next round or the final examination."""
    if rounds >= config.train.rounds:
        return config.train.routing_rounds > 0
    return stage_of(config, rounds, methods_of(config).objective.phases(config.train.rounds))[0] == 2
