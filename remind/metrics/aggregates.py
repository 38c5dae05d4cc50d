"""Aggregates one model's statistics per site and group to the numbers by which a model is judged.

The terminal, summary.json, the page and the studies all use these definitions (docs/statistics.md):

- *tail*: groups below the tail share of the training patients; a group without training patients is tail
  (`groups.tail`);
- *ranked*: a group or site of at least `LEAST` tested patients, and by a score that needs two classes, such as AUROC,
  only if two classes have at least `LEAST_OF_A_CLASS` of them each. Groups and sites that are not ranked are
  shown, but excluded from every mean over groups and every worst.
- *small*: a group that is not ranked by a score that needs two classes. Where groups are listed, the small ones
  are folded into one row with the score of all their patients together (`small_groups`).

Several groups or sites become one number in two ways. *Together*: their patients are scored as one set
(overall, tail_patients, head_patients, available, absent). *Apart*: each has its score, and these are averaged or the
worst is taken (mean_tail, mean_groups, worst_group, mean_sites, worst_site); `averaged` says of how many.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np

from remind import groups
from remind.metrics.score import Score
from remind.metrics.scores import EVERY, SCORES, Scores, scores, scores_from
from remind.metrics.statistics import GroupStatistics, merge, total

LEAST = 30  # with fewer tested patients, a group or site is shown but never ranked
OF_A_CLASS = 3  # … by AUROC, where fewer than a third of that number are of a second class: 10 events, 10 without
LEAST_OF_A_CLASS = LEAST // OF_A_CLASS
USUAL = (
    "overall",
    "mean_tail",
    "tail_patients",
    "head_patients",
    "mean_groups",
    "worst_group",
    "mean_sites",
    "worst_site",
)
AMONG, BESIDES = "among", "besides"  # followed by groups: "among:5,7"
AVAILABLE, ABSENT = "available", "absent"  # followed by a modality's position: "available:2"

ByMetric = dict[str, float | None]


def is_ranked(by_class: Collection[int], score: Score, least: int = LEAST) -> bool:
    """Return whether these numbers of tested patients by class are enough for a ranking by a score."""
    return sum(by_class) >= least and not (score.two_classes and lopsided(by_class, least))


def lopsided(by_class: Collection[int], least: int = LEAST) -> bool:
    """Return whether fewer than two classes have enough patients; never of an outcome without classes (one number).

    An AUROC of 10 patients with the outcome and 30 without has a standard error of about .1 (Hanley and McNeil 1982).
    With one patient of a class, the AUROC is only that patient's rank.
    """
    return len(by_class) != 1 and sum(n >= max(1, least // OF_A_CLASS) for n in by_class) < 2


def is_supported(by_class: Collection[int], least: int = LEAST) -> bool:
    """Return whether these numbers of tested patients by class are enough for a ranking by every score.

    A group without this support is *small*: lists fold it.
    """
    return sum(by_class) >= least and not lopsided(by_class, least)


def small_groups(by_group: Mapping[int, GroupStatistics], least: int = LEAST) -> frozenset[int]:
    """Return the groups with tested patients that lists fold into one row."""
    return frozenset(k for k, found in by_group.items() if not is_supported(by_class(found), least))


@dataclass(frozen=True)
class Scope:
    """The groups and sites that are ranked. They are the same for every arm and seed of a study's panel.

    In a run they follow from its test patients.

    Attributes
    ----------
    tail
        Groups below the tail share of the training patients; every other group is head.
    groups, sites
        Those with enough tested patients to be ranked.
    lopsided_groups, lopsided_sites
        Those with too few tested patients of a second class: not ranked by scores that need two.
    """

    tail: frozenset[int]
    groups: frozenset[int]
    sites: frozenset[str]
    lopsided_groups: frozenset[int] = frozenset()
    lopsided_sites: frozenset[str] = frozenset()

    def ranked_groups(self, metric: str) -> frozenset[int]:
        """Return the groups that are ranked by this score."""
        return self.groups - self.lopsided_groups if EVERY[metric].two_classes else self.groups

    def ranked_sites(self, metric: str) -> frozenset[str]:
        """Return the sites that are ranked by this score."""
        return self.sites - self.lopsided_sites if EVERY[metric].two_classes else self.sites


@dataclass(frozen=True)
class Examined:
    """The test of one model: statistics and scores of each group over all sites, and of each site over all groups."""

    by_group: Mapping[int, GroupStatistics]
    by_site: Mapping[str, GroupStatistics]
    groups: Mapping[int, Scores]
    sites: Mapping[str, Scores]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the scores of its outcome; those of classes if nobody was tested."""
        return tuple(next((scores_from(own) for own in self.by_group.values()), SCORES))


def examine(test: Mapping[str, Mapping[int, GroupStatistics]]) -> Examined:
    """Compute a model's scores from its statistics by site and group. The result does not depend on their order."""
    ordered = {site: dict(sorted(own.items())) for site, own in sorted(test.items())}
    by_group = merge(ordered.values())
    by_site = {site: everyone for site, own in ordered.items() if (everyone := total(own))}
    return Examined(
        by_group=by_group,
        by_site=by_site,
        groups={group: scores(statistics) for group, statistics in by_group.items()},
        sites={site: scores(statistics) for site, statistics in by_site.items()},
    )


