"""The format of the scores and comparisons in a panel of results.json.

Lists over seeds (`values`) are in the order of `Results.seeds`, None where a score is undefined or the run is missing.
Direction and bounds of each score are in the registry (`remind.metrics.score.Score`): of `brier`, `ece`, `log_loss`
(mean −ln p of the true class), `loss` (the objective's own, never compared between arms), `mae`, `rmse` and
`integrated_brier` lower is better. `mae` and `rmse` are in `Cohort.unit`. Groups are bitmasks over `Cohort.modalities`.
"""

from typing import Annotated, Self

from pydantic import Field, model_validator

from remind.config import Section
from remind.groups import MAX_MODALITIES
from remind_studies.study import Metric

Mask = Annotated[int, Field(ge=1, lt=2**MAX_MODALITIES)]
Natural = Annotated[int, Field(ge=0)]
Chance = Annotated[float, Field(ge=0, le=1)]


class Estimate(Section):
    """A score over seeds.

    Attributes
    ----------
    values
        One per seed.
    n
        Values that are defined.
    mean, sd
        Of these; the sd has n − 1 degrees of freedom, and is None below two values.
    low, high
        95 % interval of the mean, corrected for overlapping splits and cut at the metric's bounds; None below two
        values, or where they do not differ.
    """

    values: tuple[float | None, ...]
    n: Natural
    mean: float | None
    sd: float | None
    low: float | None
    high: float | None

    @model_validator(mode="after")
    def _counts(self) -> Self:
        if self.n != sum(value is not None for value in self.values):
            raise ValueError("n is not the number of values that are defined")
        return self


class Summary(Estimate):
    """A measure of an arm, such as ``mean_tail``.

    Attributes
    ----------
    if_equal
        Of a worst group or site: what its mean would be if all had the arm's score of all patients, and the worst were
        so by chance alone. None of other measures, and of scores without such a simulation.
    """

    arm: str
    measure: str
    metric: Metric
    if_equal: float | None = None


class GroupScore(Estimate):
    """An arm's score of one group; `pooled` is that of all seeds' test patients together."""

    arm: str
    mask: Mask
    metric: Metric
    pooled: float | None


class SiteScore(Estimate):
    """An arm's score of one hospital; `pooled` is that of all seeds' test patients together."""

    arm: str
    site: str
    metric: Metric
    pooled: float | None


class Comparison(Section):
    """A paired comparison with the panel's reference, in the study's metric.

    Attributes
    ----------
    difference
        Mean over seeds of `arm` minus `against`; None without a seed in which both are defined.
    low, high
        Its 95 % interval, corrected for overlapping splits but not for many comparisons.
    p, p_adjusted
        Of no difference; and by Holm over its family: the tests of methods, or those of anchors, in the study's own
        measure, in the other main measures, or in the descriptive ones. None where there is no interval.
    p_equal
        Of a difference of `Results.margin` or more (two one-sided tests), by Holm over the same family.
    detectable
        The smallest true difference that this test, before the adjustment, finds with a chance of 80 %.
    n
        Seeds in which both are defined.
    """

    measure: str
    metric: Metric
    arm: str
    against: str
    difference: float | None
    low: float | None
    high: float | None
    p: Chance | None
    p_adjusted: Chance | None
    p_equal: Chance | None = None
    detectable: float | None = None
    n: Natural


class Best(Section):
    """Where the methods stand in a measure; anchors are never among them.

    Attributes
    ----------
    first
        The best mean; empty where there is none.
    equal
        Methods that are shown to lie within `Results.margin` of it.
    open
        Methods that are neither shown to differ from it nor shown to be equal. All others are behind.
    """

    measure: str
    metric: Metric
    first: str
    equal: tuple[str, ...]
    open: tuple[str, ...]

    @property
    def arms(self) -> tuple[str, ...]:
        """The first and its equals: the best, if nothing is open."""
        return (self.first, *self.equal) if self.first else ()


class Gain(Section):
    """A hospital's score with a federated model against its best alone.

    Attributes
    ----------
    alone, joined
        Means over seeds; `alone` of what its validation patients chose in each seed.
    chosen
        In how many seeds they chose which arm.
    gain, low, high
        Mean paired difference with its interval; positive where joining is better, also of losses.
    p_adjusted, p_equal
        By Holm over the hospitals.
    """

    site: str
    alone: float | None
    joined: float | None
    chosen: dict[str, Natural]
    gain: float | None
    low: float | None
    high: float | None
    p_adjusted: Chance | None
    p_equal: Chance | None
    n: Natural


class Joining(Section):
    """What the ranked hospitals gain with a federated model, and the mean over them."""

    arm: str
    hospitals: tuple[Gain, ...]
    gain: float | None
    low: float | None
    high: float | None
    p: Chance | None
