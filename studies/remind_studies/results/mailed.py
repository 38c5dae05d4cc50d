"""Suppress groups and hospitals of the results that would reveal a small number of patients.

A group or hospital is shown with its counts and all its scores, or not at all. The total of all suppressed rows, which
follows from the published totals, must reach the minimum too; it is a mean over seeds, because totals are means. The
report has a score of every seed, so every seed must test enough patients of every class. If a mean over groups or
hospitals included a single suppressed row, its score would follow, so the smallest other row is suppressed with it.
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from remind.privacy.publication import Publication
from remind.privacy.threshold import is_small
from remind_studies.results.format import Results
from remind_studies.results.panel_format import Group, Panel, Site

Sizes = Mapping[str, int]  # kind → patients
Row = TypeVar("Row", bound=Hashable)


def mailed(results: Results, minimum: int) -> Results:
    """Return the publishable part of the results under a minimum count."""
    if minimum <= 1:
        return results
    panels = tuple(_panel(panel, minimum) for panel in results.panels)
    return results.model_copy(update={"panels": panels, "min_count": minimum})


def shown(sizes: Mapping[Hashable, Sizes], minimum: int) -> set[Hashable]:
    """Return the rows that may be shown, each with all its sizes or not at all; totals of every kind are known."""
    counts = {(row, kind): n for row, own in sizes.items() for kind, n in own.items()}
    publication = Publication(minimum)
    for kind in {kind for _, kind in counts}:
        every = [key for key in counts if key[1] == kind]
        if not is_small(sum(counts[key] for key in every), minimum):
            publication.ask({kind: every}, counts, known={kind})
    found = publication.ask({key: [key] for key in counts}, counts, {key: key[0] for key in counts})
    return {row for row, own in sizes.items() if all((row, kind) in found for kind in own)}


def _panel(panel: Panel, minimum: int) -> Panel:
    groups = shown({one.mask: _tested(one) | {"train": _whole(one.train_n)} for one in panel.groups}, minimum)
    groups -= {one.mask for one in panel.groups if is_small(one.fewest, minimum)}
    size = {one.mask: one.test_n for one in panel.groups}
    groups -= _beside(groups, {one.mask for one in panel.groups if one.ranked and one.tail}, size)
    groups -= _beside(groups, {one.mask for one in panel.groups if one.ranked}, size)
    sites = shown({one.name: _tested(one) for one in panel.sites}, minimum)
    sites -= {one.name for one in panel.sites if is_small(one.fewest, minimum)}
    sites -= _beside(
        sites, {one.name for one in panel.sites if one.ranked}, {one.name: one.test_n for one in panel.sites}
    )

    def told(measure: str) -> bool:
        kind, _, masks = measure.partition(":")
        return kind != "among" or all(int(mask) in groups for mask in masks.split(","))

    return panel.model_copy(
        update={
            "groups": tuple(one for one in panel.groups if one.mask in groups),
            "sites": tuple(one for one in panel.sites if one.name in sites),
            "by_group": tuple(one for one in panel.by_group if one.mask in groups),
            "by_site": tuple(one for one in panel.by_site if one.site in sites),
            "summaries": tuple(one for one in panel.summaries if told(one.measure)),
            "tests": tuple(one for one in panel.tests if told(one.measure)),
            "best": tuple(one for one in panel.best if told(one.measure)),
            "traces": tuple(
                trace.model_copy(
                    update={
                        "rounds": tuple(
                            one.model_copy(
                                update={
                                    "weights": {k: w for k, w in one.weights.items() if k in groups},
                                    "gate_open": {k: g for k, g in one.gate_open.items() if k in groups},
                                }
                            )
                            for one in trace.rounds
                        )
                    }
                )
                for trace in panel.traces
            ),
            "joining": tuple(
                one.model_copy(update={"hospitals": tuple(own for own in one.hospitals if own.site in sites)})
                for one in panel.joining
            ),
            "withheld_groups": len(panel.groups) - len(groups),
            "withheld_sites": len(panel.sites) - len(sites),
        }
    )


def _beside(found: set[Hashable], counted: set[Row], size: Mapping[Row, float]) -> set[Hashable]:
    """Return the smallest shown row in a mean if exactly one row of the mean is suppressed; else none."""
    alone = len(counted - found) == 1 and bool(counted & found)
    return {min((row for row in counted if row in found), key=lambda row: size[row])} if alone else set()


def _tested(one: Group | Site) -> dict[str, int]:
    """Test patients of a seed by class, or all of them where classes are not counted."""
    if one.positives is None or not one.tested:
        return {"test": _whole(one.test_n)}
    share = one.positives / one.tested
    return {"positives": _whole(one.test_n * share), "others": _whole(one.test_n * (1 - share))}


def _whole(mean: float) -> int:
    """Round a mean over seeds to patients; a positive mean never becomes 0."""
    return int(mean) if mean >= 1 else int(mean > 0)
