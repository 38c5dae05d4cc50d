"""The figures of a report, each with a caption that says how to read it; empty figures are omitted."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from remind_studies.report.forest import draw_forest
from remind_studies.report.group_plot import Dot, GroupRow, draw_groups
from remind_studies.report.style import inline
from remind_studies.report.sweep_plot import draw_sweeps
from remind_studies.report.sweeps import sweeps
from remind_studies.report.trace_plot import DRAWN, Trace, draw_traces
from remind_studies.report.view import PanelView
from remind_studies.report.words import number, signed
from remind_studies.results.statistics import LEVEL

MOST_GROUPS, MOST_ARMS = 40, 6  # drawn in one plot; the tables hold all
FORESTS = 2  # measures side by side


@dataclass(frozen=True)
class Picture:
    """A figure of the page."""

    svg: Markup
    caption: str


def forest(view: PanelView) -> Picture | None:
    """Plot differences to the reference, in the study's measure and in all patients."""
    named = dict.fromkeys((view.results.measure, "overall", *view.measures))
    tested = [name for name in named if (name, view.metric) in view.tested][:FORESTS]
    columns = [(view.measure_name(name), view.differences(name)) for name in tested]
    arms = [row.arm for _, rows in columns[:1] for row in rows]
    columns = [
        (name, rows)
        for name, rows in columns
        if [row.arm for row in rows] == arms and any(row.difference is not None for row in rows)
    ]
    if not columns:
        return None
    title = f"{view.metric_name} of each method minus that of {view.reference}"
    words = _sentences((name, ((row.arm, signed(row.difference)) for row in rows)) for name, rows in columns)
    caption = (
        f"{title}, over paired seeds, with 95 % intervals. Filled markers and bold numbers: adjusted p below {LEVEL}; "
        f"hollow markers: no difference is sure.{' Grey: yardsticks.' if view.anchors else ''}"
    )
    svg = inline(f"{view.key}-f", title, words, draw_forest, columns, view.looks, view.reference, view.lower_better)
    return Picture(svg, caption)


def group_plot(view: PanelView) -> Picture | None:
    """Plot scores of the groups, by the most important arms."""
    arms = _drawn(view)
    rows = []
    for position, group in enumerate(view.panel.groups, start=1):
        scores = {arm: view.group_score(arm, group.mask) for arm in arms}
        dots = {
            arm: Dot(one.mean, one.low, one.high)
            for arm, one in scores.items()
            if one is not None and one.mean is not None
        }
        if dots:
            rows.append(GroupRow(f"{position} · {group.name}", group.ranked, dots))
    if not rows:
        return None
    drawn, metric = rows[:MOST_GROUPS], view.metric_name
    looks = {arm: view.looks[arm] for arm in arms}
    words = _sentences(
        (row.label, ((arm, number(one.mean)) for arm, one in row.dots.items() if arm == view.reference))
        for row in drawn
    )
    caption = f"{metric} of each group, with 95 % intervals; numbers as in the table. Pale: not ranked."
    if len(arms) < len(view.arms):
        more = len(view.arms) - len(arms)
        caption += f" Drawn: the reference, the strongest others, yardsticks; {more} more in the table."
    if len(rows) > len(drawn):
        caption += f" The first {len(drawn)} of {len(rows)} groups."
    axis = f"{metric}, {'lower' if view.lower_better else 'higher'} is better"
    svg = inline(f"{view.key}-g", caption, words, draw_groups, drawn, looks, axis, not view.lower_better)
    return Picture(svg, caption)


def trace_plot(view: PanelView) -> Picture | None:
    """Plot λ and gate open rates of the reference over the rounds."""
    trace = next((one for one in view.panel.traces if one.arm == view.reference), None)
    if trace is None:
        return None
    names = {group.mask: f"{i} · {group.name}" for i, group in enumerate(view.panel.groups, start=1)}
    courses = {
        "λ, the weight of a group": ((one.round, one.weights) for one in trace.rounds),
        "gate open, share of a group's patients": ((one.round, one.gate_open) for one in trace.rounds),
    }
    charts = {title: lines for title, course in courses.items() if (lines := _traces(names, course))}
    if not charts:
        return None
    routing = next((one.round for one in trace.rounds if one.stage == 2), None)
    title = f"{trace.arm} over the rounds, mean over the seeds: {' · '.join(charts)}."
    words = _sentences(
        (name, ((line.label, f"{number(line.values_R[0])} to {number(line.values_R[-1])}") for line in lines))
        for name, lines in charts.items()
    )
    labels = {line.label for lines in charts.values() for line in lines}
    caption = f"{title} Grey lines: groups that moved less." if len(labels) > DRAWN else title
    return Picture(inline(f"{view.key}-t", title, words, draw_traces, charts, routing), caption)


def sweep_plots(views: Sequence[PanelView]) -> list[Picture]:
    """Plot the study's measure over its tables, and the score of all patients where it is another."""
    if not views:
        return []
    plotted = (_sweep_plot(views, measure) for measure in dict.fromkeys((views[0].results.measure, "overall")))
    return [picture for picture in plotted if picture is not None]


def _sweep_plot(views: Sequence[PanelView], measure: str) -> Picture | None:
    found, looks = sweeps(views, measure)
    if not found:
        return None
    what = f"{views[0].metric_name}, {views[0].measure_name(measure)}"
    words = _sentences(
        (f"{sweep.title} {value}".strip(), [(arm, _mean(ones[i])) for arm, ones in sweep.dots.items()])
        for sweep in found
        for i, value in enumerate(sweep.values)
    )
    caption = f"{what}, in every table of the study, with 95 % intervals."
    return Picture(inline(f"sweep-{measure}", caption, words, draw_sweeps, found, looks, what), caption)


def _drawn(view: PanelView) -> list[str]:
    """Return the reference, the anchors and the strongest others that fit in a plot, in the order of the tables."""
    measure = view.results.measure
    chosen = {view.reference, *view.anchors} & set(view.arms)
    others = list(view.rivals)
    while others and len(chosen) < MOST_ARMS:
        strongest = view.first(others, measure) or others[0]
        chosen.add(strongest)
        others.remove(strongest)
    return [arm for arm in view.arms if arm in chosen]


def _traces(names: Mapping[int, str], rounds: Iterable[tuple[int, Mapping[int, float | None]]]) -> list[Trace]:
    """Return one line per group that has a value in any round, in the order of the tables."""
    known: dict[int, list[tuple[int, float]]] = {}
    for number_of_round, values in rounds:
        for mask, value in values.items():
            if value is not None:
                known.setdefault(mask, []).append((number_of_round, value))
    order = [*names, *(mask for mask in sorted(known) if mask not in names)]
    return [
        Trace(names.get(mask, f"group {mask}"), *map(list, zip(*known[mask], strict=True)))
        for mask in order
        if mask in known
    ]


def _mean(one: Dot | None) -> str:
    return number(None if one is None else one.mean)


def _sentences(parts: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> str:
    """Describe what a picture shows, for screen readers."""
    return "; ".join(f"{name}: {', '.join(f'{what} {value}' for what, value in found)}" for name, found in parts) + "."