def scope_of(model: Examined, counts: Mapping[int, int], least: int = LEAST) -> Scope:
    """Return the scope of one run, from its training patients `counts` and its test."""
    return Scope(
        tail=tail_groups(counts, model.by_group),
        groups=frozenset(k for k, s in model.by_group.items() if s.count >= least),
        sites=frozenset(name for name, s in model.by_site.items() if s.count >= least),
        lopsided_groups=frozenset(k for k, s in model.by_group.items() if lopsided(by_class(s), least)),
        lopsided_sites=frozenset(name for name, s in model.by_site.items() if lopsided(by_class(s), least)),
    )


def tail_groups(counts: Mapping[int, int], tested: Collection[int] = ()) -> frozenset[int]:
    """Return the tail among the groups that were trained on or tested.

    A group without training patients has share 0.
    """
    return groups.tail(dict.fromkeys(tested, 0) | dict(counts))


def by_class(statistics: GroupStatistics) -> list[int]:
    """Return the number of patients of each class.

    Without classes: of those without and with the event, on average over the score histograms (labels), or of all.
    """
    if len(statistics.confusion_CC):
        return [int(n) for n in statistics.confusion_CC.sum(axis=1)]
    every, hits = (int(n) for n in statistics.scores.totals())
    if not every:
        return [statistics.count]
    events = round(statistics.count * hits / every)
    return [statistics.count - events, events]


def measure(name: str, model: Examined, scope: Scope) -> ByMetric:
    """Return one measure of a model in every score; None where it is undefined.

    Parameters
    ----------
    name
        One of `USUAL`; or ``"available:2"``, ``"absent:2"``: patients who have, or lack, the modality at this position;
        or ``"among:5,7"``, ``"besides:5,7"``: patients of these groups, or of all other groups.

    Raises
    ------
    ValueError
        There is no such measure.
    """
    if name in _APART:
        return {
            metric: _combined(name, metric, list(apart(name, model, scope, metric).values()))
            for metric in model.metrics
        }
    belongs = _patients(name, scope)
    everyone = total({group: own for group, own in model.by_group.items() if belongs(group)})
    return by_metric(scores(everyone) if everyone else None, model.metrics)


def averaged(name: str, model: Examined, scope: Scope) -> dict[str, int]:
    """Return how many groups or sites a measure averages, or takes the worst of, per score."""
    return {metric: len(apart(name, model, scope, metric)) for metric in model.metrics}


def apart(name: str, model: Examined, scope: Scope, metric: str) -> dict[int | str, float]:
    """Return the scores behind ``mean_tail``, ``worst_group`` and similar measures, by group or site."""
    found: Mapping[int, Scores] | Mapping[str, Scores]
    chosen: Collection[int | str]
    if name.endswith(("_site", "_sites")):
        found, chosen = model.sites, (scope.ranked_sites(metric) if name == "worst_site" else model.sites)
    else:
        ranked = scope.ranked_groups(metric)
        found, chosen = model.groups, (ranked & scope.tail if name == "mean_tail" else ranked)
    values = {key: getattr(own, metric) for key, own in found.items() if key in chosen}
    return {key: value for key, value in values.items() if value is not None}


def worst(values: Mapping[int | str, float], metric: str) -> int | str | None:
    """Return the group or site with the worst score; None if there is none."""
    sign = -1 if EVERY[metric].lower_is_better else 1
    return min(values, key=lambda key: (sign * values[key], str(key)), default=None)


def by_metric(found: Scores | None, metrics: Collection[str] = tuple(SCORES)) -> ByMetric:
    """Return these scores; all None if there are no patients."""
    return {metric: getattr(found, metric) if found else None for metric in metrics}


_APART = frozenset({"mean_tail", "mean_groups", "worst_group", "mean_sites", "worst_site"})


def _combined(name: str, metric: str, values: list[float]) -> float | None:
    if not values:
        return None
    if name.startswith("mean"):
        return float(np.mean(values))
    return max(values) if EVERY[metric].lower_is_better else min(values)


def _patients(name: str, scope: Scope) -> Callable[[int], bool]:
    """Return the patients that are scored together, by group."""
    kind, _, position = name.partition(":")
    if kind in {AVAILABLE, ABSENT} and position.isdecimal():
        has = kind == AVAILABLE
        return lambda group: bool(group >> int(position) & 1) == has
    if kind in {AMONG, BESIDES} and all(mask.isdecimal() for mask in position.split(",")):
        masks = {int(mask) for mask in position.split(",")}
        return lambda group: (group in masks) == (kind == AMONG)
    match name:
        case "overall":
            return lambda group: True
        case "tail_patients":
            return lambda group: group in scope.tail
        case "head_patients":
            return lambda group: group not in scope.tail
    raise ValueError(f"there is no measure {name!r}")
