"""Build one panel of results.json from its runs.

First count the patients, which decides what is ranked, then score each arm.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remind import groups
from remind.metrics.aggregates import lopsided
from remind.metrics.scores import EVERY, scores_of
from remind.outcomes.base import Outcome
from remind_studies.results import panel_format as written
from remind_studies.results import score_format as scored
from remind_studies.results.arm_scores import ArmScores, BySeed, arm_scores
from remind_studies.results.census import Census, census
from remind_studies.results.contenders import Contender, Run, contenders, reference
from remind_studies.results.joining import joining
from remind_studies.results.measures import COMPARABLE, DESCRIPTIVE, LOWER_IS_BETTER, USUAL, Scope
from remind_studies.results.statistics import Values, detectable, equivalence, estimate, holm, paired, standings
from remind_studies.results.traces import traces
from remind_studies.study import Metric, Panel


@dataclass(frozen=True)
class Ground:
    """Settings that the panels of a study share.

    Attributes
    ----------
    seeds
        Ascending.
    least
        Tested patients below which a group or hospital is never ranked.
    measure, margin
        What the study is judged by, and which difference in it counts as none: of scores in the unit of a predicted
        number, in this number's spread (`margin_of`).
    outcome
        What is predicted.
    """

    seeds: tuple[int, ...]
    folds: int
    metric: Metric
    least: int
    measure: str
    margin: float
    modalities: tuple[str, ...]
    outcome: Outcome

    @property
    def metrics(self) -> tuple[str, ...]:
        """Scores of the outcome."""
        return tuple(scores_of(self.outcome.kind, self.outcome.parts))

    @property
    def two_sides(self) -> bool:
        """Whether patients are on two sides, such as with and without an event, which tables count."""
        return len(self.outcome.strata) == 2 if self.outcome.by_class else self.outcome.sides is not None

    def margin_of(self, metric: str) -> float:
        """Return which difference in a score counts as none."""
        return self.margin * (self.outcome.spread[0] if EVERY[metric].in_unit else 1.0)


@dataclass(frozen=True)
class Columns:
    """Values of all arms in one measure and metric, one per seed."""

    measure: str
    metric: Metric
    by_arm: Mapping[str, Values]


def tabulate(panel: Panel, runs: Iterable[Run], ground: Ground) -> written.Panel:
    """Return the panel as results.json has it.

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
        lopsided_groups=frozenset(
            mask for mask, one in who.groups.items() if lopsided(one.once.by_class, ground.least)
        ),
        lopsided_sites=frozenset(site for site, one in who.sites.items() if lopsided(one.once.by_class, ground.least)),
    )
    names = tuple(dict.fromkeys((*USUAL, *panel.measures))) if any(row.outcomes for row in rows) else ()
    found = {row.name: arm_scores(row.outcomes, scope, names, ground.metrics) for row in rows} if names else {}
    columns = [
        Columns(name, metric, {arm: _values(own.measures[name], metric, ground) for arm, own in found.items()})
        for name in names
        for metric in ground.metrics
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
                positives=one.once.positives if ground.two_sides else None,
                fewest=one.fewest,
                ranked=site in scope.ranked_sites(ground.metric),
            )
            for site, one in who.sites.items()
        ),
        summaries=tuple(
            scored.Summary(
                arm=arm,
                measure=one.measure,
                metric=one.metric,
                if_equal=found[arm].if_equal.get((one.measure, one.metric)),
                **_estimated(values, one.metric, who.ratio),
            )
            for one in columns
            for arm, values in one.by_arm.items()
        ),
        by_group=_group_scores(found, who, ground),
        by_site=_site_scores(found, who, ground),
        tests=_tests([one for one in columns if one.metric == ground.metric], rows, against, who.ratio, ground),
        best=_best(
            [one for one in columns if one.metric in COMPARABLE],
            [row.name for row in rows if not row.anchor],
            who.ratio,
            ground,
        ),
        traces=traces(rows),
        joining=joining(
            rows,
            sorted(scope.ranked_sites(ground.metric)),
            ground.seeds,
            ground.metric,
            who.ratio,
            ground.margin_of(ground.metric),
        ),
        auroc_bound=max((b for own in found.values() if (b := own.auroc_bound) is not None), default=None),
    )


def _values(found: BySeed, metric: Metric, ground: Ground) -> Values:
    """Return one value per seed; None where there is no run, or no score."""
    return tuple(found[seed][metric] if seed in found else None for seed in ground.seeds)


