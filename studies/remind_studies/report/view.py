"""Look up the parts of a panel by name, in the order of the tables."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from remind import groups
from remind.metrics.aggregates import OF_A_CLASS
from remind.metrics.score import Score
from remind.metrics.scores import EVERY, scores_of
from remind.outcomes.base import kind_of
from remind_studies.report.cells import BEST, EQUAL, FIRST, OPEN
from remind_studies.report.forest import Difference
from remind_studies.report.style import Look, looks
from remind_studies.report.words import MEASURES, METRICS
from remind_studies.results import Best, GroupScore, Panel, Results, SiteScore, Summary
from remind_studies.results.measures import LOWER_IS_BETTER
from remind_studies.results.statistics import LEVEL
from remind_studies.study import Metric

WITHIN = {"available": "patients with", "absent": "patients without"}
HEADLINE = ("overall", "mean_tail", "tail_patients", "worst_group", "worst_site")


@dataclass(frozen=True)
class PanelView:
    """One panel, in the study's metric unless another is asked for.

    Attributes
    ----------
    key
        Distinguishes its tables and figures on the page.
    """

    results: Results
    panel: Panel
    key: str

    @property
    def metric(self) -> Metric:
        """Return the metric of the headline."""
        return self.results.metric

    @property
    def metric_name(self) -> str:
        """Return the title of the metric, with its unit."""
        return self.name_of(self.metric)

    @property
    def margin(self) -> str:
        """Return the margin of equality, with its unit."""
        return f"±{self.results.margin:g}{self._unit(self.metric)}"

    def name_of(self, metric: str) -> str:
        """Return the title of a score; where it is in the unit of what is predicted, with the unit."""
        unit = self._unit(metric).strip()
        title = self._scores[metric].title
        return f"{title} ({unit})" if unit else title

    @cached_property
    def _scores(self) -> dict[str, Score]:
        return scores_of(self.results.cohort.outcome, self.results.cohort.parts or None)

    def _unit(self, metric: str) -> str:
        unit = self.results.cohort.unit
        return f" {unit}" if unit and EVERY[metric].in_unit else ""

    @property
    def lower_better(self) -> bool:
        """Return whether lower values of the metric are better."""
        return self.metric in LOWER_IS_BETTER

    @property
    def seeds(self) -> int:
        """Return the number of seeds."""
        return len(self.results.seeds)

    @property
    def title(self) -> str:
        """Return the name for people."""
        return self.panel.title or self.panel.name

    @property
    def reference(self) -> str:
        """Return the arm that others are compared with; empty if there is none."""
        return self.panel.reference

    @cached_property
    def arms(self) -> tuple[str, ...]:
        """Return the methods in the order of the results, then anchors."""
        return (*self.methods, *self.anchors)

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """Return the arms that are ranked."""
        return tuple(arm.name for arm in self.panel.arms if not arm.anchor)

    @cached_property
    def anchors(self) -> tuple[str, ...]:
        """Return the arms that are yardsticks."""
        return tuple(arm.name for arm in self.panel.arms if arm.anchor)

    @cached_property
    def rivals(self) -> tuple[str, ...]:
        """Return the methods except the reference."""
        return tuple(arm for arm in self.methods if arm != self.reference)

    @cached_property
    def looks(self) -> dict[str, Look]:
        """Return how its arms are drawn."""
        return looks(self.arms, self.anchors, self.reference)

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """Measures of the headline table: the study's own, the usual ones, and what the panel asked for besides."""
        there = list(dict.fromkeys(one.measure for one in self.panel.summaries if one.metric == self.metric))
        first = [name for name in dict.fromkeys((self.results.measure, *HEADLINE)) if name in there]
        return (*first, *(name for name in there if name not in MEASURES))

    @cached_property
    def further(self) -> tuple[tuple[str, str], ...]:
        """Return the pairs of measure and metric that the headline table leaves out."""
        there = list(dict.fromkeys((one.measure, one.metric) for one in self.panel.summaries))
        headline = {(name, self.metric) for name in self.measures}
        names = dict.fromkeys((self.results.measure, "overall"))
        rest = [pair for pair in there if pair not in headline and (pair[1] == self.metric or pair[0] in names)]
        order = list(METRICS)
        return tuple(sorted(rest, key=lambda pair: (pair[1] != self.metric, order.index(pair[1]))))

    def measure_name(self, measure: str) -> str:
        """Return the title of a measure; in ``available:2`` the position becomes the modality's name."""
        kind, _, position = measure.partition(":")
        modalities = self.results.cohort.modalities
        if kind in WITHIN and position.isdecimal() and int(position) < len(modalities):
            return f"{WITHIN[kind]} {modalities[int(position)]}"
        if kind == "among":
            return "patients of " + ", ".join(groups.name(int(mask), modalities) for mask in position.split(","))
        if kind == "besides":
            return "patients of other groups"
        return MEASURES.get(measure, measure)

    @property
    def ranked_tail(self) -> str:
        """Return a sentence that says how many groups the means over tail groups cover."""
        tail = [group for group in self.panel.groups if group.tail]
        ranked = sum(group.ranked for group in tail)
        if self.panel.withheld_groups:  # the mean covers them too, and how many of them are tail is not shown
            return f"Mean of tail groups: those of {self.enough}, also of the groups that are left out here."
        return f"Mean of tail groups: {ranked} of {len(tail)} tail groups, those of {self.enough}."

    @property
    def enough(self) -> str:
        """Return a sentence about what a group or site needs to be ranked."""
        least = self.results.least
        sides = kind_of(self.results.cohort.outcome).sides
        needs_both = EVERY[self.metric].two_classes and sides is not None
        classes = f", {max(1, least // OF_A_CLASS)} {sides.each}" if needs_both and sides else ""
        return f"{least} tested patients or more{classes}"

    def summary(self, arm: str, measure: str, metric: str = "") -> Summary | None:
        """Return a measure of an arm; None if no run has it."""
        return self._summaries.get((arm, measure, metric or self.metric))

    def group_score(self, arm: str, mask: int) -> GroupScore | None:
        """Return an arm's score of a group."""
        return self._groups.get((arm, mask))

    def site_score(self, arm: str, site: str) -> SiteScore | None:
        """Return an arm's score of a site."""
        return self._sites.get((arm, site))

    def best(self, measure: str, metric: str = "") -> Best:
        """Return the standing of the methods in a measure."""
        metric = metric or self.metric
        found = (one for one in self.panel.best if (one.measure, one.metric) == (measure, metric))
        return next(found, Best(measure=measure, metric=metric, first="", equal=(), open=()))

    def mark(self, arm: str, measure: str, metric: str = "") -> str:
        """Return the sign of a method in a column; none if it is behind."""
        standing = self.best(measure, metric)
        if arm == standing.first:
            return FIRST if standing.open else BEST
        return EQUAL if arm in standing.equal else OPEN if arm in standing.open else ""

    def differences(self, measure: str, metric: str = "") -> list[Difference]:
        """Return every other arm minus the reference, anchors last, without arms that were not tested."""
        metric = metric or self.metric
        found: dict[str, Difference] = {}
        for test in self.panel.tests:
            if (test.measure, test.metric) != (measure, metric):
                continue
            p = test.p_adjusted
            sure = p is not None and p < LEVEL
            if test.against == self.reference:
                arm, ends = test.arm, (test.difference, test.low, test.high)
            elif test.arm == self.reference:
                arm, ends = test.against, (_minus(test.difference), _minus(test.high), _minus(test.low))
            else:
                continue
            equal = not sure and test.p_equal is not None and test.p_equal < LEVEL
            found[arm] = Difference(arm, *ends, p, sure, arm in self.anchors, test.n, equal, test.detectable)
        return [found[arm] for arm in self.arms if arm in found]

    @cached_property
    def tested(self) -> tuple[tuple[str, str], ...]:
        """Measures and metrics in which arms were tested against the reference, the headline's first."""
        there = dict.fromkeys((one.measure, one.metric) for one in self.panel.tests)
        first = [(name, self.metric) for name in self.measures if (name, self.metric) in there]
        return (*first, *(pair for pair in there if pair not in first))

    def better(self, difference: Difference) -> bool | None:
        """Return whether the other arm is surely better than the reference; None where no difference was found."""
        if not difference.sure or difference.difference is None:
            return None
        return (difference.difference < 0) if self.lower_better else (difference.difference > 0)

    def first(self, arms: Iterable[str], measure: str) -> str:
        """Return the arm with the best mean; empty if none has a mean."""
        means = {arm: one.mean for arm in arms if (one := self.summary(arm, measure)) is not None}
        known = {arm: mean if self.lower_better else -mean for arm, mean in means.items() if mean is not None}
        return min(known, key=lambda arm: known[arm], default="")

    @cached_property
    def _summaries(self) -> dict[tuple[str, str, str], Summary]:
        return {(one.arm, one.measure, one.metric): one for one in self.panel.summaries}

    @cached_property
    def _groups(self) -> dict[tuple[str, int], GroupScore]:
        return {(one.arm, one.mask): one for one in self.panel.by_group if one.metric == self.metric}

    @cached_property
    def _sites(self) -> dict[tuple[str, str], SiteScore]:
        return {(one.arm, one.site): one for one in self.panel.by_site if one.metric == self.metric}


def views(results: Results) -> Sequence[PanelView]:
    """Return all panels."""
    return [PanelView(results, panel, f"p{i}") for i, panel in enumerate(results.panels, start=1)]


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
