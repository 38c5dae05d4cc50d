"""Choose the figures of an analysis, from its numbers alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from remind_studies.analysis.document import Analysis, Look, ModelAnalysis, Routing
from remind_studies.analysis.plots import (
    LETTERS,
    MOST_LINES,
    MOST_ROWS,
    Chart,
    Column,
    Heat,
    Point,
    draw_heat,
    draw_lines,
    draw_value,
)
from remind_studies.report.style import inline, wrapped

Lines = Mapping[int, tuple[Sequence[int], Sequence[float]]]
ROOM = 0.04  # beyond 0 and 1, so that lines at the edge can be seen


@dataclass(frozen=True)
class Picture:
    """An inline SVG and what stands below it."""

    svg: Markup
    caption: str


@dataclass(frozen=True)
class Groups:
    """The groups in the order of all pictures and tables: most training patients first.

    `trained` are their names with the number of their training patients.
    """

    masks: tuple[int, ...]
    names: tuple[str, ...]
    trained: tuple[str, ...]

    @classmethod
    def of(cls, analysis: Analysis) -> "Groups":
        """Return those of an analysis; ``*`` marks a tail group."""
        ordered = sorted(analysis.cohort.groups, key=lambda g: (-g.train, -g.test, g.mask))
        names = tuple(g.name + "*" * g.tail for g in ordered)
        trained = tuple(numbered(name, g.train) for name, g in zip(names, ordered, strict=True))
        return cls(tuple(g.mask for g in ordered), names, trained)


def numbered(name: str, patients: int) -> str:
    """Return a group's whole name, over as many lines as it needs in a figure, with its number of patients."""
    return wrapped(f"{name} ({patients})", LETTERS)


def pictures(analysis: Analysis) -> dict[str, Picture | None]:
    """Return every picture by its name; None where there is nothing to draw."""
    groups = Groups.of(analysis)
    return {
        "consistency": _consistency(analysis, groups),
        "experts": _experts(analysis, groups),
        "weights": _weights(analysis, groups),
        "gate": _gate(analysis, groups),
        "entropy": _entropy(analysis, groups),
        "auroc": _value(analysis, groups, "auroc", "AUROC gained by having the modality (95 % interval)"),
        "loss": _value(analysis, groups, "loss", "log loss saved by having the modality (95 % interval)"),
    }


def _consistency(analysis: Analysis, groups: Groups) -> Picture | None:
    def score(look: Look, group: int) -> float | None:
        found = look.consistency.get(group)
        return found.score if found else None

    charts = [Chart(model.name, _over_looks(model, groups, score)) for model in analysis.models]
    lowest = min((min(values) for chart in charts for _, values in chart.lines.values()), default=0.0)
    charts = [replace(chart, limits=(min(0.0, lowest) - ROOM, 1 + ROOM)) for chart in charts]
    caption = (
        f"Gradient consistency cos(g_k, g_all), {analysis.settings.patients} training patients per group; g_all is "
        f"that of {analysis.settings.compared_with}. Near 1 or −1 "
        "a group pulls the shared fusion along the same line as all groups together, near 0 across it. The sign says "
        "which way most of its patients pull; with two classes it follows the class that most of them have."
    )
    return _lines(analysis, groups, "consistency", charts, "Gradient consistency by group over training", caption)


def _weights(analysis: Analysis, groups: Groups) -> Picture | None:
    charts = []
    for model in analysis.models:
        lines = {}
        for place, group in enumerate(groups.masks):
            found = [(w.rounds, w.of[group]) for w in model.weights if group in w.of]
            if found:
                lines[place] = ([r for r, _ in found], [value for _, value in found])
        charts.append(Chart(model.name, lines))
    highest = max((max(values) for chart in _largest(charts) for _, values in chart.lines.values()), default=1.0)
    charts = [replace(chart, limits=(0, highest * (1 + ROOM))) for chart in charts]
    caption = "λ, the weight of each group in the objective, after each round; all weights sum to 1."
    return _lines(analysis, groups, "weights", charts, "λ of each group over training", caption)


def _gate(analysis: Analysis, groups: Groups) -> Picture | None:
    charts = []
    for model in analysis.models:
        if model.gate is None:
            continue
        opened = _over_routing(model, groups, "gate_open")
        charts.append(Chart(f"{model.name}: share of patients whose gate is open", opened, (-ROOM, 1 + ROOM)))
        title, at = f"{model.name}: entropy of the shared router / ln E", model.gate.opens_at
        if at is not None:
            title += " (dashed: gate opens above)"
        entropy = _over_routing(model, groups, "shared_entropy")
        charts.append(Chart(title, entropy, _around(entropy, level=at), at))
    caption = (
        "How often a group's own router Φ_k is used (never before stage 2), and the entropy of the shared router that "
        "decides it, as a share of ln E. Training patients."
    )
    title = "Gate open rate and entropy of the shared router over training"
    return _lines(analysis, groups, "gate", charts, title, caption)


