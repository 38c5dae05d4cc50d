"""A hospital's part of a round: enrol, train, examine (design, "A round"). Independent of Flower."""

import logging
import time
from collections.abc import Mapping
from hashlib import sha256

import torch
from torch import Tensor

from remind.config import Config
from remind.data.cohort import cohort as parts
from remind.data.cohort.cohort import Cohort
from remind.errors import UserError
from remind.federation.blocks import block_of, index_of, pack, unpack
from remind.federation.message_statistics import Evaluation, LossSum, Tempered
from remind.federation.message_types import MOST
from remind.federation.messages import Enrolment, Examination, Examine, Report, Task
from remind.federation.secure_messages import MaskedAnswer
from remind.metrics.private_scores import noisy_statistics
from remind.metrics.statistics import GroupLoss, GroupStatistics
from remind.privacy.accounting import Mechanism
from remind.privacy.noise import Randomness
from remind.secagg.limits import RefusedError
from remind.seeds import derive, seeded
from remind.training.evaluate import evaluate, most_loss, temper
from remind.training.outputs import without_gradient
from remind.training.site_data import FreshTokens
from remind.training.work import LocalWork
from remind.version import VERSION
from remind_client.engine import Buffer, Integers, SiteEngine
from remind_client.few import moved_by_few
from remind_client.ledger.budget import TEST, TRAINING, VALIDATION, BudgetError, Release
from remind_client.ledger.spender import Spender
from remind_client.question import question_of
from remind_client.secure import SecureAnswers
from remind_client.store import SiteStore

log = logging.getLogger(__name__)
Statistics = dict[int, GroupStatistics]


