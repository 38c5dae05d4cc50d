"""The format of one panel of results.json.

Lists over seeds (`values`) are in the order of `Results.seeds`, None where a score is undefined or the run is missing.
Scores are between 0 and 1, higher is better; of `log_loss` (mean −ln p of the true class) and `loss` (the objective's
own, never compared between arms) lower is better. Groups are bitmasks over `Cohort.modalities`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from remind.config import Section
from remind.groups import MAX_MODALITIES
from remind_studies.study import Metric

Mask = Annotated[int, Field(ge=1, lt=2**MAX_MODALITIES)]
Natural = Annotated[int, Field(ge=0)]
Mean = Annotated[float, Field(ge=0)]
Chance = Annotated[float, Field(ge=0, le=1)]


class Arm(Section):
    """A row of a panel. An `anchor` (each hospital alone, all patients in one place) is shown, but never ranked."""

    name: str
    anchor: bool


class Group(Section):
    """A modality combination.

    Attributes
    ----------
    tail
        Whether its share of the training patients of all seeds is below the tail share.
    train_n, test_n
        Training and test patients: means over seeds.
    tested
        Patients tested at least once: the sum over the folds of one partition, of that partition that tested most.
    positives
        Those of class 1; None for more than two classes.
    fewest
        Fewest patients of one class that a seed tested: what `values` of a score are of; classes without a patient
        aside.
    ranked
        Whether `tested` is at least `Results.least`, and of two classes where the study's metric needs them.
    """

    mask: Mask
    name: str
    tail: bool
    train_n: Mean
    test_n: Mean
    tested: Natural
    positives: Natural | None
    fewest: Natural = 0
    ranked: bool


class Site(Section):
    """A hospital; `test_n`, `tested`, `positives`, `fewest` and `ranked` as of a `Group`."""

    name: str
    test_n: Mean
    tested: Natural
    positives: Natural | None = None
    fewest: Natural = 0
    ranked: bool


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


class TraceRound(Section):
    """A round: means over the seeds that have the number.

    Attributes
    ----------
    stage
        1 warm-up, 2 routing.
    weights
        λ_k used in the round, by group.
    gate_open
        Share of validation patients whose routing used Φ_k, by group.
    validation_log_loss
        Of the model that the round began with.
    """

    round: Natural
    stage: Literal[1, 2]
    weights: dict[Mask, float]
    gate_open: dict[Mask, float]
    validation_log_loss: float | None


class Trace(Section):
    """Training of an arm. Rows of one run have the same."""

    arm: str
    rounds: tuple[TraceRound, ...]


class Panel(Section):
    """One table: arms compared on the same patients.

    Attributes
    ----------
    reference
        The arm that the others are tested against; empty if there is none.
    arms, groups, sites
        In the order of the tables: as planned; most training patients first; by name.
    summaries, by_group, by_site
        For every arm, metric, and measure, group or site. Empty where no run has measured a model.
    auroc_bound
        How far any AUROC of a ranked group, a ranked site or everybody may be off by the bins of its histogram.
    tests, best, traces, joining
        As their types say; a trace only of arms that have one.
    withheld_groups, withheld_sites
        How many are left out because of the minimum count.
    """

    name: str
    title: str
    reference: str
    arms: tuple[Arm, ...]
    groups: tuple[Group, ...]
    sites: tuple[Site, ...]
    summaries: tuple[Summary, ...]
    by_group: tuple[GroupScore, ...]
    by_site: tuple[SiteScore, ...]
    tests: tuple[Comparison, ...]
    best: tuple[Best, ...]
    traces: tuple[Trace, ...]
    joining: tuple[Joining, ...] = ()
    auroc_bound: float | None = None
    withheld_groups: Natural = 0
    withheld_sites: Natural = 0

    @model_validator(mode="after")
    def _names_its_arms(self) -> Self:
        named = {self.reference} - {""}
        named |= {one.arm for one in self.summaries} | {one.arm for one in self.traces}
        named |= {one.arm for one in self.by_group} | {one.arm for one in self.by_site}
        named |= {one.arm for one in self.joining}
        named |= {arm for one in self.joining for gain in one.hospitals for arm in gain.chosen}
        named |= {one.arm for one in self.tests} | {one.against for one in self.tests}
        named |= {arm for one in self.best for arm in (*one.arms, *one.open)}
        if strange := sorted(named - {arm.name for arm in self.arms}):
            raise ValueError(f"panel {self.name!r} has no arm {strange[0]!r}")
        return self
