"""The end of a run: choose the model, calibrate it on validation patients and evaluate it on test patients."""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import torch
from flwr.serverapp import Grid

from remind.adaptation.start import added
from remind.federation.bounds import largest
from remind.fusion.around import BLEND
from remind.metrics.calibration import Calibration
from remind.metrics.calibration_fit import fit, fit_several
from remind.metrics.scores import scores
from remind.metrics.statistics import GroupStatistics, merge, total
from remind.metrics.tempering import pooled
from remind.quoting import reason
from remind.secagg.limits import TOGETHER
from remind_server.outputs.records import RunResult
from remind_server.rounds.collect import Measurement, examination_bounds, read_examination
from remind_server.rounds.course import Course
from remind_server.rounds.secure.aggregation import SecureAggregation
from remind_server.rounds.state import Best, SomeState
from remind_server.rounds.tasks import examination_of, examine_task

BLENDS = (0.25, 0.5, 0.75, 1.0)  # shares of hospitals' own scores that are tried


class Examiner:
    """Computes the result of a run from its last state, with one to seven exchanges."""

    def __init__(self, course: Course, secure: SecureAggregation | None = None) -> None:
        self.course, self.parties, self.secure = course, course.parties, secure
        self.config, self.methods, self.roster = course.config, course.methods, course.parties.roster

    def result(self, grid: Grid, last: SomeState, began: float, left_out: Mapping[str, int]) -> RunResult:
        """Evaluate the run's model on test patients and on validation patients.

        Parameters
        ----------
        began
            Start of the run, by the monotonic clock.
        left_out
            Site → number of rounds in which its answer did not count.
        """
        state, blend = self._blended(grid, self._chosen(grid, last))
        calibration = self._tempered(grid, state)
        found = self._measured(grid, state, temperature=calibration.scaling.temperature if calibration else 1.0)
        best = state.best
        chosen = best is not None and best.verdict.round == state.round
        return RunResult(
            config=self.config,
            schema=self.parties.schema,
            counts=self.roster.counts(),
            weights=best.weights if best and chosen else self.methods.weighing.shown(state.weights, self.parties.sites),
            tensors=state.model.tensors,
            test=found.test,
            validation=found.validation,
            absent=found.absent,
            left_out=dict(left_out),
            seconds=time.monotonic() - began,
            withheld=self._withheld(found.test),
            round=state.round,
            last=last.round,
            last_tensors=last.model.tensors,
            routing=self.course.routing(state.round),
            selected=self._selected(best) if best and chosen else None,
            blend=blend,
            calibration=calibration or self._calibration(state.round, found.validation),
            calibrated=found.calibrated,
            privacy=dict(self.roster.privacy),
        )

    def _chosen(self, grid: Grid, last: SomeState) -> SomeState:
        """Return the state with the run's model: the last one, or the best one after the last was evaluated too."""
        if self.config.train.select == "last":
            return last
        best = self.course.best(last, merge(self._measured(grid, last, on_test=False).validation.values()))
        if best is None or best.verdict.round == last.round:
            return replace(last, best=best)
        return replace(last, round=best.verdict.round, model=best.model, best=best)

    def _blended(self, grid: Grid, state: SomeState) -> tuple[SomeState, float | None]:
        """Return the state with the best share of hospitals' own scores on validation patients, and that share.

        Each share of `BLENDS` is tried in one exchange, and the lowest log-loss over all validation patients decides.
        The share is None if the run does not ask for it, or if the rule sends no share.
        """
        if not self.config.evaluation.choose_blend or BLEND not in state.model.tensors:
            return state, None
        tried: list[tuple[float, float, SomeState]] = []
        for share in BLENDS:
            tensors = {**state.model.tensors, BLEND: torch.full_like(state.model.tensors[BLEND], share)}
            trial = replace(state, model=replace(state.model, tensors=tensors))
            found = total(merge(self._measured(grid, trial, on_test=False).validation.values()))
            loss = None if found is None else scores(found).log_loss
            if loss is not None:
                tried.append((loss, share, trial))
        if not tried:
            return state, None
        _, share, best = min(tried, key=lambda one: one[:2])
        return best, share

    def _tempered(self, grid: Grid, state: SomeState) -> Calibration | None:
        """Return the temperature, by an exchange on validation patients; None with two classes."""
        schema = self.parties.schema
        several = len(schema.classes) > 2 and schema.outcome is None and self.config.evaluation.calibration != "none"
        if not several or not self.methods.objective.holds_out:
            return None
        found = self._measured(grid, state, on_test=False, temper=True)
        sums = pooled(found.tempered.values())
        return fit_several(merge(found.validation.values()), sums, self.parties.schema.classes, state.round)

    def _withheld(self, test: Mapping[str, Mapping[int, GroupStatistics]]) -> dict[str, frozenset[int]]:
        """List groups about which nothing is known: below a hospital's minimum, or of fewer than three hospitals."""
        if self.secure is None:
            return self.roster.withheld(test)
        return {TOGETHER: frozenset(self.roster.counts().keys() - test.get(TOGETHER, {}).keys())}

    def _selected(self, best: Best) -> dict[str, str | float]:
        train = self.config.train
        return {"by": train.select, "score": train.select_score, "value": best.verdict.value}

    def _measured(
        self, grid: Grid, state: SomeState, on_test: bool = True, temper: bool = False, temperature: float = 1.0
    ) -> Measurement:
        """Evaluate a model in one exchange; `examine_task` describes the options."""
        if self.secure is not None:
            return self._summed(self.secure, grid, state, on_test, temper, temperature)
        members, routing = self.roster.online(grid), self.course.routing(state.round)
        limits, found = self.parties.limits(routing), Measurement(self.parties.offline(members))
        ask = partial(examine_task, routing=routing, on_test=on_test, temper=temper, temperature=temperature)
        counts = added(self.roster.counts(), self.parties.initial_counts)
        records = ((m, ask(self.config, self.parties.schema, state, m, counts)) for m in members)
        bounds = largest(examination_bounds(m, limits) for m in members)
        for member, answer in self.parties.ask(grid, records, "evaluate", state.round, bounds):
            try:
                found.add(member.name, read_examination(answer, state.round, member, limits))
            except ValueError as error:
                found.absent[member.name] = reason(error)
        return found

    def _summed(
        self, secure: SecureAggregation, grid: Grid, state: SomeState, on_test: bool, temper: bool, temperature: float
    ) -> Measurement:
        """Do the same under masks: all sites' statistics together."""
        routing, counts = self.course.routing(state.round), added(self.roster.counts(), self.parties.initial_counts)
        ask = partial(examination_of, routing=routing, on_test=on_test, temper=temper, temperature=temperature)
        asked = {m.name: ask(self.config, self.parties.schema, state, m, counts) for m in secure.members}
        experts = self.parties.limits(routing).experts or 0
        found = secure.measured(grid, asked, experts)
        found.absent.update(self.parties.offline(self.roster.online(grid)))
        return found

    def _calibration(self, round_: int, validation: Mapping[str, Mapping[int, GroupStatistics]]) -> Calibration | None:
        """Return the calibration and operating points, from the validation statistics; None if not requested."""
        asked, classes = self.config.evaluation, self.parties.schema.classes
        if self.parties.schema.outcome is not None or (asked.calibration == "none" and not asked.operating_point):
            return None
        if not self.methods.objective.holds_out:
            why = "the objective trains on validation patients, so a calibration cannot be fitted on them"
            none = Calibration.none(classes, round_)
            return none.model_copy(update={"wanted": asked.operating_point, "reason": why})
        merged = merge(validation.values())
        return fit(merged, classes, asked.calibration, asked.operating_point, round_, asked.group_calibration)