class Site:
    """One hospital in one run; each method turns a message into its answer.

    Attributes
    ----------
    minimum
        Number of different patients that must have changed a part of the model before its update may leave (`few`).
    keeps_answers
        Whether an answer is stored before it is sent, so that the same question gets the same bytes. A simulated site
        does the work again instead, which gives the same numbers.
    secret
        What draws and noise with a privacy guarantee come from; it never leaves.
    spender
        Pays for what leaves under a privacy guarantee, before it is computed; None: the run gives none.
    version
        What tells the cohort from other states of it: the same question about other patients gets other noise.

    Parameters
    ----------
    secure
        What masks its answers, where the run aggregates securely.
    """

    def __init__(
        self,
        name: str,
        cohort: Cohort,
        config: Config,
        store: SiteStore,
        device: torch.device,
        minimum: int = 1,
        keeps_answers: bool = False,
        secret: bytes = b"",
        spender: Spender | None = None,
        version: str = "",
        secure: SecureAnswers | None = None,
    ) -> None:
        self.name, self.cohort, self.config, self.store, self.minimum = name, cohort, config, store, minimum
        self.device, self.keeps_answers = device, keeps_answers
        self.secret, self.spender, self.version = secret, spender, version
        self._secure = secure
        self.engine = SiteEngine(name, cohort, config, store, device, secret)
        self._in_doubt = False  # whether a round ended in an error, so that memory may not be what the store holds

    def enrol(self) -> Enrolment:
        """Report who this site is and which data it has."""
        self._pay_for_counts()
        return Enrolment(
            site=self.name,
            version=VERSION,
            cohort_schema=self.cohort.schema.describe(),
            fingerprint=self.cohort.schema.fingerprint,
            counts=self.engine.counts,
            observed=self.engine.observed,
            labels=self.engine.labels(),
            held_out=self.engine.held_out() if self.engine.methods.objective.needs_held_out else {},
        )

    @property
    def secure(self) -> SecureAnswers:
        """What masks this site's answers.

        Raises
        ------
        RefusedError
            The run does not aggregate securely.
        """
        if self._secure is None or not self.config.federation.secure_aggregation:
            raise RefusedError("this run does not aggregate securely")
        return self._secure

    def _require(self, masked: bool) -> None:
        """Refuse to answer in clear where the run's settings say that answers are masked, or the other way round."""
        if masked != self.config.federation.secure_aggregation:
            raise RefusedError("the run's settings and the message differ in whether answers are masked")

    def train(self, task: Task, buffer: Buffer) -> tuple[Report, Buffer]:
        """Evaluate the model as received, do the round's work, answer with the same blocks.

        A round can be asked for again (`history`): the same question gets the same answer.

        Raises
        ------
        ValueError
            If the task does not fit the site: groups it does not observe, tensors of another model.
        TooOldError
            If the site no longer has the state before this round.
        """
        self._require(masked=False)
        report, answer = self._trained(task, buffer)
        assert isinstance(report, Report)
        return report, answer

    def train_masked(self, task: Task, buffer: Buffer) -> tuple[MaskedAnswer, Buffer]:
        """Do the same, and put the answer under masks; `task.secure` says among whom each block is summed.

        Raises
        ------
        RefusedError
            The answer might not only be read in sum.
        """
        self._require(masked=True)
        self.secure.require_fair(task, self.engine.counts, self.cohort.schema.names)
        masked, answer = self._trained(task, buffer)
        assert isinstance(masked, MaskedAnswer)
        return masked, answer

    def _trained(self, task: Task, buffer: Buffer) -> tuple[Report | MaskedAnswer, Buffer]:
        asked = self.keeps_answers or self.engine.private is not None
        history, question = self.store.history, question_of(task, buffer) if asked else ""
        if self.keeps_answers and (known := history.answer(task.round, question)) is not None:
            log.info("round %d: the same question as before, hence the same answer", task.round + 1)
            return known
        restored = history.begin(task.round, self.store.needed(), self.config.federation.checkpoints)
        if restored or self._in_doubt:
            self._reload()
        self._in_doubt = True
        key = self._pay_for_round(task, question)
        report, answer = self._answer(task, buffer, key)
        if self.keeps_answers:
            history.keep_answer(task.round, question, report, answer)
        self._in_doubt = False
        return report, answer

    def _pay_for_counts(self) -> None:
        """Pay for the counts that the site says, once for as long as they are the same."""
        if self.spender is not None and (private := self.engine.private) is not None:
            said = sha256(repr(sorted(private.counts.items())).encode()).hexdigest()
            self.spender.pay(None, said, [Release(TRAINING, private.counted)])

    def _pay_for_round(self, task: Task, question: str) -> str:
        """Pay for the steps of a round; return what its draws and noise are for.

        That is the question together with all else that the answer depends on, so that no noise hides two answers.
        """
        private = self.engine.private
        if private is None:
            return question
        self._pay_for_counts()  # weights and normalisers are made of them; other patients now, other counts
        key = self._key(question, training=True)
        if self.spender is not None:
            self.spender.pay(task.round, key, [Release(TRAINING, each) for each in private.releases(task.round)])
        return key

    def _key(self, question: str, training: bool) -> str:
        return sha256(f"{question} {self.store.fingerprint(training)} {self.version}".encode()).hexdigest()

    def _answer(self, task: Task, buffer: Buffer, key: str) -> tuple[Report | MaskedAnswer, Buffer]:
        report, answer = self._round(task, buffer, key)
        return self.secure.report(task, buffer, report, answer) if task.secure is not None else (report, answer)

    def _reload(self) -> None:
        """Take what the store holds, and nothing of what is in memory."""
        self.engine = SiteEngine(self.name, self.cohort, self.config, self.store, self.device, self.secret)

    def _round(self, task: Task, buffer: Buffer, question: str) -> tuple[Report, Buffer]:
        started, engine = time.perf_counter(), self.engine
        if unseen := [k for k in task.weights if k not in engine.counts]:
            raise ValueError(f"the task names groups that the site does not observe: {unseen}")
        phase = engine.methods.objective.phase(task.round)
        if engine.begins_anew(task, phase):
            engine.forget()
        train_encoders = phase.train and task.stage == 1 and self.config.federation.encoders != "frozen"
        self.store.activate()
        received = engine.receive(task.index, buffer)
        work = engine.work(task, phase, received, train_encoders, question)
        losses: Mapping[int, GroupLoss] = work.measure()
        with engine.methods.rule.measured(work):
            validation = engine.statistics(work.source, parts.VALIDATION, work.settings.routing, task.labels)
        told = self._said_losses(task, losses, question)
        losses = self._work(task, work, train_encoders) or losses
        for one in losses.values():
            _refuse_what_diverged(one.loss_sum)
        engine.keep(work.optimizer, engine.stretch(task, phase), train_encoders, task.round + 1, task.candidates)
        leaves = engine.private is None
        report = Report(
            round=task.round,
            share=engine.share(task),
            train={k: LossSum.of(s) for k, s in (losses if leaves else told).items() if k in task.weights},
            validation=_evaluations(validation) if leaves else {},
            seconds=time.perf_counter() - started,
            index=index_of(received, self.config.federation.dtype),
            privacy=self.spender.told() if self.spender is not None else None,
        )
        return report, pack(self._leaving(task, buffer, received, work), self.config.federation.dtype)

    def _said_losses(self, task: Task, exact: Mapping[int, GroupLoss], key: str) -> Mapping[int, GroupLoss]:
        """Return what leaves of the losses of the received model under a privacy guarantee; mostly nothing."""
        private = self.engine.private
        if private is None or not private.tells_losses(task.round):
            return {}
        return private.said_losses(exact, most_loss(self.config, len(self.cohort.schema.classes)), key)

    def _leaving(
        self, task: Task, buffer: Buffer, received: Mapping[str, Tensor], work: LocalWork
    ) -> Mapping[str, Tensor]:
        """The current tensors, except those of parts that too few patients changed: these as received."""
        blocks = {entry.block for entry in task.index}
        if self.engine.private is not None:  # noise protects them, and what is held back would tell who was drawn
            return received
        held = moved_by_few(work.plan, self.cohort.groups_N, self.cohort.schema.names, blocks, self.minimum)
        if not held:
            return received
        log.info("round %d: fewer than %d patients moved %s; sent back as it came", task.round, self.minimum, held)
        sent = unpack(task.index, buffer)
        return {name: sent[name] if block_of(name) in held else tensor for name, tensor in received.items()}

    def _work(self, task: Task, work: LocalWork, train_encoders: bool) -> Mapping[int, GroupLoss] | None:
        """Do the rule's work, or only evaluate if the phase takes no steps.

        Return losses that replace those of the received model, if any.
        """
        engine = self.engine
        if not engine.methods.objective.phase(task.round).train:
            engine.methods.objective.remember(engine.mistakes(work), engine.kept)
            return None
        if train_encoders:
            engine.dirty()
        with seeded(derive(task.seed, "dropout", self.name, task.round), engine.device):
            return engine.methods.rule.work(work)

    def examine(self, task: Examine, buffer: Buffer) -> Examination:
        """Evaluate a model on the validation patients, and on the test patients if these are asked for.

        A model that is examined on test patients is the finished one and is kept for predictions; what only further
        rounds would need is removed. Patients are encoded
        as a prediction encodes them and not read from the cache, whose batches are of all patients: sums over batches
        of other sizes differ in the last digits, and a prediction for the test patients must give these very numbers.
        """
        self._require(masked=False)
        return self._examined(task, buffer)

    def examine_masked(self, task: Examine, buffer: Buffer) -> tuple[MaskedAnswer, Buffer]:
        """Do the same, and put the statistics under masks; once under the same keys.

        Raises
        ------
        RefusedError
            The statistics might not only be read in sum.
        """
        self._require(masked=True)
        self.secure.require_new(task)
        classes = len(self.cohort.schema.classes)
        return self.secure.examination(task, buffer, self._examined(task, buffer), self.minimum, classes)

    def _examined(self, task: Examine, buffer: Buffer) -> Examination:
        if self._in_doubt:
            self._reload()
            self._in_doubt = False
        started, engine = time.perf_counter(), self.engine
        self.store.activate(task.round)
        received: Mapping[str, Tensor] = engine.receive(task.index, buffer)
        work = engine.looking(FreshTokens(engine.model, engine.data), received, task.routing)
        with without_gradient(engine.model), engine.methods.rule.measured(work):
            test = engine.statistics(work.source, parts.TEST, task.routing) if task.on_test else {}
            validation = engine.statistics(work.source, parts.VALIDATION, task.routing)
            calibrated = (
                engine.statistics(work.source, parts.TEST, task.routing, temperature=task.temperature)
                if task.on_test and task.temperature != 1
                else {}
            )
            tempered = (
                temper(engine.model, work.source, engine.index[parts.VALIDATION], task.routing) if task.temper else {}
            )
            if task.on_test:
                engine.store.save_model(engine.part(task))
                engine.store.end()
        if engine.private is not None and self.keeps_answers:  # a virtual hospital's are the researcher's own
            key = self._key(question_of(task, buffer), training=False)
            test, validation = self._said_of_scores(task, key, test, validation)
            calibrated, tempered = {}, {}
        return Examination(
            round=task.round,
            test=_evaluations(test),
            validation=_evaluations(validation),
            calibrated=_evaluations(calibrated),
            tempered={k: Tempered.of(sums) for k, sums in tempered.items()},
            seconds=time.perf_counter() - started,
        )

    def _said_of_scores(
        self, task: Examine, key: str, test: Statistics, validation: Statistics
    ) -> tuple[Statistics, Statistics]:
        """Return what leaves of a final examination under a privacy guarantee; without budget for it, nothing."""
        private, privacy = self.engine.private, self.config.privacy
        if not task.on_test or len(self.cohort.schema.classes) != 2 or private is None:
            return {}, {}
        cost, groups = Mechanism("scores", privacy.scores_noise), tuple(private.counts)
        try:
            if self.spender is not None:
                self.spender.pay(task.round, key, [Release(TEST, cost), Release(VALIDATION, cost)])
        except BudgetError as error:
            log.warning("the final examination leaves no scores: %s", error)
            return {}, {}

        def said(exact: Statistics, part: str) -> Statistics:
            randomness = Randomness(self.secret, key, f"scores {part}")
            return noisy_statistics(exact, groups, privacy.scores_noise, privacy.scores_least, randomness)

        return said(test, TEST), said(validation, VALIDATION)

    def evaluate(self, index_N: Integers, routing: bool) -> dict[int, GroupStatistics]:
        """Evaluate the model that the site would use on the patients at these positions."""
        engine = self.engine
        work = engine.looking(engine.tokens(fresh=False), {}, routing)
        with engine.methods.rule.measured(work):
            return evaluate(engine.model, work.source, index_N, engine.methods.objective, routing, engine.labels())


def _evaluations(statistics: dict[int, GroupStatistics]) -> dict[int, Evaluation]:
    for one in statistics.values():
        _refuse_what_diverged(one.loss_sum)
    return {k: Evaluation.of(s) for k, s in statistics.items()}


def _refuse_what_diverged(loss: float) -> None:
    if not 0 <= loss <= MOST:
        raise UserError(f"training has diverged: a sum of losses is {loss:g}; lower the learning rate (train.lr, --lr)")
