"""What leaves a site under a privacy guarantee: each is paid for before it is computed, and has its own noise."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from remind.config import Config
from remind.federation.messages import Examine, Task
from remind.metrics.private_scores import noisy_statistics
from remind.metrics.statistics import GroupLoss, GroupStatistics
from remind.outcomes.base import Outcome
from remind.privacy.noise import Randomness
from remind.training.evaluate import most_loss
from remind_client.engine.private_steps import PrivateSteps
from remind_client.ledger.budget import TEST, TRAINING, VALIDATION, BudgetError, Release
from remind_client.ledger.spender import Spender
from remind_client.store.site_store import SiteStore

log = logging.getLogger(__name__)
Statistics = dict[int, GroupStatistics]


@dataclass(frozen=True)
class PrivateReleases:
    """Releases of one site in one run.

    Attributes
    ----------
    private
        The site's steps and counts under the guarantee.
    config
        The run's.
    classes
        Number of classes of the cohort.
    store
        The state that an answer depends on.
    secret
        The source of the noise; it never leaves.
    spender
        Pays for releases; None: nobody does.
    version
        Tells the cohort from other states of it: the same question about other patients gets other noise.
    """

    private: PrivateSteps
    config: Config
    outcome: Outcome
    store: SiteStore
    secret: bytes
    spender: Spender | None
    version: str

    def pay_for_counts(self) -> None:
        """Pay for the counts that the site reports, once for as long as they are the same."""
        if self.spender is not None:
            counts = sha256(repr(sorted(self.private.counts.items())).encode()).hexdigest()
            self.spender.pay(None, counts, [Release(TRAINING, self.private.schedule.counted)])

    def pay_for_round(self, task: Task, question: str, makers: Mapping[str, int]) -> str:
        """Pay for the steps of a round; return the key of its draws and noise.

        The key is a digest of the question and of all else that the answer depends on, so that the same noise never
        hides two different answers.

        Parameters
        ----------
        makers
            Block → the number of hospitals that share its noise; empty where all of it is this site's own.

        Raises
        ------
        BudgetError
            The budget is not enough.
        """
        self.pay_for_counts()  # weights and normalisers are computed from counts; other patients now, other counts
        key = self.key(question, training=True)
        if self.spender is not None:
            released = self.private.schedule.releases(task.round)
            own = [self.private.own(each, tuple(makers.values())) for each in released]
            self.spender.pay(task.round, key, [Release(TRAINING, m, own=o) for m, o in zip(released, own, strict=True)])
        return key

    def key(self, question: str, training: bool) -> str:
        """Return the key of the noise of an answer."""
        return sha256(f"{question} {self.store.fingerprint(training)} {self.version}".encode()).hexdigest()

    def losses(self, task: Task, exact: Mapping[int, GroupLoss], key: str) -> Mapping[int, GroupLoss]:
        """Return what leaves of the losses of the received model; in most rounds nothing."""
        if not self.private.schedule.releases_losses(task.round):
            return {}
        return self.private.noisy_losses(exact, most_loss(self.config, self.outcome), key)

    def scores(
        self, task: Examine, question: str, test: Statistics, validation: Statistics
    ) -> tuple[Statistics, Statistics]:
        """Return what leaves of a final examination; nothing if the budget is not enough for it."""
        if not task.on_test or len(self.outcome.strata) != 2:
            return {}, {}
        key = self.key(question, training=False)
        cost = self.private.schedule.scores
        try:
            if self.spender is not None:
                self.spender.pay(task.round, key, [Release(TEST, cost), Release(VALIDATION, cost)])
        except BudgetError as error:
            log.warning("the final examination leaves no scores: %s", error)
            return {}, {}
        return self._noisy(test, TEST, key), self._noisy(validation, VALIDATION, key)

    def _noisy(self, exact: Statistics, part: str, key: str) -> Statistics:
        privacy, groups = self.config.privacy, tuple(self.private.counts)
        randomness = Randomness(self.secret, key, f"scores {part}")
        return noisy_statistics(exact, groups, privacy.scores_noise, privacy.scores_least, randomness)
