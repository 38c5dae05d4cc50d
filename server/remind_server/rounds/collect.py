"""Collect the replies of a round: validate them, average them as they arrive, and record why a reply was left out."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from remind.errors import UserError, several
from remind.federation.aggregation import BlockAverage, Reply
from remind.federation.blocks import Unpacked
from remind.federation.bounds import Bounds, reply_bounds
from remind.federation.flower import Expected, PeerRefusedError, read_as
from remind.federation.message_statistics import PrivacySpent
from remind.federation.message_types import MOST_EXPERTS
from remind.federation.messages import Examination, Report
from remind.methods import methods_of
from remind.metrics.statistics import GroupLoss, GroupStatistics
from remind.metrics.tempering import TemperedSums
from remind.quoting import reason
from remind_server.rounds.checks import Limits, examination_problems, report_problems, size_problem
from remind_server.rounds.exchange import Answer
from remind_server.rounds.member import Member
from remind_server.rounds.outliers import Outliers, update_size
from remind_server.rounds.shelf import kept
from remind_server.rounds.tasks import Assignment

LATE, GONE, FAILED, LEFT_OUT, LEFT = "late", "gone", "failed", "left out", "left"
# Kinds of absence from a round. FAILED: the site answered that it cannot; LEFT: nor will it later in this run.
HOW = (LATE, GONE, FAILED, LEFT_OUT, LEFT)


@dataclass(frozen=True)
class _Waiting:
    """A valid reply that waits for the comparison with the other replies."""

    name: str
    assignment: Assignment
    report: Report
    buffer: Callable[[], NDArray[np.uint8]]
    nbytes: int

    def tensors(self) -> Mapping[str, Tensor]:
        """Return what it answered."""
        return self.assignment.answered(self.report.index, Unpacked(self.report.index, self.buffer()))


class TooFewError(UserError):
    """Too few sites answered in a round, but others may come back."""


def kind_of_absence(answer: Answer, error: ValueError) -> str:
    """Return why an answer does not count, one of `HOW`."""
    if answer.late:
        return LATE
    if answer.gone:
        return GONE
    if isinstance(error, PeerRefusedError) and error.leaves:
        return LEFT
    return FAILED if answer.record is None or isinstance(error, PeerRefusedError) else LEFT_OUT


@dataclass
class RoundReplies:
    """Replies of one round. Memory holds only the running averages and one reply; large ones that wait are on disk.

    Attributes
    ----------
    limits
        The limits that every reply must satisfy.
    absent
        Site → why it does not count; initially the sites that are not connected.
    left_out
        Sites whose answer arrived and was left out: a subset of `absent`.
    how
        Site of `absent` → its kind, one of `HOW`.
    privacy
        Answering site → what it tells of its privacy budget, if it does.
    left
        Those of `absent` that left the run in an earlier round.
    chances
        Site → probability with which it was drawn for this round; 1 if not given.
    """

    limits: Limits
    absent: dict[str, str]
    average: BlockAverage
    left: Collection[str] = ()
    chances: Mapping[str, float] = field(default_factory=dict)
    train: dict[str, Mapping[int, GroupLoss]] = field(default_factory=dict)
    local: dict[str, Mapping[int, GroupLoss]] = field(default_factory=dict)
    validation: dict[str, Mapping[int, GroupStatistics]] = field(default_factory=dict)
    answered: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    bytes_up: int = 0
    how: dict[str, str] = field(default_factory=dict)
    privacy: dict[str, PrivacySpent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.how |= {name: LEFT if name in self.left else GONE for name in self.absent}
        federation = self.limits.config.federation
        self.outliers = Outliers(federation.max_update_ratio, federation.max_update)
        self._waiting: list[_Waiting] = []

    def take(self, name: str, assignment: Assignment, answer: Answer) -> list[str]:
        """Accept a site's reply; return the sites whose outcome is now decided, in order of arrival."""
        try:
            report, buffer = _read(answer, Report, report_bounds(assignment, self.limits))
            tensors: Mapping[str, Tensor] = Unpacked(report.index, buffer)
            if found := report_problems(assignment, report, tensors, self.limits):
                raise ValueError("; ".join(found))
            tensors = assignment.answered(report.index, tensors)
            merged = methods_of(self.limits.config).no_updates(tensors, assignment.expected)
            if wrong := [f"{name}: {problem}" for name, problem in merged.items() if problem]:
                raise ValueError("; ".join(wrong))
            size = update_size(assignment.expected, tensors, besides=merged)
            if problem := size_problem(size.relative, self.limits.config.federation.max_update):
                raise ValueError(problem)
        except ValueError as error:
            self._leave_out(name, error, kind_of_absence(answer, error), came=answer.record is not None)
            return [name]
        self.outliers.add(name, size)
        judged = self.outliers.judged
        self._waiting.append(_Waiting(name, assignment, report, kept(buffer, judged), buffer.nbytes))
        return self.settle() if judged else []

    def settle(self) -> list[str]:
        """Decide for all waiting replies whether they count; return their names."""
        settled, self._waiting = self._waiting, []
        for one in settled:
            if problem := self.outliers.problem(one.name):
                self._leave_out(one.name, problem, LEFT_OUT)
                continue
            self.train[one.name] = {k: loss.value() for k, loss in one.report.train.items()}
            self.local[one.name] = {k: loss.value() for k, loss in one.report.local.items()}
            self.validation[one.name] = {k: evaluation.value() for k, evaluation in one.report.validation.items()}
            weights, sent = one.assignment.task.block_weights, one.assignment.expected
            chance = self.chances.get(one.name, 1.0)
            self.average.take(Reply(one.tensors(), weights, sent, self.train[one.name], chance, one.name))
            self.answered.append(one.name)
            if one.report.privacy is not None:
                self.privacy[one.name] = one.report.privacy
            self.bytes_up += one.nbytes
        return [one.name for one in settled]

    @property
    def late(self) -> tuple[str, ...]:
        """Sites that were asked and had not answered when the round closed."""
        return tuple(name for name, kind in self.how.items() if kind == LATE)

    def _leave_out(self, name: str, why: object, kind: str, came: bool = True) -> None:
        self.absent[name], self.how[name] = reason(why), kind
        if came:
            self.left_out.append(name)

    def require(self, number: int, requirement: str) -> None:
        """Fail if fewer than `number` replies count; `requirement` names the setting that requires this number.

        Raises
        ------
        TooFewError
            They would suffice if those who are late or gone come back.
        UserError
            They would not.
        """
        require_enough(number, requirement, self.answered, self.absent, self.how)


