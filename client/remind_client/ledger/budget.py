"""Limits of the privacy budget, and the releases that spend it."""

from dataclasses import dataclass, replace

from remind.privacy.accounting import Mechanism

TRAINING, VALIDATION, TEST = "training", "validation", "test"
PARTS = (TRAINING, VALIDATION, TEST)
SLACK = 1 + 1e-6  # tolerance for the rounding errors of sums of many rows


class BudgetError(Exception):
    """A release would exceed a limit, so it was not computed. Only the text `outside` may leave the site."""

    outside = "the privacy budget of this site is used up; it takes no further part in this run"


@dataclass(frozen=True)
class Release:
    """A noisy result that leaves the site.

    Attributes
    ----------
    part
        The part of the split that the release is about: `TRAINING`, `VALIDATION` or `TEST`.
    mechanism
        What is released, and with which noise.
    delta
        Addition to the δ of the run: the probability that a threshold fails to hide a rare cell.
    own
        Noise multiplier of this site's noise alone, where other hospitals add theirs under masks; None: all of the
        noise is this site's own.
    """

    part: str
    mechanism: Mechanism
    delta: float = 0.0
    own: float | None = None

    @property
    def by_own_noise(self) -> Mechanism:
        """The mechanism as it is if other hospitals leave their noise out."""
        return self.mechanism if self.own is None else replace(self.mechanism, noise=self.own)


@dataclass(frozen=True)
class Limit:
    """The largest ε that may be spent at a δ.

    Attributes
    ----------
    of
        Name of the setting, for messages.
    for_life
        True: the limit of all runs together; False: the limit of each run.
    """

    of: str
    epsilon: float
    delta: float
    for_life: bool = False
