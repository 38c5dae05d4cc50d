"""A hospital's part of a run: enrol, train, examine (design, "A round"). Independent of Flower."""

import logging

import torch

from remind.config import Config
from remind.data.cohort.cohort import Cohort
from remind.federation.messages import Enrolment, Examination, Examine, Report, Task
from remind.federation.secure_messages import MaskedAnswer
from remind.metrics.statistics import GroupStatistics
from remind.secagg.limits import RefusedError
from remind.training.evaluate import evaluate
from remind.version import VERSION
from remind_client.engine.model_state import Buffer
from remind_client.engine.patients import Integers
from remind_client.engine.site_engine import SiteEngine
from remind_client.ledger.spender import Spender
from remind_client.question import question_of
from remind_client.rounds.examination import ModelExamination
from remind_client.rounds.releases import PrivateReleases
from remind_client.rounds.secure import SecureAnswers
from remind_client.rounds.summed import SummedTraining
from remind_client.rounds.training import RoundTraining
from remind_client.store.site_store import SiteStore

log = logging.getLogger(__name__)


class Site:
    """One hospital in one run; each method turns a message into its answer.

    Attributes
    ----------
    minimum
        Number of different patients that must have changed a part of the model before its update may leave
        (`small_updates`).
    keeps_answers
        Whether an answer is stored before it is sent, so that the same question gets the same bytes. A simulated site
        does the work again instead, which gives the same numbers.
    secret
        The source of draws and noise under a privacy guarantee; it never leaves.
    spender
        Pays for what leaves under a privacy guarantee, before it is computed; None: the run gives none.
    version
        Tells the cohort from other states of it: the same question about other patients gets other noise.

    Parameters
    ----------
    secure
        Masks the answers, where the run aggregates securely.
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
        self.engine = self._new_engine()
        self._in_doubt = False  # whether a message ended in an error, so that memory may differ from the store

    def enrol(self) -> Enrolment:
        """Report who this site is and which data it has."""
        if (releases := self._releases()) is not None:
            releases.pay_for_counts()
        patients, objective = self.engine.patients, self.engine.methods.objective
        return Enrolment(
            site=self.name,
            version=VERSION,
            cohort_schema=self.cohort.schema.describe(),
            fingerprint=self.cohort.schema.fingerprint,
            counts=patients.counts,
            observed=patients.observed,
            labels=patients.labels(objective),
            held_out=patients.held_out() if objective.needs_held_out else {},
        )

    def train(self, task: Task, buffer: Buffer) -> tuple[Report, Buffer]:
        """Evaluate the model as received, do the round's work, answer with the same blocks.

        A round can be requested again (`history`): the same question gets the same answer.

        Raises
        ------
        ValueError
            If the task does not fit the site: groups it does not observe, tensors of another model.
        TooOldError
            If the site no longer has the state before this round.
        """
        self._require(masked=False)
        report, answer = self._train(task, buffer)
        assert isinstance(report, Report)
        return report, answer

    def train_masked(self, task: Task, buffer: Buffer) -> tuple[MaskedAnswer, Buffer]:
        """Do the same, and put the answer under masks; `task.secure` says among whom each block is summed.

        Raises
        ------
        RefusedError
            The answer could be read otherwise than in a sum.
        """
        self._require(masked=True)
        self.secure.require_fair(task, self.engine.patients.counts, self.cohort.schema.names)
        masked, answer = self._train(task, buffer)
        assert isinstance(masked, MaskedAnswer)
        return masked, answer

    def examine(self, task: Examine, buffer: Buffer) -> Examination:
        """Evaluate a model on the validation patients, and on the test patients; see `ModelExamination.answer`."""
        self._require(masked=False)
        return self._examine(task, buffer)

    def examine_masked(self, task: Examine, buffer: Buffer) -> tuple[MaskedAnswer, Buffer]:
        """Do the same, and put the statistics under masks; once under the same keys.

        Raises
        ------
        RefusedError
            The statistics could be read otherwise than in a sum.
        """
        self._require(masked=True)
        self.secure.require_new(task)
        classes = len(self.cohort.schema.classes)
        return self.secure.examination(task, buffer, self._examine(task, buffer), self.minimum, classes)

    def evaluate(self, index_N: Integers, routing: bool) -> dict[int, GroupStatistics]:
        """Evaluate the model that the site would use on the patients at these positions."""
        engine, objective = self.engine, self.engine.methods.objective
        work = engine.work.evaluation(engine.state.tokens(fresh=False), {}, routing)
        with engine.methods.rule.measured(work):
            labels = engine.patients.labels(objective)
            return evaluate(engine.model, work.source, index_N, objective, routing, labels)

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
        """Refuse to answer without masks if the run's settings say that answers are masked, or the other way round."""
        if masked != self.config.federation.secure_aggregation:
            raise RefusedError("the run's settings and the message differ in whether answers are masked")

    def _new_engine(self) -> SiteEngine:
        """Return an engine with what the store holds, and with nothing of what is in memory."""
        return SiteEngine(self.name, self.cohort, self.config, self.store, self.device, self.secret)

    def _releases(self) -> PrivateReleases | None:
        private = self.engine.patients.private
        if private is None:
            return None
        outcome = self.cohort.schema.predicts
        return PrivateReleases(private, self.config, outcome, self.store, self.secret, self.spender, self.version)

    def _train(self, task: Task, buffer: Buffer) -> tuple[Report | MaskedAnswer, Buffer]:
        """Answer from the history, or from the state before the round."""
        private = self.engine.patients.private is not None
        history, question = self.store.history, question_of(task, buffer) if self.keeps_answers or private else ""
        if self.keeps_answers and (known := history.answer(task.round, question)) is not None:
            log.info("round %d: the same question as before, so the answer is the same", task.round + 1)
            return known
        restored = history.begin(task.round, self.store.needed, self.config.federation.checkpoints, self.store.since)
        if restored or self._in_doubt:
            self.engine = self._new_engine()
        self._in_doubt = True
        report, answer = self._trained(task, buffer, question)
        if self.keeps_answers:
            history.keep_answer(task.round, question, report, answer)
        self._in_doubt = False
        return report, answer

    def _trained(self, task: Task, buffer: Buffer, question: str) -> tuple[Report | MaskedAnswer, Buffer]:
        releases = self._releases()
        joint = releases is not None and releases.private.joint
        makers = self.secure.noise_makers(task, self.config.privacy) if joint else {}
        key = question if releases is None else releases.pay_for_round(task, question, makers)
        if releases is not None and joint:
            summed = SummedTraining(self.engine, releases, self.spender, makers, self.secure)
            return summed.answer(task, buffer, key)
        training = RoundTraining(self.engine, self.minimum, releases, self.spender)
        report, answer = training.answer(task, buffer, key)
        return self.secure.report(task, buffer, report, answer) if task.secure is not None else (report, answer)

    def _examine(self, task: Examine, buffer: Buffer) -> Examination:
        if self._in_doubt:
            self.engine = self._new_engine()
            self._in_doubt = False
        releases = self._releases() if self.keeps_answers else None  # a virtual hospital's are the researcher's own
        return ModelExamination(self.engine, releases).answer(task, buffer)
