"""One hospital adapts a trained model to its patients, and no data leaves the hospital.

This is a run with one hospital and without a coordinator that begins with the trained model. The same messages reach
the same code of the hospital, which therefore stores the same files as after any run. Tests in `tests/adaptation/`
compare the result with a federation of one hospital.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from remind.adaptation.moving import anchored
from remind.adaptation.start import Start, added
from remind.config import Config
from remind.data.cohort.cohort import Cohort
from remind.federation.block_weights import block_weights
from remind.federation.blocks import index_of, pack, unpack
from remind.federation.messages import Enrolment, Examination, Examine, Report, Task
from remind.global_model import GlobalModel
from remind.methods import methods_of
from remind.metrics.calibration import Calibration
from remind.metrics.calibration_fit import fit, fit_several
from remind.metrics.selection import Verdict, is_better, judge
from remind.metrics.statistics import GroupStatistics
from remind.outcomes.base import require
from remind.training.schedule import learning_rate

Tensors = Mapping[str, Tensor]


class Hospital(Protocol):
    """The hospital's side, which answers messages; `remind_client.rounds.site.Site` implements it."""

    config: Config
    cohort: Cohort

    def enrol(self) -> Enrolment:
        """Report the hospital's groups."""

    def train(self, task: Task, buffer: Any) -> tuple[Report, Any]:
        """Train for one round."""

    def examine(self, task: Examine, buffer: Any) -> Examination:
        """Evaluate a model; the hospital stores a model that is evaluated on test patients, for predictions."""


@dataclass(frozen=True)
class Trained:
    """The result of training.

    Attributes
    ----------
    model
        The adapted model without the encoders, which the hospital has.
    round, rounds
        The round of this model, and the number of rounds that were trained.
    calibration
        Fitted on the validation patients; None if the config asks for none.
    """

    model: GlobalModel
    round: int
    rounds: int
    calibration: Calibration | None


@dataclass(frozen=True)
class Adapted:
    """An adapted model and its evaluation on the hospital's patients.

    Attributes
    ----------
    own
        The hospital's training patients per group.
    counts
        n_k: the hospital's training patients plus those of the initial model.
    new
        Groups of the hospital that the initial model did not have.
    test, validation
        Statistics of the hospital's test and validation patients, per group.
    routing
        Whether the model uses Φ_k.
    """

    trained: Trained
    own: Mapping[int, int]
    counts: Mapping[int, int]
    new: tuple[int, ...]
    test: Mapping[int, GroupStatistics]
    validation: Mapping[int, GroupStatistics]
    routing: bool


@dataclass(frozen=True)
class _Best:
    verdict: Verdict
    model: GlobalModel


