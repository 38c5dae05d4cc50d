"""Limits of what may be spent, and the releases that spend it."""

from dataclasses import dataclass

from remind.privacy.accounting import Mechanism

TRAINING, VALIDATION, TEST = "training", "validation", "test"
PARTS = (TRAINING, VALIDATION, TEST)
SLACK = 1 + 1e-6  # sums of many rows round


class BudgetError(Exception):
    """A release would exceed a limit, so nothing was computed. The numbers stay at the site; see `outside`."""

    outside = "the privacy budget of this site is used up; it takes no further part in this run"


@dataclass(frozen=True)
class Release:
    """Something that leaves the site with noise.

    Attributes
    ----------
    part
        Whose patients it is about: those of `TRAINING`, `VALIDATION` or `TEST`.
    mechanism
        What is released, and with which noise.
    delta
        Added to the δ of the run: the chance that a threshold which hides a rare cell fails to.
    """

    part: str
    mechanism: Mechanism
    delta: float = 0.0


@dataclass(frozen=True)
class Limit:
    """The most that may be spent.

    Attributes
    ----------
    of
        Which setting says so, for messages.
    for_life
        Of all runs together; False: of each run.
    """

    of: str
    epsilon: float
    delta: float
    for_life: bool = False