def require_enough(
    number: int, requirement: str, answered: Sequence[str], absent: Mapping[str, str], how: Mapping[str, str]
) -> None:
    """Raise an error that names who is missing and why, if fewer than a number of sites answered.

    Raises
    ------
    TooFewError
        They would suffice if those who are late or gone come back.
    UserError
        They would not.
    """
    if len(answered) >= number:
        return
    said = [f"{name}: {why}" for name, why in sorted(absent.items())]
    error = several(f"{len(answered)} valid replies, {requirement}", said)
    if len(answered) + sum(kind in (LATE, GONE) for kind in how.values()) >= number:
        raise TooFewError(str(error))
    raise error


@dataclass
class Measurement:
    """What the sites of an examination measured, by site and group, and who is missing and why."""

    absent: dict[str, str]
    test: dict[str, Mapping[int, GroupStatistics]] = field(default_factory=dict)
    validation: dict[str, Mapping[int, GroupStatistics]] = field(default_factory=dict)
    calibrated: dict[str, Mapping[int, GroupStatistics]] = field(default_factory=dict)
    tempered: dict[str, Mapping[int, TemperedSums]] = field(default_factory=dict)

    def add(self, name: str, examination: Examination) -> None:
        """Add a site's examination, which was checked."""
        self.test[name] = {k: e.value() for k, e in examination.test.items()}
        self.validation[name] = {k: e.value() for k, e in examination.validation.items()}
        if examination.calibrated:
            self.calibrated[name] = {k: e.value() for k, e in examination.calibrated.items()}
        if examination.tempered:
            self.tempered[name] = {k: sums.value() for k, sums in examination.tempered.items()}


def report_bounds(assignment: Assignment, limits: Limits) -> Bounds:
    """Return the size limits of the answer to a task."""
    tensors = len(assignment.task.index)
    return reply_bounds(len(assignment.observed), limits.outcome, _experts(limits), tensors, assignment.nbytes)


def examination_bounds(member: Member, limits: Limits) -> Bounds:
    """Return the size limits of an examination."""
    return reply_bounds(len(member.observed), limits.outcome, _experts(limits))


def read_examination(answer: Answer, round_: int, member: Member, limits: Limits) -> Examination:
    """Read the examination in an answer.

    Raises
    ------
    ValueError
        If it is missing or not valid.
    """
    examination, _ = _read(answer, Examination, examination_bounds(member, limits))
    if found := examination_problems(round_, examination, member, limits):
        raise ValueError("; ".join(found))
    return examination


def _experts(limits: Limits) -> int:
    """Return the largest number of experts that a reply may report; the largest of any model if it is not checked."""
    return MOST_EXPERTS if limits.experts is None else limits.experts


def _read(answer: Answer, kind: type[Expected], bounds: Bounds) -> tuple[Expected, NDArray[np.uint8]]:
    if answer.record is None:
        raise ValueError(answer.error)
    return read_as(answer.record, kind, bounds)
