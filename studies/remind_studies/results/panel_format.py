"""The format of one panel of results.json: its arms, groups and sites, their scores, and the course of training.

Scores and comparisons are in `score_format`.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from remind.config import Section
from remind_studies.results.score_format import (
    Best,
    Comparison,
    GroupScore,
    Joining,
    Mask,
    Natural,
    SiteScore,
    Summary,
)

Mean = Annotated[float, Field(ge=0)]


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
        Those of class 1, or with the event or label; None for more than two classes, and for a number.
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
