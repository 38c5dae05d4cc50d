"""What a hospital's steps are under a privacy guarantee: who is drawn, which weight, how much noise, what it costs.

Everything but draws and noise follows from the run's config and from the counts that the hospital has said, so that it
tells nothing more of the patients.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from remind.config import Config
from remind.federation.messages import Task
from remind.metrics.statistics import GroupLoss
from remind.privacy.accounting import Mechanism, noise_multiplier
from remind.privacy.counts import noisy_counts
from remind.privacy.joint import clip_for, share_of
from remind.privacy.noise import Randomness, add_noise
from remind.training.private.draws import poisson_steps, relative_weights
from remind.training.private.gradients import Clipping, PrivateGradients
from remind.training.sampling import Step
from remind.training.site_model import SiteModel

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class PrivateSteps:
    """The private side of a site in one run.

    Attributes
    ----------
    config
        The run's.
    secret
        The site's own; it never leaves.
    counts
        n_{s,k} as the site says them.
    """

    config: Config
    secret: bytes
    counts: Mapping[int, int]

    @classmethod
    def of(cls, config: Config, secret: bytes, exact: Mapping[int, int], modalities: int) -> "PrivateSteps":
        """Say the counts, with noise that is the same as long as they are: they are said once."""
        question = sha256(repr(sorted(exact.items())).encode()).hexdigest()
        noise = config.privacy.counts_noise
        return cls(config, secret, noisy_counts(exact, modalities, noise, Randomness(secret, question, "counts")))

    @property
    def joint(self) -> bool:
        """Whether the noise is shared with the other hospitals."""
        return self.config.privacy.mode == "joint"

    def own(self, mechanism: Mechanism, hospitals: Collection[int]) -> float | None:
        """Return the noise multiplier of what is left of a release if all other hospitals leave their noise out.

        `hospitals`: among how many the noise of each of its blocks is shared. None: all of it is this hospital's.
        """
        return share_of(mechanism.noise, max(hospitals)) if hospitals else None

    def seed(self, question: str, purpose: str) -> int:
        """Return a seed that nobody outside knows.

        With a known one, to leave a patient out would give all that follow it in a step another dropout, and so move
        their gradients too.
        """
        return int(Randomness(self.secret, question, f"seed of {purpose}").uniforms(1)[0] * 2**53)

    @property
    def rate(self) -> float:
        """q."""
        privacy, batch = self.config.privacy, self.config.train.batch
        if privacy.rate or not batch or self.joint:  # joint: the same at all hospitals, as they share the noise
            return privacy.rate or 1.0
        return min(1.0, batch / max(sum(self.counts.values()), 1))

    @property
    def counted(self) -> Mechanism:
        """What saying the counts costs."""
        return Mechanism("counts", self.config.privacy.counts_noise)

    @cached_property
    def noise(self) -> float:
        """σ of a step: as the config says, or the least with which counts and all steps cost what the run may spend.

        Raises
        ------
        UserError
            No noise is enough.
        """
        privacy, train = self.config.privacy, self.config.train
        if privacy.noise:
            return privacy.noise
        releases = sum(self.releases_losses(round_) for round_ in range(train.rounds))
        beside = self.counted.curve() + releases * self.losses.curve()
        return noise_multiplier(privacy.epsilon, privacy.delta, self.rate, self._steps, beside)

    @property
    def _steps(self) -> int:
        """Steps of the run. A round that is begun again with other masks is another step."""
        train = self.config.train
        return train.rounds + self.config.federation.retries if self.joint else train.rounds * train.local_steps

    @property
    def losses(self) -> Mechanism:
        """What one release of the loss sums of all combinations costs: a patient is in one of them."""
        return Mechanism("losses", self.config.privacy.loss_noise)

    def releases_losses(self, round_: int) -> bool:
        """Whether the loss sums of a round, from 0, are released."""
        every = self.config.privacy.loss_every
        return every > 0 and (round_ + 1) % every == 0

    def releases(self, round_: int) -> tuple[Mechanism, ...]:
        """Return all that a round releases."""
        return (self.round, self.losses) if self.releases_losses(round_) else (self.round,)

    def noisy_losses(self, exact: Mapping[int, GroupLoss], most: float, question: str) -> dict[int, GroupLoss]:
        """Return the loss sums of all combinations that the site has said, with noise and with the counts it has said.

        Parameters
        ----------
        exact
            Sums of losses of which none is larger than `most`.
        """
        groups = sorted(self.counts)
        sums = np.array([exact[k].loss_sum if k in exact else 0.0 for k in groups])
        released = add_noise(sums, most, self.losses.noise, Randomness(self.secret, question, "losses"))
        return {
            k: GroupLoss(self.counts[k], float(np.clip(total, 0.0, self.counts[k] * most)))
            for k, total in zip(groups, released, strict=True)
        }

    @property
    def round(self) -> Mechanism:
        """What the steps of a round cost."""
        return Mechanism("gradient", self.noise, self.rate, self.config.train.local_steps)

    def plan(self, task: Task, question: str, index_N: Integers, group_N: Integers) -> list[Step]:
        """Draw the steps of a round among these patients, whose groups the site has said."""
        relative = self._relative(task)
        steps = self.config.train.local_steps
        return poisson_steps(index_N, group_N, relative, self.rate, steps, self.secret, question)

    def gradients(self, task: Task, question: str, model: SiteModel, idle: Callable[[str], bool]) -> PrivateGradients:
        """Return what computes the gradients of a round's steps."""
        patients, clip = sum(self.counts[k] for k in self._relative(task)), self.config.privacy.clip
        if self.joint:
            named = model.named_parameters()
            clip = clip_for(clip, sum(p.numel() for name, p in named if p.requires_grad and not idle(name)))
        how = Clipping(clip, self.noise, self.rate * max(patients, 1))
        return PrivateGradients(model, how, self.secret, question, idle)

    def _relative(self, task: Task) -> dict[int, float]:
        """r_k of the groups in play."""
        weights, most = {k: w for k, w in task.weights.items() if w > 0 and k in self.counts}, self.config.privacy.r_max
        if task.secure is not None and self.joint:
            return {k: min(w / task.counts[k] / task.secure.plain, most) for k, w in weights.items()}
        return relative_weights(weights, task.counts, self.counts, most)


def simulated_secret(seed: int, site: str) -> bytes:
    """Return the secret of a virtual hospital: a run's seed gives its bits, as nothing there is secret."""
    return sha256(f"simulated hospital {seed} {site}".encode()).digest()