def _estimated(values: Values, metric: Metric, ratio: float) -> dict[str, Any]:
    """Return the fields of a `scored.Estimate`: the interval ends where the metric does."""
    mean = estimate(values, ratio)
    score = EVERY[metric]
    high = min(mean.high, 1.0) if mean.high is not None and score.within_one else mean.high
    low = max(mean.low, 0.0) if mean.low is not None and (score.within_one or score.lower_is_better) else mean.low
    return {"values": values, "n": mean.n, "mean": mean.mean, "sd": mean.sd, "low": low, "high": high}


def _groups(who: Census, scope: Scope, ground: Ground) -> tuple[written.Group, ...]:
    """List the groups, most training patients first."""
    return tuple(
        written.Group(
            mask=mask,
            name=groups.name(mask, ground.modalities),
            tail=mask in who.tail,
            train_n=who.train[mask],
            test_n=one.mean,
            tested=one.once.patients,
            positives=one.once.positives if ground.two_sides else None,
            fewest=one.fewest,
            ranked=mask in scope.ranked_groups(ground.metric),
        )
        for mask, one in sorted(who.groups.items(), key=lambda item: (-who.train[item[0]], item[0]))
    )


def _group_scores(found: Mapping[str, ArmScores], who: Census, ground: Ground) -> tuple[scored.GroupScore, ...]:
    return tuple(
        scored.GroupScore(
            arm=arm,
            mask=mask,
            metric=metric,
            pooled=own.pooled_groups[mask][metric] if mask in own.pooled_groups else None,
            **_estimated(_values(own.groups.get(mask, {}), metric, ground), metric, who.ratio),
        )
        for arm, own in found.items()
        for mask in who.groups
        for metric in ground.metrics
    )


def _site_scores(found: Mapping[str, ArmScores], who: Census, ground: Ground) -> tuple[scored.SiteScore, ...]:
    return tuple(
        scored.SiteScore(
            arm=arm,
            site=site,
            metric=metric,
            pooled=own.pooled_sites[site][metric] if site in own.pooled_sites else None,
            **_estimated(_values(own.sites.get(site, {}), metric, ground), metric, who.ratio),
        )
        for arm, own in found.items()
        for site in who.sites
        for metric in ground.metrics
    )


def _tests(
    columns: Sequence[Columns], rows: Sequence[Contender], against: str, ratio: float, ground: Ground
) -> tuple[scored.Comparison, ...]:
    """Test every other arm against the reference; Holm over each family.

    Methods and anchors answer different questions and are families apart. So are the study's own measure, by which
    alone a headline is claimed, the other main measures, and those that describe what these already claim.
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
    family = [(arm in anchors, one.measure == ground.measure, one.measure in DESCRIPTIVE) for one, arm, _ in pairs]
    adjusted = _by_family(family, [found.p for _, _, found in pairs])
    equal = _by_family(
        family,
        [
            equivalence(one.by_arm[arm], one.by_arm[against], ratio, ground.margin_of(one.metric))
            for one, arm, _ in pairs
        ],
    )
    return tuple(
        scored.Comparison(
            measure=one.measure,
            metric=one.metric,
            arm=arm,
            against=against,
            difference=difference.mean,
            low=difference.low,
            high=difference.high,
            p=difference.p,
            p_adjusted=p,
            p_equal=p_equal,
            detectable=detectable(difference.sd, difference.n, ratio),
            n=difference.n,
        )
        for (one, arm, difference), p, p_equal in zip(pairs, adjusted, equal, strict=True)
    )


def _by_family(family: Sequence[Hashable], p_values: Values) -> list[float | None]:
    """Adjust p-values by Holm within each family."""
    adjusted: list[float | None] = [None] * len(p_values)
    for key in set(family):
        mine = [i for i, own in enumerate(family) if own == key]
        for i, p in zip(mine, holm([p_values[i] for i in mine]), strict=True):
            adjusted[i] = p
    return adjusted


def _best(columns: Iterable[Columns], ranked: Sequence[str], ratio: float, ground: Ground) -> tuple[scored.Best, ...]:
    return tuple(
        scored.Best(measure=one.measure, metric=one.metric, first=found.first, equal=found.equal, open=found.open)
        for one in columns
        if one.metric in COMPARABLE
        for found in (
            standings(
                {a: one.by_arm[a] for a in ranked},
                ratio,
                ground.margin_of(one.metric),
                lower=one.metric in LOWER_IS_BETTER,
            ),
        )
    )
