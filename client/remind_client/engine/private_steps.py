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
from remind.privacy.accounting import Mechanism
from remind.privacy.counts import noisy_counts
from remind.privacy.joint import clip_for
from remind.privacy.noise import Randomness, add_noise
from remind.privacy_plan import Schedule, by_own_noise
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

    @cached_property
    def schedule(self) -> Schedule:
        """What is released, with which noise."""
        return Schedule(self.config, sum(self.counts.values()))

    @property
    def joint(self) -> bool:
        """Whether the noise is shared with the other hospitals."""
        return self.schedule.joint

    def own(self, mechanism: Mechanism, hospitals: Collection[int]) -> float | None:
        """Return the noise multiplier of what is left of a release if all other hospitals leave their noise out.

        `hospitals`: among how many the noise of each of its blocks is shared. None: all of it is this hospital's.
        """
        return by_own_noise(mechanism, max(hospitals)).noise if hospitals else None

    def seed(self, question: str, purpose: str) -> int:
        """Return a seed that nobody outside knows.

        With a known one, to leave a patient out would give all that follow it in a step another dropout, and so move
        their gradients too.
        """
        return int(Randomness(self.secret, question, f"seed of {purpose}").uniforms(1)[0] * 2**53)

    def noisy_losses(self, exact: Mapping[int, GroupLoss], most: float, question: str) -> dict[int, GroupLoss]:
        """Return the loss sums of all combinations that the site has said, with noise and with the counts it has said.

        Parameters
        ----------
        exact
            Sums of losses of which none is larger than `most`.
        """
        groups = sorted(self.counts)
        sums = np.array([exact[k].loss_sum if k in exact else 0.0 for k in groups])
        released = add_noise(sums, most, self.schedule.losses.noise, Randomness(self.secret, question, "losses"))
        return {
            k: GroupLoss(self.counts[k], float(np.clip(total, 0.0, self.counts[k] * most)))
            for k, total in zip(groups, released, strict=True)
        }

    def plan(self, task: Task, question: str, index_N: Integers, group_N: Integers) -> list[Step]:
        """Draw the steps of a round among these patients, whose groups the site has said."""
        relative = self._relative(task)
        steps = self.config.train.local_steps
        return poisson_steps(index_N, group_N, relative, self.schedule.rate, steps, self.secret, question)

    def gradients(self, task: Task, question: str, model: SiteModel, idle: Callable[[str], bool]) -> PrivateGradients:
        """Return what computes the gradients of a round's steps."""
        patients, clip = sum(self.counts[k] for k in self._relative(task)), self.config.privacy.clip
        if self.joint:
            named = model.named_parameters()
            clip = clip_for(clip, sum(p.numel() for name, p in named if p.requires_grad and not idle(name)))
        how = Clipping(clip, self.schedule.noise, self.schedule.rate * max(patients, 1))
        return PrivateGradients(model, how, self.secret, question, idle)

    def _relative(self, task: Task) -> dict[int, float]:
        """Return r_k of the groups in play."""
        weights, most = {k: w for k, w in task.weights.items() if w > 0 and k in self.counts}, self.config.privacy.r_max
        if task.secure is not None and self.joint:
            return {k: min(w / task.counts[k] / task.secure.plain, most) for k, w in weights.items()}
        return relative_weights(weights, task.counts, self.counts, most)


def simulated_secret(seed: int, site: str) -> bytes:
    """Return the secret of a virtual hospital: a run's seed gives its bits, as nothing there is secret."""
    return sha256(f"simulated hospital {seed} {site}".encode()).digest()
