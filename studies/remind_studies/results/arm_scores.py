"""The scores of one arm of a panel: every measure, group and hospital by seed, and over the patients of all seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

from remind.metrics.chance import worst_by_chance
from remind.metrics.scores import Scores, scores
from remind.metrics.statistics import GroupStatistics, total
from remind_studies.cells.cell import Outcome
from remind_studies.results.measures import METRICS, ByMetric, Examined, Scope, by_metric, examine, measure

Key = TypeVar("Key", int, str)  # a group or a site
BySeed = Mapping[int, ByMetric]


@dataclass(frozen=True)
class ArmScores:
    """Scores of one arm.

    Attributes
    ----------
    measures, groups, sites
        Of each, by seed; a seed without a run, or without test patients of the group or site, is not there.
    pooled_groups, pooled_sites
        Of each, from the statistics of all seeds added up.
    if_equal
        By measure and metric: what a worst group or site would have if all were equal (`worst_by_chance`).
    auroc_bound
        The largest among ranked groups and sites and everybody, in any seed: how far an AUROC may be off by its bins.
    """

    measures: Mapping[str, BySeed]
    groups: Mapping[int, BySeed]
    sites: Mapping[str, BySeed]
    pooled_groups: Mapping[int, ByMetric]
    pooled_sites: Mapping[str, ByMetric]
    if_equal: Mapping[tuple[str, str], float]
    auroc_bound: float | None


def arm_scores(
    outcomes: Mapping[int, Outcome], scope: Scope, measures: Sequence[str], metrics: Sequence[str] = METRICS
) -> ArmScores:
    """Score what an arm's runs measured.

    Parameters
    ----------
    outcomes
        By seed, ascending: the order in which statistics are added up.
    metrics
        Scores of what is predicted; by default those of classes.

    Raises
    ------
    ValueError
        There is no measure of one of these names.
    """
    models = {
        seed: examine({site: {group: e.value() for group, e in own.items()} for site, own in outcome.test.items()})
        for seed, outcome in outcomes.items()
    }
    return ArmScores(
        measures={name: {seed: measure(name, model, scope) for seed, model in models.items()} for name in measures},
        groups=_turned({seed: model.groups for seed, model in models.items()}, metrics),
        sites=_turned({seed: model.sites for seed, model in models.items()}, metrics),
        pooled_groups=_pooled((model.by_group for model in models.values()), metrics),
        pooled_sites=_pooled((model.by_site for model in models.values()), metrics),
        if_equal=worst_by_chance(models, scope),
        auroc_bound=max((b for model in models.values() for b in _bounds(model, scope)), default=None),
    )


def _bounds(model: Examined, scope: Scope) -> Iterable[float]:
    everyone = total(model.by_group)
    counted = [own for group, own in model.groups.items() if group in scope.ranked_groups("auroc")]
    counted += [own for site, own in model.sites.items() if site in scope.ranked_sites("auroc")]
    counted += [scores(everyone)] if everyone else []
    return [own.auroc_bound for own in counted if own.auroc_bound is not None]


def _turned(by_seed: Mapping[int, Mapping[Key, Scores]], metrics: Sequence[str]) -> dict[Key, dict[int, ByMetric]]:
    """Return the scores by group or site, then seed."""
    found: dict[Key, dict[int, ByMetric]] = {}
    for seed, own in by_seed.items():
        for key, one in own.items():
            found.setdefault(key, {})[seed] = by_metric(one, metrics)
    return found


def _pooled(parts: Iterable[Mapping[Key, GroupStatistics]], metrics: Sequence[str]) -> dict[Key, ByMetric]:
    """Return the scores of each group's or site's patients of all parts together."""
    found: dict[Key, list[GroupStatistics]] = {}
    for part in parts:
        for key, statistics in part.items():
            found.setdefault(key, []).append(statistics)
    return {key: by_metric(scores(reduce(GroupStatistics.__add__, own)), metrics) for key, own in found.items()}
