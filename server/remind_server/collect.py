"""What came back in a round: checked, averaged as it comes, and what did not count with the reason."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from remind.config import Config
from remind.errors import several
from remind.federation.aggregation import BlockAverage
from remind.federation.blocks import unpack
from remind.federation.bounds import Bounds, reply_bounds
from remind.federation.flower import Expected, read_as
from remind.federation.messages import MOST_EXPERTS, Examination, Report
from remind.metrics.statistics import GroupLoss, GroupStatistics
from remind.quoting import reason
from remind_server.checks import examination_problems, report_problems
from remind_server.exchange import Answer
from remind_server.tasks import Assignment


@dataclass
class RoundReplies:
    """Replies of one round. Only the running averages are kept of the tensors.

    Attributes
    ----------
    classes, experts
        C of the cohort, and E of the model (`checks.experts_of`; None: not looked at), that replies must agree with.
    absent
        Site → why it does not count; begins with who is not connected.
    """

    config: Config
    classes: int
    absent: dict[str, str]
    average: BlockAverage
    train: dict[str, Mapping[int, GroupLoss]] = field(default_factory=dict)
    validation: dict[str, Mapping[int, GroupStatistics]] = field(default_factory=dict)
    answered: list[str] = field(default_factory=list)
    bytes_up: int = 0
    experts: int | None = None

    def take(self, name: str, assignment: Assignment, answer: Answer) -> None:
        """Count a site's reply, or note why it does not."""
        try:
            report, buffer = _read(answer, Report, report_bounds(assignment, self.classes, self.experts))
            tensors = unpack(report.index, buffer)
            limit = self.config.federation.max_update
            if found := report_problems(assignment, report, tensors, self.classes, limit, self.experts):
                raise ValueError("; ".join(found))
        except ValueError as error:
            self.absent[name] = reason(error)
            return
        self.train[name] = {k: loss.value() for k, loss in report.train.items()}
        self.validation[name] = {k: evaluation.value() for k, evaluation in report.validation.items()}
        self.average.add(tensors, assignment.task.block_weights, assignment.sent, self.train[name])
        self.answered.append(name)
        self.bytes_up += buffer.nbytes

    def require(self, number: int) -> None:
        """Fail if fewer than `number` replies count."""
        if len(self.answered) < number:
            said = [f"{name}: {why}" for name, why in sorted(self.absent.items())]
            raise several(f"{len(self.answered)} valid replies, federation.min-sites asks for {number}", said)


def report_bounds(assignment: Assignment, classes: int, experts: int | None) -> Bounds:
    """What the answer to a task can hold; experts None: as many as any model has."""
    tensors = len(assignment.task.index)
    return reply_bounds(
        len(assignment.observed), classes, MOST_EXPERTS if experts is None else experts, tensors, assignment.nbytes
    )


def examination_bounds(observed: Collection[int], classes: int, experts: int | None) -> Bounds:
    """What an examination can hold."""
    return reply_bounds(len(observed), classes, MOST_EXPERTS if experts is None else experts)


def read_examination(
    answer: Answer, round_: int, observed: Collection[int], classes: int, experts: int | None = None
) -> Examination:
    """The examination in an answer.

    Raises
    ------
    ValueError
        If there is none, or it is not in order.
    """
    examination, _ = _read(answer, Examination, examination_bounds(observed, classes, experts))
    if found := examination_problems(round_, examination, observed, classes, experts):
        raise ValueError("; ".join(found))
    return examination


def _read(answer: Answer, kind: type[Expected], bounds: Bounds) -> tuple[Expected, NDArray[np.uint8]]:
    if answer.record is None:
        raise ValueError(answer.error)
    return read_as(answer.record, kind, bounds)
