"""Build results.json of a study from its runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from remind.config import Scalar
from remind.data.cohort.cohort import Cohort
from remind.metrics.aggregates import LEAST
from remind_studies.results import format as written
from remind_studies.results.contenders import Run, contenders
from remind_studies.results.panel import Ground, tabulate
from remind_studies.results.statistics import MARGIN, estimate
from remind_studies.study import Arm, Metric, Panel

PRIMARY = "mean_tail"  # what studies are judged by
NO_RESULT = "no result"


def results(
    *,
    study: str,
    title: str,
    cohort: Cohort,
    panels: Sequence[Panel],
    runs: Iterable[Run],
    seeds: Sequence[int],
    folds: int,
    metric: Metric,
    tuning: Mapping[str, Any],
    common: Mapping[str, Scalar],
    missing: Mapping[str, str],
    made: written.StudyMade,
    advice: str = "",
    least: int = LEAST,
    margin: float = MARGIN,
) -> written.Results:
    """Build the results of a study; the order of its runs and seeds does not matter.

    Parameters
    ----------
    cohort
        As it was read.
    folds
        K of the cross-validation; a cohort with a split of its own has none.
    tuning
        Fields of `format.Tuning`.
    common
        Settings of every run.
    missing
        Why runs have no result, by "panel / arm / seed 3".
    margin
        Difference that counts as none, of scores in a predicted number's unit as a share of its declared scale.
    advice
        What the study recommends.

    Raises
    ------
    UserError
        Arms of a panel were tested on different patients.
    """
    runs, seeds = list(runs), tuple(sorted(seeds))
    ground = Ground(
        seeds=seeds,
        folds=folds if cohort.split_N is None else 1,
        metric=metric,
        least=least,
        measure=PRIMARY,
        margin=margin,
        modalities=cohort.schema.names,
        outcome=cohort.schema.predicts,
    )
    tables = tuple(tabulate(panel, runs, ground) for panel in panels)
    return written.Results(
        study=study,
        title=title,
        cohort=written.Cohort(
            name=cohort.schema.name,
            patients=len(cohort),
            groups=int((np.unique(cohort.groups_N) > 0).sum()),
            sites=len(tables[0].sites) if tables else 0,
            modalities=ground.modalities,
            classes=tuple(cohort.schema.classes),
            outcome=ground.outcome.kind,
            unit=ground.outcome.spread[1],
            parts=ground.outcome.parts,
        ),
        seeds=seeds,
        folds=ground.folds,
        metric=metric,
        measure=PRIMARY,
        least=least,
        margin=ground.margin_of(metric),
        tuning=written.Tuning(**tuning),
        settings=written.Settings(common=dict(common), arms=_settings(panels)),
        panels=tables,
        facts=tuple(fact for panel in panels for fact in _facts(panel, runs, seeds)),
        advice=advice,
        missing=tuple(_missing(panels, runs, seeds, missing)),
        made=made,
    )


def _settings(panels: Iterable[Panel]) -> dict[str, dict[str, Scalar]]:
    """Return the settings and runner options of each arm by name; by panel and name if they differ between panels."""
    places: dict[str, list[tuple[str, dict[str, Scalar]]]] = {}
    for panel in panels:
        for arm in panel.arms:
            places.setdefault(arm.name, []).append((panel.name, _of_arm(panel, arm)))
    found = {}
    for name, own in places.items():
        same = all(settings == own[0][1] for _, settings in own)
        found.update({name: own[0][1]} if same else {f"{panel} / {name}": settings for panel, settings in own})
    return found


def _of_arm(panel: Panel, arm: Arm) -> dict[str, Scalar]:
    return {**arm.settings, **panel.settings, **arm.options, **panel.options}


def _facts(panel: Panel, runs: Iterable[Run], seeds: Sequence[int]) -> Iterable[written.Fact]:
    """List the numbers that the panel's runners added, in the order in which they did."""
    for arm, found in {row.arm: row.results for row in contenders(panel, runs)}.items():
        for name in dict.fromkeys(name for result in found.values() for name in result.facts):
            values = tuple(found[seed].facts.get(name) if seed in found else None for seed in seeds)
            mean = estimate(values, 0.0)
            yield written.Fact(
                panel=panel.name, arm=arm, name=name, values=values, n=mean.n, mean=mean.mean, sd=mean.sd
            )


def _missing(
    panels: Iterable[Panel], runs: Iterable[Run], seeds: Iterable[int], reasons: Mapping[str, str]
) -> Iterable[str]:
    there = {(run.panel, run.arm, run.seed) for run in runs}
    for panel in panels:
        for arm in panel.arms:
            for seed in seeds:
                if (panel.name, arm.name, seed) not in there:
                    name = f"{panel.name} / {arm.name} / seed {seed}"
                    yield f"{name}: {reasons.get(name, NO_RESULT)}"