def _entropy(analysis: Analysis, groups: Groups) -> Picture | None:
    charts = [Chart(model.name, _over_routing(model, groups, "entropy")) for model in analysis.models]
    limits = _around(*(chart.lines for chart in charts))
    charts = [replace(chart, limits=limits) for chart in charts]
    caption = (
        "Entropy of the router in use, as a share of ln E: at 1 a token uses all experts equally, at 0 only one. "
        "Training patients."
    )
    return _lines(analysis, groups, "entropy", charts, "Routing entropy of each group over training", caption)


def _around(*charts: Lines, level: float | None = None) -> tuple[float, float]:
    """Return axis limits that contain all values of these lines and a level, with a margin."""
    values = [value for lines in charts for _, values in lines.values() for value in values]
    values += [] if level is None else [level]
    return min(values, default=0.0) - ROOM, max(values, default=1.0) + ROOM


def _over_routing(model: ModelAnalysis, groups: Groups, name: str) -> Lines:
    def pick(look: Look, group: int) -> float | None:
        routing: Routing | None = look.routing.get(group)
        value: float | None = getattr(routing, name) if routing else None
        return value

    return _over_looks(model, groups, pick)


def _over_looks(model: ModelAnalysis, groups: Groups, pick: Callable[[Look, int], float | None]) -> Lines:
    """Return the lines of the groups with values, by the groups' positions."""
    lines: dict[int, tuple[list[int], list[float]]] = {}
    for place, group in enumerate(groups.masks):
        found = [(look.rounds, value) for look in model.looks if (value := pick(look, group)) is not None]
        if found:
            lines[place] = ([r for r, _ in found], [value for _, value in found])
    return lines


def _lines(
    analysis: Analysis, groups: Groups, name: str, charts: Sequence[Chart], title: str, caption: str
) -> Picture | None:
    shown = _largest(charts)
    if not shown:
        return None
    if len({place for chart in charts for place in chart.lines}) > MOST_LINES:
        caption += f" The {MOST_LINES} largest groups; the table has all."
    model = analysis.models[0]
    routing_from = model.warmup_rounds if 0 < model.warmup_rounds < model.rounds else None
    return Picture(inline(name, title, caption, draw_lines, shown, groups.trained, routing_from), caption)


def _largest(charts: Sequence[Chart]) -> list[Chart]:
    """Return the charts that have lines, with those of the largest groups alone."""
    places = sorted({place for chart in charts for place in chart.lines})[:MOST_LINES]
    cut = [replace(c, lines={p: line for p, line in c.lines.items() if p in places}) for c in charts]
    return [chart for chart in cut if chart.lines]


def _experts(analysis: Analysis, groups: Groups) -> Picture | None:
    found = [(model.name, model.experts) for model in analysis.models if model.experts is not None]
    rows = [k for k in groups.masks if any(k in use.of for _, use in found)][:MOST_ROWS]
    if not rows:
        return None
    heats = []
    for name, use in found:
        nothing = [np.nan] * use.experts
        heats.append(Heat(name, np.array([use.of.get(k, nothing) for k in rows], dtype=np.float64)))
    names = dict(zip(groups.masks, groups.names, strict=True))
    labels = [numbered(names[k], found[0][1].n.get(k, 0)) for k in rows]
    top = min(use.top for _, use in found)
    caption = (
        f"Share of each group's training patients (their number in brackets) for whom an expert is among their top "
        f"{top}. Experts are ordered by the groups that use them most; number 5 of one model is unrelated to number 5 "
        "of another."
    )
    return Picture(inline("experts", "Expert use by group", caption, draw_heat, heats, labels), caption)


def _value(analysis: Analysis, groups: Groups, measure: str, unit: str) -> Picture | None:
    names: Mapping[int | None, str] = {None: "all who have it and another"} | dict(
        zip(groups.masks, groups.names, strict=True)
    )
    found = {(m.name, v.mask, v.modality): v for m in analysis.models for v in m.modality_value}
    rows = [k for k in (None, *groups.masks) if any(mask == k for _, mask, _ in found)][:MOST_ROWS]
    columns = []
    for modality in analysis.cohort.modalities:
        points: dict[str, list[Point]] = {}
        for model in analysis.models:
            for row, group in enumerate(rows):
                value = found.get((model.name, group, modality))
                gain = getattr(value, measure) if value else None
                if value is not None and gain is not None:
                    point = Point(row, gain.gain, gain.low, gain.high, value.few)
                    points.setdefault(model.name, []).append(point)
        if points:
            columns.append(Column(modality, points))
    if not columns:
        return None
    tests = {g.mask: g.test for g in analysis.cohort.groups}
    labels = [names[k] if k is None else numbered(names[k], tests[k]) for k in rows]
    caption = (
        "What each group's test patients (their number in brackets) gain by each of their modalities: right of 0 the "
        f"model is better with it than with the modality hidden. Hollow: fewer than {analysis.settings.few} patients."
    )
    models = [model.name for model in analysis.models]
    title = f"Value of each modality: {unit}"
    return Picture(inline(f"value-{measure}", title, caption, draw_value, columns, labels, models, unit), caption)
