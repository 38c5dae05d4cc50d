"""From one model's statistics per site and group to the numbers that models are compared by.

Several groups or sites become one number in two ways. *Together*: their patients are one set, and scored as such
(overall, tail_patients, head_patients, available, absent). *Apart*: each has its score, and these are averaged or the
worst is taken (mean_tail, mean_groups, worst_group, mean_sites, worst_site); who has none, for want of a second class
among its patients, is left out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

import numpy as np

from remind.metrics.scores import Scores, scores
from remind.metrics.statistics import GroupStatistics, merge, total
from remind_studies.study import Metric

METRICS: tuple[Metric, ...] = get_args(Metric)
LOWER_IS_BETTER: frozenset[Metric] = frozenset({"loss"})
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
DESCRIPTIVE = frozenset({"head_patients", "mean_groups", "mean_sites"})  # follow from the others
AMONG, BESIDES = "among", "besides"  # with groups: "among:5,7"
AVAILABLE, ABSENT = "available", "absent"  # with a modality's position: "available:2"

ByMetric = dict[Metric, float | None]


@dataclass(frozen=True)
class Scope:
    """What counts in a panel: the same groups and sites for every arm and seed.

    Attributes
    ----------
    tail
        Groups below the tail share of the training patients; every other group is head.
    groups, sites
        Those with enough tested patients to be ranked.
    """

    tail: frozenset[int]
    groups: frozenset[int]
    sites: frozenset[str]


@dataclass(frozen=True)
class Examined:
    """One model's test: statistics and scores of each group over all sites, and of each site over all groups."""

    by_group: Mapping[int, GroupStatistics]
    by_site: Mapping[str, GroupStatistics]
    groups: Mapping[int, Scores]
    sites: Mapping[str, Scores]


def examine(test: Mapping[str, Mapping[int, GroupStatistics]]) -> Examined:
    """Scores of a model from its statistics by site and group; the order of either does not matter, to the last bit."""
    ordered = {site: dict(sorted(own.items())) for site, own in sorted(test.items())}
    by_group = merge(ordered.values())
    by_site = {site: everyone for site, own in ordered.items() if (everyone := total(own))}
    return Examined(
        by_group=by_group,
        by_site=by_site,
        groups={group: scores(statistics) for group, statistics in by_group.items()},
        sites={site: scores(statistics) for site, statistics in by_site.items()},
    )


def measure(name: str, model: Examined, scope: Scope) -> ByMetric:
    """One measure of a model in every metric; None where it is undefined.

    Parameters
    ----------
    name
        One of `USUAL`, or ``"available:2"``, ``"absent:2"``: who has, or lacks, the modality at that position;
        or ``"among:5,7"``, ``"besides:5,7"``: who is of these groups, or of others.

    Raises
    ------
    ValueError
        There is no such measure.
    """
    ranked_groups = [s for group, s in model.groups.items() if group in scope.groups]
    ranked_tail = [s for group, s in model.groups.items() if group in scope.groups & scope.tail]
    ranked_sites = [s for site, s in model.sites.items() if site in scope.sites]
    match name:
        case "mean_tail":
            return _mean(ranked_tail)
        case "mean_groups":
            return _mean(ranked_groups)
        case "worst_group":
            return _worst(ranked_groups)
        case "mean_sites":
            return _mean(model.sites.values())
        case "worst_site":
            return _worst(ranked_sites)
    belongs = _patients(name, scope)
    everyone = total({group: own for group, own in model.by_group.items() if belongs(group)})
    return by_metric(scores(everyone) if everyone else None)


def by_metric(found: Scores | None) -> ByMetric:
    """The metrics among the scores; all None for no patients."""
    return {metric: getattr(found, metric) if found else None for metric in METRICS}


def _patients(name: str, scope: Scope) -> Callable[[int], bool]:
    """Whose patients are scored together, by group."""
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


def _mean(parts: Iterable[Scores]) -> ByMetric:
    return {metric: float(np.mean(own)) if own else None for metric, own in _defined(parts).items()}


def _worst(parts: Iterable[Scores]) -> ByMetric:
    return {
        metric: (max(own) if metric in LOWER_IS_BETTER else min(own)) if own else None
        for metric, own in _defined(parts).items()
    }


def _defined(parts: Iterable[Scores]) -> dict[Metric, list[float]]:
    values = [by_metric(part) for part in parts]
    return {metric: [v for own in values if (v := own[metric]) is not None] for metric in METRICS}
