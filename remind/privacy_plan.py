"""What a run under a privacy guarantee releases of a hospital's patients, and what it costs: known before it begins.

Everything follows from the run's config, from how many patients the hospital has published, and from how many
hospitals share the noise.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from remind.config import Config
from remind.errors import UserError
from remind.privacy.accounting import Curve, Mechanism, compose, epsilon, exact_epsilon, noise_multiplier
from remind.privacy.joint import share_of
from remind.secagg.limits import FEWEST, least_honest

SOME = (3, 5, 10, 20)  # numbers of hospitals to tell of, where it is not known how many there will be


@dataclass(frozen=True)
class Protection:
    """What a setting hides, from whom, at what cost, and when to choose it."""

    setting: str
    hides: str
    cost: str
    choose: str


PROTECTIONS = (
    Protection(
        "none",
        "patients' records, which stay at the hospital; not which patients an update came from",
        "none",
        "the coordinator and all who receive the model may learn which patients took part",
    ),
    Protection(
        "minimum_patients of a hospital's policy",
        "small numbers in tables, and updates of few patients, from the coordinator and readers of reports",
        "rare groups are not reported",
        "always; it is not enough against a curious coordinator",
    ),
    Protection(
        "federation.secure-aggregation",
        "which hospital an update, a loss or a score came from, even from a coordinator that lies; not which patients",
        "one small exchange a round, no tables by hospital, a roster of keys",
        "hospitals must not be compared with each other",
    ),
    Protection(
        'privacy.mode = "site"',
        "any one patient, up to epsilon, from everybody, whatever the other hospitals do",
        "all of the noise at every hospital",
        "the bound must depend on no other hospital, and the model is still useful",
    ),
    Protection(
        'privacy.mode = "joint", with federation.secure-aggregation',
        "any one patient, up to epsilon, as long as the other hospitals but privacy.colluding add their noise and keep "
        "it to themselves; otherwise up to the larger epsilon of the hospital's own share",
        "less noise than site; one step a round, so many rounds; secure aggregation",
        "the hospitals trust each other to add noise, and the noise of site is too much",
    ),
)


def protections_text() -> list[str]:
    """Return the protections as lines."""
    found = []
    for each in PROTECTIONS:
        found += [f"{each.setting}", f"  hides: {each.hides}", f"  cost: {each.cost}", f"  choose it if: {each.choose}"]
    return found


@dataclass(frozen=True)
class Schedule:
    """The releases about a hospital's training patients in a run.

    Attributes
    ----------
    patients
        How many the hospital has published; 0: not known. Of matter where the rate follows from it alone.
    """

    config: Config
    patients: int = 0

    @property
    def joint(self) -> bool:
        """Whether the noise is shared with the other hospitals."""
        return self.config.privacy.mode == "joint"

    @property
    def needs_patients(self) -> bool:
        """Whether the rate follows from the number of patients."""
        return not (self.config.privacy.rate or not self.config.train.batch or self.joint)

    @property
    def rate(self) -> float:
        """q."""
        if not self.needs_patients:  # joint: the same at all hospitals, as they share the noise
            return self.config.privacy.rate or 1.0
        return min(1.0, self.config.train.batch / max(self.patients, 1))

    @property
    def counted(self) -> Mechanism:
        """What saying the counts costs."""
        return Mechanism("counts", self.config.privacy.counts_noise)

    @property
    def losses(self) -> Mechanism:
        """What one release of the loss sums of all combinations costs: a patient is in one of them."""
        return Mechanism("losses", self.config.privacy.loss_noise)

    @property
    def scores(self) -> Mechanism:
        """What the scores of the final model cost a validation or test patient."""
        return Mechanism("scores", self.config.privacy.scores_noise)

    @cached_property
    def noise(self) -> float:
        """σ of a step: as the config says, or the least with which counts and all steps cost what the run may spend.

        Raises
        ------
        UserError
            No noise is enough.
        """
        privacy = self.config.privacy
        if privacy.noise:
            return privacy.noise
        return noise_multiplier(privacy.epsilon, privacy.delta, self.rate, self._steps, self._beside)

    @property
    def round(self) -> Mechanism:
        """What the steps of a round cost."""
        return Mechanism("gradient", self.noise, self.rate, self.config.train.local_steps)

    def releases_losses(self, round_: int) -> bool:
        """Return whether the loss sums of a round, from 0, are released."""
        every = self.config.privacy.loss_every
        return every > 0 and (round_ + 1) % every == 0

    def releases(self, round_: int) -> tuple[Mechanism, ...]:
        """Return all that a round releases."""
        return (self.round, self.losses) if self.releases_losses(round_) else (self.round,)

    @property
    def of_training_patients(self) -> tuple[Mechanism, ...]:
        """All that a whole run releases of them, if no round is repeated."""
        rounds = range(self.config.train.rounds)
        return (self.counted, *(each for round_ in rounds for each in self.releases(round_)))

    @property
    def _steps(self) -> int:
        """Steps of the run. A round that is begun again with other masks is another step."""
        train = self.config.train
        return train.rounds + self.config.federation.retries if self.joint else train.rounds * train.local_steps

    @property
    def _beside(self) -> Curve:
        told = sum(self.releases_losses(round_) for round_ in range(self.config.train.rounds))
        return self.counted.curve() + told * self.losses.curve()


def delta_problem(field: str, delta: float, patients: int) -> str:
    """Return why a δ is too large for so many patients whose data are released together; empty if it is not.

    Parameters
    ----------
    patients
        n; 0: not known.

    Notes
    -----
    A mechanism that publishes each patient with a chance of δ keeps the guarantee, and shows δ·n of them on average.
    """
    if patients < 1 or delta <= (most := 0.1 / patients):
        return ""
    digits = math.floor(math.log10(most))
    low = math.floor(most / 10.0**digits + 1e-9) * 10.0**digits  # one digit, rounded down
    return (
        f"{field} = {delta:g} is more than a tenth of 1/n for n = {patients} patients: the guarantee may fail for "
        f"one of them. Set it to {low:g} or less"
    )


def patients_together(config: Config, patients: Iterable[int]) -> int:
    """Return n of δ: the patients of the largest hospital; those of all, where all are in one sum."""
    each = list(patients)
    return sum(each) if config.privacy.mode == "joint" else max(each, default=0)


def by_own_noise(mechanism: Mechanism, makers: int) -> Mechanism:
    """Return what is left of a release that so many hospitals share the noise of, if all others leave theirs out."""
    return Mechanism(mechanism.what, share_of(mechanism.noise, makers), mechanism.rate, mechanism.steps)


@dataclass(frozen=True)
class PrivacyPlan:
    """What a whole run costs a patient of a hospital, before anything is spent.

    Attributes
    ----------
    mode, delta
        Of the run.
    epsilon
        ε of a training patient, if no round is repeated. None: it follows from the hospital's number of patients, which
        is not known, and is at most `most`.
    exact
        The smallest ε of the same releases, if all patients are in each; None: they are sampled, or not known.
    most
        At this ε a hospital leaves the run.
    noise, rate, steps
        Of the steps of the run; None as for `epsilon`.
    scores
        ε of a validation or test patient.
    own
        Hospitals that share the noise, at most → ε of a training patient if all others leave their noise out.
    """

    mode: str
    delta: float
    epsilon: float | None
    exact: float | None
    most: float
    noise: float | None
    rate: float | None
    steps: int
    scores: float
    own: dict[int, float]

    def lines(self) -> list[str]:
        """Return sentences for people."""
        spent = f"at most {self.most:g}" if self.epsilon is None else f"{self.epsilon:.3g}"
        found = [
            f"privacy.mode = {self.mode}: the run costs a training patient epsilon {spent} at delta {self.delta:g}, "
            f"a validation or test patient {self.scores:.3g}; a hospital leaves it before more than {self.most:g}"
        ]
        if self.noise is not None and self.rate is not None:
            found.append(f"steps: {self.steps} with noise {self.noise:.3g} at rate {self.rate:.3g}")
        if self.epsilon is not None and self.exact is not None:
            found.append(
                f"exactly these releases and no other would be epsilon {self.exact:.3g} (one Gaussian mechanism); the "
                f"ledger counts {self.epsilon:.3g}, which holds too if a round is repeated or the run ends after any"
            )
        for hospitals, alone in self.own.items():
            found.append(
                f"without the noise of the other hospitals, if up to {hospitals} share it: epsilon {alone:.3g} of a "
                "training patient"
            )
        return found


def plan_of(config: Config, hospitals: Iterable[int], patients: int = 0) -> PrivacyPlan | None:
    """Return what a run will cost; None without a guarantee.

    Parameters
    ----------
    hospitals
        Numbers of hospitals that may take part. ε of a hospital's own noise is the largest for each number or fewer.
    patients
        Training patients of the hospital; 0: not known.

    Raises
    ------
    UserError
        No noise is enough for the wanted ε; or so many may collude that none is left.
    """
    privacy, schedule = config.privacy, Schedule(config, patients)
    if privacy.mode == "none":
        return None
    known = bool(patients) or not schedule.needs_patients
    released = schedule.of_training_patients if known else ()
    return PrivacyPlan(
        mode=privacy.mode,
        delta=privacy.delta,
        epsilon=epsilon(compose(released), privacy.delta) if known else None,
        exact=exact_epsilon(released, privacy.delta) if known else None,
        most=privacy.epsilon,
        noise=schedule.noise if known else None,
        rate=schedule.rate if known else None,
        steps=config.train.rounds * config.train.local_steps,
        scores=epsilon(schedule.scores.curve(), privacy.delta),
        own={n: _own(schedule, n) for n in hospitals} if schedule.joint else {},
    )


def _own(schedule: Schedule, hospitals: int) -> float:
    """Return ε of a training patient by the noise of one hospital alone, in the worst case of so many or fewer."""
    privacy = schedule.config.privacy
    makers = [least_honest(n, n, privacy.colluding) for n in range(FEWEST, hospitals + 1)]
    if not makers or makers[-1] < 1:
        raise UserError(
            f"privacy.colluding = {privacy.colluding}: among {hospitals} hospitals no noise would be left for sure; "
            f"take less, or more hospitals (at least {FEWEST})"
        )
    counts, *shared = schedule.of_training_patients  # a hospital's counts have noise of its own alone
    return epsilon(compose([counts, *(by_own_noise(each, max(makers)) for each in shared)]), privacy.delta)
