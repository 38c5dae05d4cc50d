"""One round of a run: tasks out, replies in, the rule's step, the weights' step, the record (design, "A round")."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace

from flwr.serverapp import Grid

from remind.federation.blocks import SHARED
from remind.federation.participation import Draw
from remind.objectives.lambda_step import risks
from remind_server.outputs.records import Observer, RoundRecord, RoundStart
from remind_server.rounds.collect import TooFewError
from remind_server.rounds.course import Course
from remind_server.rounds.member import Member
from remind_server.rounds.round_exchange import RoundExchange
from remind_server.rounds.sample import Sample
from remind_server.rounds.secure.aggregation import SecureAggregation
from remind_server.rounds.state import SomeState
from remind_server.rounds.tasks import round_weights, train_tasks
from remind_server.rounds.waiting import wait_for_groups, wait_for_members

log = logging.getLogger("flwr")


class RoundRunner:
    """Runs single rounds.

    Parameters
    ----------
    secure
        Secure aggregation, if the run uses it; it excludes members without keys.

    Attributes
    ----------
    late
        Sites that were late and have not answered since, so that they may still work on an earlier round.
    """

    def __init__(
        self, course: Course, exchange: RoundExchange, secure: SecureAggregation | None, observers: Sequence[Observer]
    ) -> None:
        self.course, self.exchange, self.secure, self.observers = course, exchange, secure, observers
        self.config, self.methods, self.parties = course.config, course.methods, course.parties
        self.roster = self.parties.roster
        self.late: frozenset[str] = frozenset()

    def run(self, grid: Grid, state: SomeState) -> SomeState:
        """Run one round. If too few sites answered and others may come back, wait for them and repeat the round.

        A repeated round costs the sites that answered nothing: a hospital gives the same answer to the same question.
        """
        federation = self.config.federation
        for attempt in range(1, federation.retries + 1):
            try:
                return self._attempt(grid, state)
            except TooFewError as error:
                log.warning("round %d is repeated (%d): %s", state.round + 1, attempt, error)
                wait_for_members(grid, self.roster, federation.deadline)
                wait_for_groups(grid, self.roster, federation.min_group_share, federation.deadline)
        return self._attempt(grid, state)

    def enrol_newcomers(self, grid: Grid) -> list[Member]:
        """Ask new nodes to enrol; return the members that joined and may take part."""
        joined = self.parties.enroller.enrol_newcomers(grid)
        if self.secure is not None:
            self.secure.admit()
        return [member for member in joined if member.node_id in self.roster.members]

    def _attempt(self, grid: Grid, state: SomeState) -> SomeState:
        """Run one exchange, then take the steps of model and weights."""
        began = time.monotonic()
        if state.round and self.enrol_newcomers(grid):
            state = self.course.with_newcomers(state)
        state = self.course.begin_phase(state)
        config, parties = self.config, self.parties
        online = self.roster.training(grid)
        sample = self._sample(online, state)
        members = sample.members
        stage = self.course.stage(state.round)[0]
        self._announce(state.round + 1, stage, members)
        everybody = self.roster.members.values()
        receivers = self.exchange.receivers(members)
        tasks = train_tasks(config, parties.schema, state, everybody, receivers, parties.known, parties.routed)
        counts = self.roster.counts()
        outcome = self.exchange.run(grid, state, tasks, sample)
        self.late = (self.late | set(outcome.late)) - set(outcome.answered)
        weighing, sites, adjustment = self.methods.weighing, parties.sites, config.dro.adjustment
        draw = None if sample.draw.whole else sample.draw
        weights = weighing.update(state.weights, sites, outcome.measured, adjustment, config.train.local_steps, draw)
        progress = state.round / config.train.rounds
        weights = weighing.compare(weights, outcome.received, outcome.local, progress)
        best = self.course.best(state, outcome.validation)
        after = replace(self.course.stepped(state, outcome.average, weights, outcome.answered), best=best)
        record = RoundRecord(
            round=after.round,
            rounds=config.train.rounds,
            stage=stage,
            seconds=time.monotonic() - began,
            counts=counts,
            weights_used=weighing.shown(state.weights, sites),
            weights_after=weighing.shown(weights, sites),
            risks=risks(outcome.losses, counts, adjustment),
            validation=outcome.validation,
            answered=outcome.answered,
            absent=outcome.absent,
            bytes_down=sum(tasks[m.node_id].nbytes for m in members),
            bytes_up=outcome.bytes_up,
            validation_by_site=outcome.validation_by_site,
            withheld=outcome.withheld if config.data.validation > 0 else {},
            update_sizes=outcome.update_sizes,
            update_ratios=outcome.update_ratios,
            best_round=after.best.verdict.round if after.best else None,
            late=outcome.late,
            how=outcome.how,
            frozen=tuple(sorted(counts.keys() - outcome.trained)),
            expected=self.roster.expected,
            refused=dict(self.roster.refused),
            initial_counts=parties.initial_counts,
            privacy=outcome.privacy,
            effective_sites=sample.effective(outcome.answered, tasks),
            sampling_error=outcome.sampling_error,
            chances={} if draw is None else draw.chances,
            risk_errors={k: loss.error for k, loss in outcome.losses.items() if loss.variance},
        )
        for observer in self.observers:
            observer.round_done(record, after.model.tensors)
        return after

    def _sample(self, online: Sequence[Member], state: SomeState) -> Sample:
        """Return the members that take part: a sample, except in rounds whose task every site must get."""
        phase, names = self.methods.objective.phase(state.round), [member.name for member in online]
        everyone = not phase.train or (phase.restart and state.round == phase.start)
        if everyone or self.config.federation.participation == 1:
            return Sample.of(online, Draw.everybody(names))
        weights = round_weights(self.config, self.parties.schema, state, self.roster.members.values())
        shares = {name: own.get(SHARED, 0.0) for name, own in weights.items()}
        return Sample.of(online, self.roster.draw(names, state.round, shares), weights)

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
