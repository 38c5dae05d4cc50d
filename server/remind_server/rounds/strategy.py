"""`FedRemind`: federated GroupDRO over modality combinations that span sites (algorithm §3; design, "A round").

It drives a Flower `Grid` itself rather than through `flwr.serverapp.strategy.Strategy`, whose loop knows one model for
all nodes and two exchanges a round; here every site gets its own blocks, and a round is one exchange.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

from flwr.app import RecordDict
from flwr.serverapp import Grid
from torch import Tensor

from remind.adaptation.moving import anchored
from remind.adaptation.start import Start, added, start_of
from remind.config import Config
from remind.data.cohort.schema import CohortSchema
from remind.errors import UserError
from remind.federation.aggregation import BlockAverage
from remind.federation.averaging import mean_of, with_mean
from remind.federation.bounds import Bounds, largest
from remind.federation.site_weights import Losses, Sites
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind.metrics.calibration import Calibration
from remind.metrics.calibration_fit import fit, fit_several
from remind.metrics.selection import is_better, judge
from remind.metrics.statistics import GroupStatistics, merge
from remind.metrics.tempering import pooled
from remind.objectives.lambda_step import risks
from remind.quoting import reason
from remind.training.schedule import learning_rate
from remind_server.outputs.records import Observer, RoundRecord, RoundStart, RunResult, RunStart
from remind_server.rounds.checkpoints import Checkpoint, Checkpoints
from remind_server.rounds.checks import Limits, experts_of
from remind_server.rounds.collect import (
    Measurement,
    RoundReplies,
    TooFewError,
    examination_bounds,
    read_examination,
    report_bounds,
)
from remind_server.rounds.exchange import Answer, exchange
from remind_server.rounds.flwr_pull import replies_within
from remind_server.rounds.member import Member
from remind_server.rounds.roster import Roster
from remind_server.rounds.state import Best, State
from remind_server.rounds.tasks import examine_task, sites_of, stage_of, train_tasks

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
        Where the state after every round is kept; None: nowhere.
    """

    def __init__(
        self,
        config: Config,
        observers: Sequence[Observer] = (),
        start: Mapping[str, Tensor] | None = None,
        enrolled: Iterable[str] = (),
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.config, self.observers, self.start = config.begun, observers, start
        self.checkpoints, self._resumes = checkpoints, config.run.resume
        self.given: Start | None = None  # the model that `start.model` names
        self.methods = methods_of(config)
        self.roster = Roster(config, enrolled)
        self._left_out: Counter[str] = Counter()  # answers that came and did not count, by site
        self._begun: RunStart | None = None
        self._nodes = 0
        self._began = time.monotonic()

    def run(self, grid: Grid) -> RunResult:
        """Enrol, or go on from the last checkpoint if the config says so; train all rounds, examine the final model.

        Raises
        ------
        UserError
            If too few sites take part or answer, or `start` is of another model.
        """
        with self.checkpoints.held() if self.checkpoints else nullcontext():
            return self._run(grid)

    def _run(self, grid: Grid) -> RunResult:
        self._began = time.monotonic()
        checkpoint = self._last_checkpoint() if self._resumes else None
        try:
            state = self._start(grid) if checkpoint is None else self._go_on(grid, checkpoint)
            while state.round < self.config.train.rounds and not self._is_patience_over(state):
                state = self._patient_round(grid, state)
                self._keep(state)
            state = replace(state, model=GlobalModel(mean_of(state.memory, state.model.tensors)))
            result = self._examine(grid, state)
        except BaseException as error:  # an interruption too is an end that people watch for
            for observer in self.observers:
                observer.failed(_reason(error))
            raise
        for observer in self.observers:
            observer.finished(result)
        return result

    def _start(self, grid: Grid) -> State[Any]:
        for observer in self.observers:
            observer.begun(self.config)
        self.given = start_of(self.config)
        self.roster.wait(grid)
        self.roster.enrol_newcomers(grid)
        self.roster.require_members()
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
        start = RunStart(self.config, self._schema, sites, counts, refused, expected, named)
        self._begun, self._nodes = start, self.roster.connected
        for observer in self.observers:
            observer.started(start)
        state = self._fresh_state(0)
        self._keep(state)
        return state

    def _last_checkpoint(self) -> Checkpoint:
        """The checkpoint to go on from.

        Raises
        ------
        UserError
            There is none, or it is one of another run.
        """
        if self.checkpoints is None:
            raise UserError("run.resume: this run keeps no checkpoints")
        found = self.checkpoints.newest(lambda config: methods_of(config).weighing, log.warning)
        found.require_same(self.config)
        return found

    def _go_on(self, grid: Grid, found: Checkpoint) -> State[Any]:
        """Take up a run where its last checkpoint left it: the sites enrol anew, since their nodes may be others."""
        self._begun, self._nodes, self._left_out = found.start, found.nodes, Counter(found.left_out)
        self._began -= found.seconds
        self.given = start_of(self.config)
        self.roster.restore(found.roster)
        for observer in self.observers:
            observer.resumed(found.start, found.state.round, found.memory.get(type(observer).__name__, {}))
        known = {member.name for member in self.roster.members.values()}
        self.roster.wait(grid)
        joined = {member.name for member in self.roster.enrol_newcomers(grid)}
        return self._with_newcomers(found.state) if joined - known else found.state

    def _keep(self, state: State[Any]) -> None:
        """Write a checkpoint. What the observers wrote of later rounds does not count once a run goes on from it."""
        if self.checkpoints is None:
            return
        assert self._begun is not None
        memory = {type(observer).__name__: observer.remember() for observer in self.observers}
        seconds, left_out = time.monotonic() - self._began, dict(self._left_out)
        roster = self.roster.remembered()
        checkpoint = Checkpoint(state, self._begun, roster, self._nodes, left_out, memory, seconds)
        self.checkpoints.write(checkpoint, self.methods.weighing)

    def _refuse_what_needs_two_classes(self) -> None:
        asked, classes = self.config.evaluation, len(self._schema.classes)
        if classes > 2 and asked.calibration == "vector":
            raise UserError(
                f"evaluation.calibration: vector needs two classes, the cohort has {classes}; use temperature"
            )
        if classes > 2 and asked.operating_point:
            raise UserError(f"evaluation.operating-point: needs two classes, the cohort has {classes}; leave it empty")

    def _fresh_state(self, round_: int) -> State[Any]:
        """The state before a training begins, in whatever round."""
        model = self._first_model(self.roster.counts())
        memory = self.methods.rule.server_init(model.tensors)
        return State(round_, model, self.methods.weighing.initial(self._sites), memory)

    def _first_model(self, groups: Iterable[int]) -> GlobalModel:
        """The initial model, with blocks for these groups and for those of the model to begin with."""
        if self.given is not None and self.start is None:
            return self.given.model(self.config, self._schema, groups)
        if self.start is None:
            return GlobalModel.build(self.config, self._schema, groups)
        return GlobalModel.begun_with(self.start, self.config, self._schema, groups)

    def _patient_round(self, grid: Grid, state: State[Any]) -> State[Any]:
        """One round; where too few answered and others may come back, wait for them and do it again.

        That costs those who did answer nothing: a hospital gives the same answer to the same question.
        """
        for attempt in range(1, self.config.federation.retries + 1):
            try:
                return self._round(grid, state)
            except TooFewError as error:
                log.warning("round %d is done again (%d): %s", state.round + 1, attempt, error)
                self.roster.wait(grid)
        return self._round(grid, state)

    def _round(self, grid: Grid, state: State[Any]) -> State[Any]:
        """One exchange: tasks out; reports in, checked and averaged as they come; then the GroupDRO step."""
        began = time.monotonic()
        if state.round:
            state = self._admit_newcomers(grid, state)
        state = self._begin_phase(state)
        config, counts, online = self.config, self.roster.counts(), self.roster.online(grid)
        phase = self.methods.objective.phase(state.round)
        everyone = not phase.train or (phase.restart and state.round == phase.start)  # what sites do there, all must do
        members = online if everyone else self.roster.drawn(online, state.round)
        stage = stage_of(config, state.round, self.methods.objective.phases(config.train.rounds))[0]
        self._announce(state.round + 1, stage, members)
        tasks = train_tasks(
            config, self._schema, state, self.roster.members.values(), members, self._known, self._routed
        )
        limits = self._limits(stage == 2 or self._routed)
        replies = RoundReplies(limits, self._offline(online), self.methods.rule.combiner())
        records = ((m, tasks[m.node_id].record()) for m in members)
        bounds = largest(report_bounds(task, limits) for task in tasks.values())
        for member, answer in self._exchange(grid, records, "train", state.round, bounds):
            self.roster.note(member, answer)
            self._tell_of(replies.take(member.name, tasks[member.node_id], answer), replies)
        self._tell_of(replies.settle(), replies)
        self._left_out.update(replies.left_out)
        replies.require(self.roster.needed, self.roster.asks)
        validation = merge(replies.validation.values())
        measured: Losses = replies.train if config.dro.risk == "train" else replies.validation
        weighing, sites, adjustment = self.methods.weighing, self._sites, config.dro.adjustment
        weights = weighing.update(state.weights, sites, measured, adjustment, config.train.local_steps)
        after = replace(self._stepped(state, replies.average, weights), best=self._best(state, validation))
        record = RoundRecord(
            round=after.round,
            rounds=config.train.rounds,
            stage=stage,
            seconds=time.monotonic() - began,
            counts=counts,
            weights_used=weighing.shown(state.weights, sites),
            weights_after=weighing.shown(weights, sites),
            risks=risks(merge(measured.values()), counts, adjustment),
            validation=validation,
            answered=tuple(replies.answered),
            absent=replies.absent,
            bytes_down=sum(task.nbytes for task in tasks.values()),
            bytes_up=replies.bytes_up,
            validation_by_site=replies.validation,
            withheld=self.roster.withheld(replies.validation) if config.data.validation > 0 else {},
            update_sizes=replies.outliers.sizes,
            update_ratios=replies.outliers.largest_ratios,
            best_round=after.best.verdict.round if after.best else None,
            late=replies.late,
            how=dict(replies.how),
            frozen=tuple(sorted(counts.keys() - self._trained_by(replies.answered))),
            expected=self.roster.expected,
            refused=dict(self.roster.refused),
            given=self._given_counts,
        )
        for observer in self.observers:
            observer.round_done(record, after.model.tensors)
        return after

    def _stepped(self, state: State[Any], replies: BlockAverage, weights: Any) -> State[Any]:
        """The state after the rule's step on what the phase trains; where sites took no steps, there is none."""
        phase, model = self.methods.objective.phase(state.round), state.model.tensors
        average = replies.average(model)
        training = {n: t for n, t in average.items() if phase.train and (phase.only is None or phase.only(n))}
        moved, memory = self.methods.rule.server_step(model, training, state.memory)
        after = {**model, **average, **moved}
        if self.given is not None:
            stage = stage_of(self.config, state.round, self.methods.objective.phases(self.config.train.rounds))
            lr = learning_rate(self.config.train, *stage)
            after = anchored(self.config, self.given.tensors, after, training, lr)
        if decay := self.config.federation.averaging:
            memory = with_mean(memory, after, training, decay)
        return State(state.round + 1, GlobalModel(after), weights, memory)

    def _limits(self, routing: bool) -> Limits:
        """The limits for replies, in a round with or without routing."""
        return Limits(self.config, len(self._schema.classes), experts_of(self.config, self._schema.names, routing))

    def _tell_of(self, settled: Iterable[str], replies: RoundReplies) -> None:
        """Tell the observers which replies are now known to count or to be left out."""
        for name in settled:
            for observer in self.observers:
                observer.answer_taken(name, replies.absent.get(name))

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

    def _admit_newcomers(self, grid: Grid, state: State[Any]) -> State[Any]:
        """Add sites that connected after the start; their new groups get blocks and a λ."""
        return self._with_newcomers(state) if self.roster.enrol_newcomers(grid) else state

    def _with_newcomers(self, state: State[Any]) -> State[Any]:
        model = state.model.with_groups(self.config, self._schema, self.roster.counts())
        return replace(state, model=model, weights=self.methods.weighing.admit(state.weights, self._sites))

    def _begin_phase(self, state: State[Any]) -> State[Any]:
        """All as at the start, where the objective starts over with this round; the rule's memory with each stage."""
        phases = self.methods.objective.phases(self.config.train.rounds)
        phase = self.methods.objective.phase(state.round)
        begins = state.round == phase.start
        if begins and phase.restart:
            return self._fresh_state(state.round)
        stages = [stage_of(self.config, round_, phases)[0] for round_ in (max(state.round - 1, 0), state.round)]
        if begins or stages[0] != stages[1]:
            return replace(state, memory=self.methods.rule.server_init(state.model.tensors))
        return state

    def _best(self, state: State[Any], validation: Mapping[int, GroupStatistics]) -> Best | None:
        """The best model so far, where the run chooses one: that of `state`, which these statistics are of, or before.

        A model from before a restart of the objective is never chosen, nor one that has not trained. With
        ``federation.averaging`` the rounds' own models are judged, and in the end the mean in place of the last one.
        """
        train = self.config.train
        if train.select == "last" or state.round < self.methods.objective.first_judged:
            return state.best
        verdict = judge(train.select, train.select_score, state.round, validation, self.roster.counts())
        known = state.best.verdict if state.best else None
        if verdict is None or not is_better(verdict, known, train.select_score):
            return state.best
        return Best(verdict, state.model, self.methods.weighing.shown(state.weights, self._sites))

    def _is_patience_over(self, state: State[Any]) -> bool:
        """Whether as many rounds of the last stage as `train.patience` brought no better model.

        Stage 1 is never cut short: stage 2 goes on from it with a new optimiser.
        """
        patience, phases = self.config.train.patience, self.methods.objective.phases(self.config.train.rounds)
        if not patience or state.best is None:
            return False
        stage = [stage_of(self.config, round_, phases)[0] for round_ in range(self.config.train.rounds)]
        begins = next((r for r in reversed(range(1, len(stage))) if stage[r - 1] != stage[r]), 0)
        return state.round - 1 - max(state.best.verdict.round, begins, phases[-1].start) >= patience

    def _chosen(self, grid: Grid, last: State[Any]) -> State[Any]:
        """The state whose model is the run's: the last, or the best round's once the last is judged too."""
        if self.config.train.select == "last":
            return last
        best = self._best(last, merge(self._measured(grid, last, on_test=False).validation.values()))
        if best is None or best.verdict.round == last.round:
            return replace(last, best=best)
        return replace(last, round=best.verdict.round, model=best.model, best=best)

    def _routing(self, round_: int) -> bool:
        """Whether the model after so many rounds is used with Φ_k: as the round that follows would measure it."""
        if self._routed:
            return True
        if round_ >= self.config.train.rounds:
            return self.config.train.routing_rounds > 0
        return stage_of(self.config, round_, self.methods.objective.phases(self.config.train.rounds))[0] == 2

    def _examine(self, grid: Grid, last: State[Any]) -> RunResult:
        """Evaluate the run's model on test patients and on validation patients."""
        state = self._chosen(grid, last)
        calibration = self._tempered(grid, state)
        found = self._measured(grid, state, temperature=calibration.scaling.temperature if calibration else 1.0)
        best = state.best
        chosen = best is not None and best.verdict.round == state.round
        return RunResult(
            config=self.config,
            schema=self._schema,
            counts=self.roster.counts(),
            weights=best.weights if best and chosen else self.methods.weighing.shown(state.weights, self._sites),
            tensors=state.model.tensors,
            test=found.test,
            validation=found.validation,
            absent=found.absent,
            left_out=dict(self._left_out),
            withheld=self.roster.withheld(found.test),
            seconds=time.monotonic() - self._began,
            round=state.round,
            last=last.round,
            last_tensors=last.model.tensors,
            routing=self._routing(state.round),
            selected=self._selected(best) if best and chosen else None,
            calibration=calibration or self._calibration(state.round, found.validation),
            calibrated=found.calibrated,
        )

    def _tempered(self, grid: Grid, state: State[Any]) -> Calibration | None:
        """The temperature of a model of three classes or more, by an exchange on validation patients; else None."""
        several = len(self._schema.classes) > 2 and self.config.evaluation.calibration != "none"
        if not several or not self.methods.objective.holds_out:
            return None
        found = self._measured(grid, state, on_test=False, temper=True)
        sums = pooled(found.tempered.values())
        return fit_several(merge(found.validation.values()), sums, self._schema.classes, state.round)

    def _selected(self, best: Best) -> dict[str, str | float]:
        train = self.config.train
        return {"by": train.select, "score": train.select_score, "value": best.verdict.value}

    def _measured(
        self, grid: Grid, state: State[Any], on_test: bool = True, temper: bool = False, temperature: float = 1.0
    ) -> Measurement:
        """One exchange on a model: see `examine_task` for what is asked for."""
        members, routing = self.roster.online(grid), self._routing(state.round)
        limits, found = self._limits(routing), Measurement(self._offline(members))
        ask = partial(examine_task, routing=routing, on_test=on_test, temper=temper, temperature=temperature)
        counts = added(self.roster.counts(), self._given_counts)
        records = ((m, ask(self.config, self._schema, state, m, counts)) for m in members)
        bounds = largest(examination_bounds(m, limits) for m in members)
        for member, answer in self._exchange(grid, records, "evaluate", state.round, bounds):
            try:
                found.add(member.name, read_examination(answer, state.round, member, limits))
            except ValueError as error:
                found.absent[member.name] = reason(error)
        return found

    def _calibration(self, round_: int, validation: Mapping[str, Mapping[int, GroupStatistics]]) -> Calibration | None:
        """Calibration and operating points, from the validation patients' statistics alone; None: not asked for."""
        asked, classes = self.config.evaluation, self._schema.classes
        if asked.calibration == "none" and not asked.operating_point:
            return None
        if not self.methods.objective.holds_out:
            reason = "the objective trains on validation patients, so that nothing can be fitted on them"
            none = Calibration.none(classes, round_)
            return none.model_copy(update={"wanted": asked.operating_point, "reason": reason})
        merged = merge(validation.values())
        return fit(merged, classes, asked.calibration, asked.operating_point, round_, asked.group_calibration)

    def _exchange(
        self, grid: Grid, records: Iterable[tuple[Member, RecordDict]], kind: str, round_: int, bounds: Bounds
    ) -> Iterator[tuple[Member, Answer]]:
        contents = ((member.node_id, record) for member, record in records)
        federation = self.config.federation
        with replies_within(bounds):
            for answer in exchange(
                grid, contents, kind, str(round_), federation.deadline, federation.quorum, self.roster.silent
            ):
                yield self.roster.members[answer.node_id], answer

    def _trained_by(self, answered: Iterable[str]) -> set[int]:
        """Groups that these members train on."""
        names = set(answered)
        return {k for member in self.roster.members.values() if member.name in names for k in member.counts}

    def _offline(self, online: Sequence[Member]) -> dict[str, str]:
        names = {member.name for member in online}
        gone = {m.name: "not connected" for m in self.roster.members.values() if m.name not in names}
        return gone | self.roster.missing()

    @property
    def _known(self) -> frozenset[int]:
        """Groups that the model to begin with knows."""
        return frozenset() if self.given is None else self.given.groups

    @property
    def _given_counts(self) -> Mapping[int, int]:
        """Patients per group that the model to begin with was trained on."""
        return {} if self.given is None else self.given.counts

    @property
    def _routed(self) -> bool:
        """Whether Φ_k is in use in stage 1 too."""
        return self.given is not None and self.given.routed(self.config)

    @property
    def _sites(self) -> Sites:
        return sites_of(self.roster.members.values())

    @property
    def _schema(self) -> CohortSchema:
        if self.roster.schema is None:
            raise RuntimeError("no site has enrolled yet")
        return self.roster.schema


def _reason(error: BaseException) -> str:
    """Why a run ended early, as text."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"{type(error).__name__}: {error}"
