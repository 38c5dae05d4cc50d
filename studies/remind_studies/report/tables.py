"""Build the tables of a panel and of costs; None if there is nothing to show."""

from collections.abc import Iterable

from remind_studies.report.cells import EQUAL, Cell, Row, Table, difference, fact, marks, score
from remind_studies.report.view import PanelView
from remind_studies.report.words import MEANING, count
from remind_studies.results import Results
from remind_studies.results.statistics import LEVEL

RANKED = frozenset({"mean_tail", "worst_group", "worst_site", "mean_groups"})  # measures of groups or sites of enough
MEAN = "mean over the seeds and its 95 % interval"


def headline(view: PanelView) -> Table | None:
    """Return the table of arms by measures, in the study's metric."""
    pairs = [(measure, view.metric) for measure in view.measures]
    caption = f"{view.metric_name} of test patients: {MEAN}. {marks(view.margin)}"
    caption += f" {view.ranked_tail}"
    if view.anchors:
        caption += " Last: yardsticks, never ranked."
    return Table(f"{view.key}-headline", caption, "method", _head(view, pairs), _rows(view, pairs)) if pairs else None


def further(view: PanelView) -> Table | None:
    """Return the table of arms by the measures and metrics that the headline leaves out."""
    pairs = view.further
    caption = f"Test patients: {MEAN}."
    return Table(f"{view.key}-further", caption, "method", _head(view, pairs), _rows(view, pairs)) if pairs else None


def tests(view: PanelView) -> Table | None:
    """Return the table of every other arm minus the reference, in all tested measures."""
    columns = {pair: {one.arm: one for one in view.differences(*pair)} for pair in view.tested}
    arms = [arm for arm in view.arms if any(arm in column for column in columns.values())]
    rows = [
        Row(
            arm,
            [difference(column.get(arm), view.seeds) for column in columns.values()],
            "anchor" if arm in view.anchors else "",
        )
        for arm in arms
    ]
    caption = (
        f"{view.metric_name} of each method minus that of {view.reference}, over paired seeds: mean difference, "
        f"95 % interval, p adjusted by Holm, methods and anchors apart. Bold: adjusted p below {LEVEL}. "
        f"{EQUAL}: shown to be smaller than {view.margin.lstrip('±')}."
    )
    return Table(f"{view.key}-tests", caption, "method", _head(view, columns), rows) if rows else None


def groups(view: PanelView) -> Table | None:
    """Return the table of modality combinations by arms."""
    rows = []
    for position, group in enumerate(view.panel.groups, start=1):
        facts = [
            Cell(count(group.train_n), group.train_n),
            Cell(count(group.tested), group.tested),
            Cell(count(group.positives), group.positives),
            Cell("tail" if group.tail else "head", words=True),
        ]
        scores = [score(view.group_score(arm, group.mask), view.seeds) for arm in view.arms]
        look, note = _unranked(view, group.ranked, group.tested)
        rows.append(Row(group.name, [*facts, *scores], look, note, position))
    head = [
        ("train", "training patients, mean over the seeds"),
        ("tested", "patients tested at least once"),
        _positives(view),
        ("part", MEANING["tail"]),
        *((arm, "") for arm in view.arms),
    ]
    caption = f"{view.metric_name} of every modality combination, the most frequent first: {MEAN}."
    return Table(f"{view.key}-groups", caption, "group", head, rows) if rows else None


def _positives(view: PanelView) -> tuple[str, str]:
    """Return the head of the column of those with the outcome, and what it is."""
    if view.results.cohort.outcome == "survival":
        return "events", "tested patients with the event"
    if view.results.cohort.outcome == "multilabel":
        return "positives", "tested patients with a label, on average over the labels"
    return "positives", "tested patients of the second class"


def sites(view: PanelView) -> Table | None:
    """Return the table of sites by arms."""
    rows = []
    for site in view.panel.sites:
        scores = [score(view.site_score(arm, site.name), view.seeds) for arm in view.arms]
        look, note = _unranked(view, site.ranked, site.tested)
        rows.append(Row(site.name, [Cell(count(site.tested), site.tested), *scores], look, note))
    head = [("tested", "patients tested at least once"), *((arm, "") for arm in view.arms)]
    return (
        Table(f"{view.key}-sites", f"{view.metric_name} at every site: {MEAN}.", "site", head, rows) if rows else None
    )


def costs(results: Results) -> list[Table]:
    """Return further facts that runs measured: a table per panel, arms by facts."""
    tables = []
    titles = {panel.name: panel.title or panel.name for panel in results.panels}
    for i, name in enumerate(dict.fromkeys(one.panel for one in results.facts), start=1):
        found = {(one.arm, one.name): one.mean for one in results.facts if one.panel == name}
        columns = list(dict.fromkeys(column for _, column in found))
        rows = [
            Row(arm, [fact(found.get((arm, column))) for column in columns])
            for arm in dict.fromkeys(arm for arm, _ in found)
        ]
        tables.append(Table(f"cost-{i}", titles.get(name, name), "method", [(column, "") for column in columns], rows))
    return tables


def _head(view: PanelView, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the names of measures, with that of the metric where it is not the study's or the table has several."""
    named = list(pairs)
    several = len({metric for _, metric in named}) > 1
    return [
        (
            f"{view.name_of(metric)}, {view.measure_name(measure)}" if several else view.measure_name(measure),
            _meaning(view, measure),
        )
        for measure, metric in named
    ]


def _meaning(view: PanelView, measure: str) -> str:
    enough = f"; {view.enough} each" if measure in RANKED else ""
    return MEANING.get(measure, "") + enough


def _rows(view: PanelView, pairs: Iterable[tuple[str, str]]) -> list[Row]:
    columns = list(pairs)
    rows = []
    for arm in view.arms:
        cells = [
            score(view.summary(arm, measure, metric), view.seeds, view.mark(arm, measure, metric))
            for measure, metric in columns
        ]
        look = "anchor" if arm in view.anchors else "own" if arm == view.reference else ""
        rows.append(Row(arm, cells, look, "reference" if look == "own" else ""))
    return rows


def _unranked(view: PanelView, ranked: bool, tested: int) -> tuple[str, str]:
    """Return the look and the note of a row."""
    if ranked:
        return "", ""
    return "pale", "not ranked: too few tested" if tested else "never tested"