class Alone:
    """Runs the rounds of one hospital.

    Parameters
    ----------
    hospital
        The hospital, with a config from `settings.adapted_config`.
    start
        The initial model.
    say
        Called with a line of text after each round.
    """

    def __init__(self, hospital: Hospital, start: Start, say: Callable[[str], None] = lambda text: None) -> None:
        require(hospital.cohort.schema.predicts, "adapting a model to one hospital")
        self.hospital, self.start, self.config, self.say = hospital, start, hospital.config, say
        self.methods = methods_of(self.config)
        self.schema = hospital.cohort.schema
        self.who = hospital.enrol()
        self.sites = {self.who.site: self.who.counts}
        self.routed = start.routed(self.config)
        self.best: _Best | None = None

    def train(self, rounds: int | None = None) -> "Trained":
        """Train, choose the best round, and calibrate.

        Parameters
        ----------
        rounds
            Number of rounds, at most the config's. None: the config's. 0: the initial model with untrained encoders.
        """
        model = self.start.model(self.config, self.schema, self.who.counts)
        weights = self.methods.weighing.initial(self.sites)
        done, last = 0, self.config.train.rounds if rounds is None else rounds
        while done < last and not self._is_patience_over(done):
            model, weights = self._round(model, weights, done)
            done += 1
        chosen, round_ = self._chosen(model, done)
        return Trained(chosen, round_, done, self._calibration(chosen, round_))

    def keep(self, trained: "Trained") -> Adapted:
        """Evaluate the model on test patients; the hospital then stores it for predictions."""
        found = self._examined(trained.model, trained.round, on_test=True)
        known = self.start.groups or set(self.start.counts)
        return Adapted(
            trained,
            self.who.counts,
            self._counts(),
            tuple(sorted(self.who.counts.keys() - known)),
            {k: one.value() for k, one in found.test.items()},
            {k: one.value() for k, one in found.validation.items()},
            self._routing(trained.round),
        )

    def _round(self, model: GlobalModel, weights: Any, round_: int) -> tuple[GlobalModel, Any]:
        sent = self._sent(model, self.who.counts)
        task = self._task(sent, weights, round_)
        report, buffer = self.hospital.train(task, pack(sent, self.config.federation.dtype))
        validation = {k: one.value() for k, one in report.validation.items()}
        self._judge(validation, model, round_)
        back = unpack(report.index, buffer)
        lr = learning_rate(self.config.train, task.stage, task.stage_round, task.stage_rounds)
        after = anchored(self.config, self.start.tensors, {**model.tensors, **back}, back, lr)
        train = {k: one.value() for k, one in report.train.items()}
        measured = {self.who.site: train if self.config.dro.risk == "train" else validation}
        adjustment, steps = self.config.dro.adjustment, self.config.train.local_steps
        weights = self.methods.weighing.update(weights, self.sites, measured, adjustment, steps)
        loss = sum(one.loss_sum for one in train.values()) / max(sum(one.count for one in train.values()), 1)
        self.say(f"round {round_ + 1} of {self.config.train.rounds}: loss of the training patients {loss:.4f}")
        return GlobalModel(after), weights

    def _task(self, sent: Tensors, weights: Any, round_: int) -> Task:
        train, own = self.config.train, self.who.counts
        stage = 1 if round_ < train.warmup_rounds else 2
        given = self.methods.weighing.for_site(weights, self.sites, self.who.site)
        masses = given.masses(own)
        shared = {name: bit for bit, name in enumerate(self.schema.names) if any(k >> bit & 1 for k in own)}
        encoders = shared if self.config.federation.encoders == "shared" else {}
        best = {self.best.verdict.round} if self.best else set()
        return Task(
            round=round_,
            stage=1 if stage == 1 else 2,
            stage_round=round_ if stage == 1 else round_ - train.warmup_rounds,
            stage_rounds=train.warmup_rounds if stage == 1 else train.routing_rounds,
            seed=self.config.seed,
            weights=dict(given.weights),
            counts=dict(given.counts),
            block_weights=block_weights(masses, masses, own, own, encoders),
            labels=self.who.labels if self.methods.objective.needs_labels else {},
            candidates=() if train.select == "last" else tuple(sorted({round_} | best)),
            given=tuple(k for k in sorted(own) if k in self.start.groups),
            routed=self.routed,
            index=index_of(sent, self.config.federation.dtype),
        )

    def _sent(self, model: GlobalModel, observed: Any) -> dict[str, Tensor]:
        shared = self.config.federation.encoders == "shared"
        names = [name for bit, name in enumerate(self.schema.names) if any(k >> bit & 1 for k in observed)]
        return model.select(observed, names if shared else ())

    def _judge(self, validation: Mapping[int, GroupStatistics], model: GlobalModel, round_: int) -> None:
        train = self.config.train
        if train.select == "last" or round_ < self.methods.objective.first_judged:
            return
        verdict = judge(train.select, train.select_score, round_, validation, self.who.counts)
        known = self.best.verdict if self.best else None
        if verdict is not None and is_better(verdict, known, train.select_score):
            self.best = _Best(verdict, model)

    def _is_patience_over(self, done: int) -> bool:
        patience, begins = self.config.train.patience, 0
        if self.config.train.routing_rounds:
            begins = self.config.train.warmup_rounds  # stage 1 never ends early
        if not patience or self.best is None:
            return False
        return done - 1 - max(self.best.verdict.round, begins) >= patience

    def _chosen(self, last: GlobalModel, done: int) -> tuple[GlobalModel, int]:
        if self.config.train.select != "last" and done:
            found = self._examined(last, done, on_test=False)
            self._judge({k: one.value() for k, one in found.validation.items()}, last, done)
        return (last, done) if self.best is None else (self.best.model, self.best.verdict.round)

    def _calibration(self, model: GlobalModel, round_: int) -> Calibration | None:
        asked, classes = self.config.evaluation, self.schema.classes
        if asked.calibration == "none" and not asked.operating_point:
            return None
        found = self._examined(model, round_, on_test=False, temper=len(classes) > 2)
        validation = {k: one.value() for k, one in found.validation.items()}
        if len(classes) == 2:
            return fit(validation, classes, asked.calibration, asked.operating_point, round_, asked.group_calibration)
        sums = [one.value() for one in found.tempered.values()]
        return fit_several(validation, sum(sums[1:], sums[0]) if sums else None, classes, round_)

    def _examined(self, model: GlobalModel, round_: int, on_test: bool, temper: bool = False) -> Examination:
        observed = self.who.observed
        sent, dtype = self._sent(model, observed), self.config.federation.dtype
        counts = {k: n for k, n in self._counts().items() if k in observed}
        task = Examine(
            round=round_,
            routing=self._routing(round_),
            counts=counts,
            on_test=on_test,
            temper=temper,
            index=index_of(sent, dtype),
        )
        return self.hospital.examine(task, pack(sent, dtype))

    def _routing(self, round_: int) -> bool:
        """Return whether the model after this many rounds uses Φ_k."""
        train = self.config.train
        return self.routed or (train.routing_rounds > 0 and round_ >= train.warmup_rounds)

    def _counts(self) -> dict[int, int]:
        return added(self.start.counts, self.who.counts)
