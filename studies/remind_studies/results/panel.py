"""Build one panel of results.json from its runs.

First count the patients, which decides what is ranked, then score each arm.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remind import groups
from remind.metrics.scores import SCORES
from remind_studies.results import panel_format as written
from remind_studies.results.arm_scores import ArmScores, BySeed, arm_scores
from remind_studies.results.census import Census, census
from remind_studies.results.contenders import Contender, Run, contenders, reference
from remind_studies.results.measures import COMPARABLE, DESCRIPTIVE, LOWER_IS_BETTER, METRICS, USUAL, Scope
from remind_studies.results.statistics import Values, estimate, holm, paired, tied_best
from remind_studies.results.traces import traces
from remind_studies.study import Metric, Panel


@dataclass(frozen=True)
class Ground:
    """What the panels of a study share.

    Attributes
    ----------
    seeds
        Ascending.
    least
        Tested patients below which a group or hospital is never ranked.
    """

    seeds: tuple[int, ...]
    folds: int
    metric: Metric
    least: int
    modalities: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Columns:
    """Values of all arms in one measure and metric, one per seed."""

    measure: str
    metric: Metric
    by_arm: Mapping[str, Values]


def tabulate(panel: Panel, runs: Iterable[Run], ground: Ground) -> written.Panel:
    """The panel as results.json has it.

    Raises
    ------
    UserError
        Arms were tested on different patients.
    """
    rows = contenders(panel, runs)
    who = census(panel.name, rows, ground.folds)
    scope = Scope(
        tail=who.tail,
        groups=frozenset(mask for mask, one in who.groups.items() if one.once.patients >= ground.least),
        sites=frozenset(site for site, one in who.sites.items() if one.once.patients >= ground.least),
        one_class_groups=frozenset(mask for mask, one in who.groups.items() if one.once.one_class),
        one_class_sites=frozenset(site for site, one in who.sites.items() if one.once.one_class),
    )
    names = tuple(dict.fromkeys((*USUAL, *panel.measures))) if any(row.outcomes for row in rows) else ()
    found = {row.name: arm_scores(row.outcomes, scope, names) for row in rows} if names else {}
    columns = [
        Columns(name, metric, {arm: _values(own.measures[name], metric, ground) for arm, own in found.items()})
        for name in names
        for metric in METRICS
    ]
    against = reference(panel, rows)
    return written.Panel(
        name=panel.name,
        title=panel.title,
        reference=against,
        arms=tuple(written.Arm(name=row.name, anchor=row.anchor) for row in rows),
        groups=_groups(who, scope, ground),
        sites=tuple(
            written.Site(
                name=site,
                test_n=one.mean,
                tested=one.once.patients,
                positives=one.once.positives if len(ground.classes) == 2 else None,
                fewest=one.fewest,
                ranked=site in scope.ranked_sites(ground.metric),
            )
            for site, one in who.sites.items()
        ),
        summaries=tuple(
            written.Summary(
                arm=arm, measure=one.measure, metric=one.metric, **_estimated(values, one.metric, who.ratio)
            )
            for one in columns
            for arm, values in one.by_arm.items()
        ),
        by_group=_group_scores(found, who, ground),
        by_site=_site_scores(found, who, ground),
        tests=_tests([one for one in columns if one.metric == ground.metric], rows, against, who.ratio),
        best=_best(
            [one for one in columns if one.metric in COMPARABLE],
            [row.name for row in rows if not row.anchor],
            who.ratio,
        ),
        traces=traces(rows),
        auroc_bound=max((b for own in found.values() if (b := own.auroc_bound) is not None), default=None),
    )


def _values(found: BySeed, metric: Metric, ground: Ground) -> Values:
    """One value per seed; None where there is no run, or no score."""
    return tuple(found[seed][metric] if seed in found else None for seed in ground.seeds)


def _estimated(values: Values, metric: Metric, ratio: float) -> dict[str, Any]:
    """Fields of a `written.Estimate`: the interval ends where the metric does."""
    mean = estimate(values, ratio)
    high = mean.high if mean.high is None or not SCORES[metric].within_one else min(mean.high, 1.0)
    low = None if mean.low is None else max(mean.low, 0.0)
    return {"values": values, "n": mean.n, "mean": mean.mean, "sd": mean.sd, "low": low, "high": high}


def _groups(who: Census, scope: Scope, ground: Ground) -> tuple[written.Group, ...]:
    """Most training patients first."""
    return tuple(
        written.Group(
            mask=mask,
            name=groups.name(mask, ground.modalities),
            tail=mask in who.tail,
            train_n=who.train[mask],
            test_n=one.mean,
            tested=one.once.patients,
            positives=one.once.positives if len(ground.classes) == 2 else None,
            fewest=one.fewest,
            ranked=mask in scope.ranked_groups(ground.metric),
        )
        for mask, one in sorted(who.groups.items(), key=lambda item: (-who.train[item[0]], item[0]))
    )


def _group_scores(found: Mapping[str, ArmScores], who: Census, ground: Ground) -> tuple[written.GroupScore, ...]:
    return tuple(
        written.GroupScore(
            arm=arm,
            mask=mask,
            metric=metric,
            pooled=own.pooled_groups[mask][metric] if mask in own.pooled_groups else None,
            **_estimated(_values(own.groups.get(mask, {}), metric, ground), metric, who.ratio),
        )
        for arm, own in found.items()
        for mask in who.groups
        for metric in METRICS
    )


def _site_scores(found: Mapping[str, ArmScores], who: Census, ground: Ground) -> tuple[written.SiteScore, ...]:
    return tuple(
        written.SiteScore(
            arm=arm,
            site=site,
            metric=metric,
            pooled=own.pooled_sites[site][metric] if site in own.pooled_sites else None,
            **_estimated(_values(own.sites.get(site, {}), metric, ground), metric, who.ratio),
        )
        for arm, own in found.items()
        for site in who.sites
        for metric in METRICS
    )


def _tests(
    columns: Sequence[Columns], rows: Sequence[Contender], against: str, ratio: float
) -> tuple[written.Comparison, ...]:
    """Every other arm against the reference; Holm over each family.

    Methods and anchors answer different questions and are families apart; so are the measures that describe what the
    others already claim (`DESCRIPTIVE`).
    """
    if not against:
        return ()
    pairs = [
        (one, arm, paired(values, one.by_arm[against], ratio))
        for one in columns
        for arm, values in one.by_arm.items()
        if arm != against
    ]
    anchors = {row.name for row in rows if row.anchor}
    family = [(arm in anchors, one.measure in DESCRIPTIVE) for one, arm, _ in pairs]
    adjusted: list[float | None] = [None] * len(pairs)
    for key in set(family):
        mine = [i for i, own in enumerate(family) if own == key]
        for i, p in zip(mine, holm([pairs[i][2].p for i in mine]), strict=True):
            adjusted[i] = p
    return tuple(
        written.Comparison(
            measure=one.measure,
            metric=one.metric,
            arm=arm,
            against=against,
            difference=difference.mean,
            low=difference.low,
            high=difference.high,
            p=difference.p,
            p_adjusted=p,
            n=difference.n,
        )
        for (one, arm, difference), p in zip(pairs, adjusted, strict=True)
    )


def _best(columns: Iterable[Columns], ranked: Sequence[str], ratio: float) -> tuple[written.Best, ...]:
    return tuple(
        written.Best(
            measure=one.measure,
            metric=one.metric,
            arms=tied_best({arm: one.by_arm[arm] for arm in ranked}, ratio, lower=one.metric in LOWER_IS_BETTER),
        )
        for one in columns
        if one.metric in COMPARABLE
    )
