"""`FedRemind`: federated GroupDRO over modality combinations that span sites (algorithm §3; design, "A round").

It drives a Flower `Grid` itself rather than through `flwr.serverapp.strategy.Strategy`, whose loop knows one model for
all nodes and two exchanges a round; here every site gets its own blocks, and a round is one exchange.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from flwr.serverapp import Grid
from torch import Tensor

from remind.config import Config
from remind.errors import UserError
from remind.federation.bounds import largest
from remind.federation.site_weights import Losses, Spanning
from remind.methods import methods_of
from remind.metrics.statistics import merge
from remind.objectives.lambda_step import risks
from remind.secagg.limits import TOGETHER
from remind.secure_settings import require_summable
from remind_server.outputs.records import Observer, RoundRecord, RoundStart, RunResult, RunStart
from remind_server.rounds.checkpoints import Checkpoint, Checkpoints
from remind_server.rounds.collect import (
    LEFT,
    RoundReplies,
    TooFewError,
    report_bounds,
)
from remind_server.rounds.course import Course
from remind_server.rounds.examiner import Examiner
from remind_server.rounds.heard import Heard
from remind_server.rounds.member import Member
from remind_server.rounds.parties import Parties
from remind_server.rounds.secure import SecureAggregation
from remind_server.rounds.state import State
from remind_server.rounds.tasks import Assignment, train_tasks

log = logging.getLogger("flwr")


class FedRemind:
    """The strategy. `run` takes any Flower Grid: a deployment's, the Ray simulation's, or the in-process one.

    Parameters
    ----------
    start
        Tensors of an initial global model, such as the last model of another run; groups that are not in it start
        with new blocks. None: start with the model that ``start.model`` names, or with a new one.
    enrolled
        Names of the hospitals that should take part.
    checkpoints
        Where the state after every round is stored; None: no checkpoints.
    """

    def __init__(
        self,
        config: Config,
        observers: Sequence[Observer] = (),
        start: Mapping[str, Tensor] | None = None,
        enrolled: Iterable[str] = (),
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.config, self.observers = config.begun, observers
        self.checkpoints, self._resumes = checkpoints, config.run.resume
        self.parties = Parties(self.config, enrolled)
        self.methods, self.roster = self.parties.methods, self.parties.roster
        self.course = Course(self.parties, start)
        self.secure: SecureAggregation | None = None
        if self.config.federation.secure_aggregation:
            require_summable(self.config)
            self.secure = SecureAggregation(self.parties, checkpoints.folder if checkpoints else None)
        self._left_out: Counter[str] = Counter()  # number of received answers that did not count, by site
        self._begun: RunStart | None = None
        self._nodes = 0
        self._began = time.monotonic()

    def run(self, grid: Grid) -> RunResult:
        """Enrol the sites, or resume from the last checkpoint; train all rounds; examine the final model.

        Raises
        ------
        UserError
            Too few sites take part or answer, or `start` does not fit the model.
        """
        with self.checkpoints.held() if self.checkpoints else nullcontext():
            return self._run(grid)

    def _run(self, grid: Grid) -> RunResult:
        self._began = time.monotonic()
        checkpoint = self._last_checkpoint() if self._resumes else None
        try:
            state = self._start(grid) if checkpoint is None else self._go_on(grid, checkpoint)
            while not self.course.is_over(state):
                state = self._patient_round(grid, state)
                self._keep(state)
            last = self.course.ended(state)
            result = Examiner(self.course, self.secure).result(grid, last, self._began, self._left_out)
        except BaseException as error:  # observers are told of an interruption too
            for observer in self.observers:
                observer.failed(_reason(error))
            raise
        for observer in self.observers:
            observer.finished(result)
        return result

    def _start(self, grid: Grid) -> State[Any]:
        for observer in self.observers:
            observer.begun(self.config)
        self.parties.read_given()
        self.roster.wait(grid)
        self.roster.enrol_newcomers(grid)
        self.roster.require_members()
        if self.secure is not None:
            self.secure.begin(grid)
        if self.methods.rule.pooled and len(self.roster.members) > 1:
            raise UserError(
                f"method.rule: pooled needs all patients at one site, and there are {len(self.roster.members)}; "
                "start the simulation with `remind simulate` or `flwr run --num-clients`, which bring them together"
            )
        self._refuse_what_needs_two_classes()
        counts = self.roster.counts()
        sites = {m.name: m.counts for m in sorted(self.roster.members.values(), key=lambda m: m.name)}
        named = {m.name: m.named for m in self.roster.members.values() if m.named is not None}
        refused, expected = dict(self.roster.refused), self.roster.expected
        start = RunStart(self.config, self.parties.schema, sites, counts, refused, expected, named)
        self._begun, self._nodes = start, self.roster.connected
        for observer in self.observers:
            observer.started(start)
        state = self.course.fresh(0)
        self._keep(state)
        return state

    def _last_checkpoint(self) -> Checkpoint:
        """Return the checkpoint from which to resume.

        Raises
        ------
        UserError
            There is no checkpoint, or it belongs to another run.
        """
        if self.checkpoints is None:
            raise UserError("run.resume: this run stores no checkpoints")
        found = self.checkpoints.newest(lambda config: methods_of(config).weighing, log.warning)
        self.parties.read_given()
        found.require_same(self.config, self.parties.given_digest)
        return found

    def _go_on(self, grid: Grid, found: Checkpoint) -> State[Any]:
        """Resume a run from a checkpoint. The sites enrol again, because their nodes may have changed."""
        self._begun, self._nodes, self._left_out = found.start, found.nodes, Counter(found.left_out)
        self._began -= found.seconds
        self.roster.restore(found.roster)
        if self.secure is not None:
            self.secure.go_on()
        for observer in self.observers:
            observer.resumed(found.start, found.state.round, found.memory.get(type(observer).__name__, {}))
        known = {member.name for member in self.roster.members.values()}
        self.roster.wait(grid)
        joined = {member.name for member in self._newcomers(grid)}
        return self.course.with_newcomers(found.state) if joined - known else found.state

    def _keep(self, state: State[Any]) -> None:
        """Write a checkpoint. If a run is resumed from it, the observers' output of later rounds is discarded."""
        if self.checkpoints is None:
            return
        assert self._begun is not None
        memory = {type(observer).__name__: observer.remember() for observer in self.observers}
        seconds, left_out = time.monotonic() - self._began, dict(self._left_out)
        roster = self.roster.remembered()
        given = self.parties.given_digest
        checkpoint = Checkpoint(state, self._begun, roster, self._nodes, left_out, memory, seconds, given)
        self.checkpoints.write(checkpoint, self.methods.weighing)

    def _refuse_what_needs_two_classes(self) -> None:
        asked, classes = self.config.evaluation, len(self.parties.schema.classes)
        if classes > 2 and asked.calibration == "vector":
            raise UserError(
                f"evaluation.calibration: vector needs two classes, the cohort has {classes}; use temperature"
            )
        if classes > 2 and asked.operating_point:
            raise UserError(f"evaluation.operating-point: needs two classes, the cohort has {classes}; leave it empty")

    def _newcomers(self, grid: Grid) -> list[Member]:
        """Enrol who is new and may join."""
        joined = self.roster.enrol_newcomers(grid)
        if self.secure is not None:
            self.secure.admit()
        return [member for member in joined if member.node_id in self.roster.members]

    def _patient_round(self, grid: Grid, state: State[Any]) -> State[Any]:
        """Run one round. If too few sites answered and others may come back, wait for them and repeat the round.

        A repeated round costs the sites that answered nothing: a hospital gives the same answer to the same question.
        """
        for attempt in range(1, self.config.federation.retries + 1):
            try:
                return self._round(grid, state)
            except TooFewError as error:
                log.warning("round %d is repeated (%d): %s", state.round + 1, attempt, error)
                self.roster.wait(grid)
        return self._round(grid, state)

    def _round(self, grid: Grid, state: State[Any]) -> State[Any]:
        """Run one exchange: send tasks, check and average reports as they arrive, then take the GroupDRO step."""
        began = time.monotonic()
        if state.round and self._newcomers(grid):
            state = self.course.with_newcomers(state)
        state = self.course.begin_phase(state)
        config, counts, online = self.config, self.roster.counts(), self.roster.training(grid)
        parties, phase = self.parties, self.methods.objective.phase(state.round)
        everyone = not phase.train or (phase.restart and state.round == phase.start)  # a task that every site must get
        members = online if everyone else self.roster.drawn(online, state.round)
        stage = self.course.stage(state.round)[0]
        self._announce(state.round + 1, stage, members)
        told = members if self.secure is None else self.secure.members
        everybody = self.roster.members.values()
        tasks = train_tasks(config, parties.schema, state, everybody, told, parties.known, parties.routed)
        if self.secure is None:
            heard = self._collected(grid, state, tasks, members, online)
        else:
            heard = self._summed(self.secure, grid, state, tasks, members, online)
        weighing, sites, adjustment = self.methods.weighing, parties.sites, config.dro.adjustment
        weights = weighing.update(state.weights, sites, heard.measured, adjustment, config.train.local_steps)
        best = self.course.best(state, heard.validation)
        after = replace(self.course.stepped(state, heard.average, weights), best=best)
        record = RoundRecord(
            round=after.round,
            rounds=config.train.rounds,
            stage=stage,
            seconds=time.monotonic() - began,
            counts=counts,
            weights_used=weighing.shown(state.weights, sites),
            weights_after=weighing.shown(weights, sites),
            risks=risks(heard.losses, counts, adjustment),
            validation=heard.validation,
            answered=heard.answered,
            absent=heard.absent,
            bytes_down=sum(tasks[m.node_id].nbytes for m in members),
            bytes_up=heard.bytes_up,
            validation_by_site=heard.validation_by_site,
            withheld=heard.withheld if config.data.validation > 0 else {},
            update_sizes=heard.update_sizes,
            update_ratios=heard.update_ratios,
            best_round=after.best.verdict.round if after.best else None,
            late=heard.late,
            how=heard.how,
            frozen=tuple(sorted(counts.keys() - heard.trained)),
            expected=self.roster.expected,
            refused=dict(self.roster.refused),
            given=parties.given_counts,
            privacy=heard.privacy,
        )
        for observer in self.observers:
            observer.round_done(record, after.model.tensors)
        return after

    def _collected(
        self,
        grid: Grid,
        state: State[Any],
        tasks: Mapping[int, Assignment],
        members: Sequence[Member],
        online: Sequence[Member],
    ) -> Heard:
        """Ask the members, and check and average their reports as they come."""
        parties, config = self.parties, self.config
        limits = parties.limits(self.course.stage(state.round)[0] == 2 or parties.routed)
        replies = RoundReplies(limits, parties.offline(online), self.methods.rule.combiner(), left=self.roster.left)
        records = ((m, tasks[m.node_id].record()) for m in members)
        bounds = largest(report_bounds(task, limits) for task in tasks.values())
        for member, answer in parties.ask(grid, records, "train", state.round, bounds):
            self.roster.note(member, answer)
            self._tell_of(replies.take(member.name, tasks[member.node_id], answer), replies.absent)
        self._tell_of(replies.settle(), replies.absent)
        self._left_out.update(replies.left_out)
        for name in [name for name, kind in replies.how.items() if kind == LEFT and name not in self.roster.left]:
            self.roster.leave(name, state.round, replies.absent[name])
        self.roster.privacy |= replies.privacy
        replies.require(self.roster.needed, self.roster.asks)
        measured: Losses = replies.train if config.dro.risk == "train" else replies.validation
        return Heard(
            average=replies.average,
            measured=measured,
            losses=merge(measured.values()),
            validation=merge(replies.validation.values()),
            answered=tuple(replies.answered),
            absent=replies.absent,
            how=dict(replies.how),
            late=replies.late,
            bytes_up=replies.bytes_up,
            trained=parties.trained_by(replies.answered),
            validation_by_site=replies.validation,
            withheld=self.roster.withheld(replies.validation),
            update_sizes=replies.outliers.sizes,
            update_ratios=replies.outliers.largest_ratios,
            privacy=dict(replies.privacy),
        )

    def _summed(
        self,
        secure: SecureAggregation,
        grid: Grid,
        state: State[Any],
        tasks: Mapping[int, Assignment],
        members: Sequence[Member],
        online: Sequence[Member],
    ) -> Heard:
        """Ask the members for masked answers, then for the shares by which the sums can be read."""
        model = state.model.tensors
        tasks = secure.assignments(tasks, state.round)
        replies = secure.replies(tasks, model, state.round, self.parties.offline(online))
        records = ((m, tasks[m.node_id].record()) for m in members)
        for member, answer in self.parties.ask(grid, records, "train", state.round, replies.bounds()):
            self.roster.note(member, answer)
            replies.take(member.name, answer)
            self._tell_of([member.name], replies.absent)
        self._left_out.update(replies.left_out)
        replies.require(self.roster.needed, self.roster.asks)
        found = secure.opened(grid, replies, tasks, model)
        spans = isinstance(self.methods.weighing, Spanning)
        return Heard(
            average=found.average,
            measured={TOGETHER: found.losses} if spans else {},
            losses=found.losses,
            validation={},
            answered=tuple(replies.answered),
            absent=replies.absent,
            how=dict(replies.how),
            late=replies.late,
            bytes_up=replies.bytes_up,
            trained=frozenset(found.losses),  # of the others, own parts and λ stayed as they were
            withheld={m.name: frozenset(m.counts) for m in secure.members},
        )

    def _tell_of(self, settled: Iterable[str], absent: Mapping[str, str]) -> None:
        """Tell the observers which replies are now known to count or to be left out."""
        for name in settled:
            for observer in self.observers:
                observer.answer_taken(name, absent.get(name))

    def _announce(self, round_: int, stage: int, members: Sequence[Member]) -> None:
        """Tell the observers that a round begins, with the members that get a task."""
        start = RoundStart(
            round=round_,
            rounds=self.config.train.rounds,
            stage=stage,
            deadline=self.config.federation.deadline,
            sites={m.name: m.counts for m in self.roster.members.values()},
            asked=tuple(m.name for m in members),
            refused=dict(self.roster.refused),
        )
        for observer in self.observers:
            observer.round_started(start)


def _reason(error: BaseException) -> str:
    """Why a run ended early, as text."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"{type(error).__name__}: {error}"
