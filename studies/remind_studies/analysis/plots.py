"""Plots of `remind analyze`: lines over rounds, heat maps of experts, and the value of modalities.

A group has the same colour, marker and line style in every figure, so that any one of them identifies it. Matplotlib is
imported when a figure is drawn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from remind_studies.report.style import (
    COLOURS,
    FAINT,
    INK,
    LINES,
    MARKERS,
    OWN,
    SOFT,
    TEXT_LINE,
    longest,
    most_lines,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, LETTER = 12.0, 0.08  # inches: of a figure, of a letter of a name
LETTERS = 60  # of a name in one line
MOST_LINES, MOST_ROWS = 12, 40  # groups drawn in a chart, and in a table-like picture; tables hold all
MOST_CELLS, MOST_TICKS = 36, 48  # columns of a heat map with numbers in their cells, and below them
SHADES = 20  # of a heat map: a finer scale would be drawn as a bitmap
ALL_COLOURS, ALL_MARKERS, ALL_LINES = (OWN, *COLOURS), ("o", *MARKERS), ("-", *LINES)


@dataclass(frozen=True)
class Chart:
    """Lines of groups over rounds.

    Attributes
    ----------
    lines
        Group's place → rounds and values.
    limits
        Of the values; None: what they need.
    level
        A value to be marked by a dashed line; the title says what it is.
    """

    title: str
    lines: Mapping[int, tuple[Sequence[int], Sequence[float]]]
    limits: tuple[float, float] | None = None
    level: float | None = None


@dataclass(frozen=True)
class Heat:
    """Shares of groups (rows) by expert (columns), NaN where nothing is known."""

    title: str
    share_GE: NDArray[np.float64]


@dataclass(frozen=True)
class Point:
    """A value with its interval, hollow where few patients are behind it."""

    row: int
    value: float
    low: float | None
    high: float | None
    few: bool


@dataclass(frozen=True)
class Column:
    """Points of one modality, by model."""

    title: str
    points: Mapping[str, Sequence[Point]] = field(default_factory=dict)


def draw_lines(charts: Sequence[Chart], names: Sequence[str], routing_from: int | None) -> "Figure":
    """Draw charts side by side, with one legend.

    Parameters
    ----------
    names
        Of the groups, by place; over as many lines as they need.
    routing_from
        Rounds after which stage 2 begins, marked; None: there is none.
    """
    from matplotlib.figure import Figure

    shown = sorted({place for chart in charts for place in chart.lines})
    labels = [names[place] for place in shown]
    entry = 0.85 + LETTER * longest(labels)
    width = min(WIDTH, max(5.8 * len(charts), entry * min(2, len(labels))))
    columns = max(1, int(width / entry))
    legend_height = (TEXT_LINE * most_lines(labels) + 0.04) * -(-len(shown) // columns)
    figure = Figure(figsize=(width, 3.1 + legend_height), layout="constrained")
    axes = figure.subplots(1, len(charts), squeeze=False, sharex=True)[0]
    for ax, chart in zip(axes, charts, strict=True):
        for place, (rounds_R, values_R) in chart.lines.items():
            every = max(1, len(rounds_R) // 6)  # lines that lie on one another show their markers in turn
            style = look(place) | {"markevery": (place % every, every)}
            ax.plot(rounds_R, values_R, label=names[place], zorder=3, **style)
        if chart.level is not None:
            ax.axhline(chart.level, color=INK, linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        if routing_from is not None:
            ax.axvline(routing_from, color=SOFT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        if chart.limits is not None:
            ax.set_ylim(*chart.limits)
        ax.grid(axis="y")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("rounds done" + (" (dotted: stage 2 begins)" if routing_from is not None else ""))
        ax.set_title(chart.title)
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    legend: Any = {"loc": "outside lower left", "ncols": columns, "frameon": False, "handlelength": 3.4}
    figure.legend([handles[label] for label in labels], labels, **legend)
    return figure


def look(place: int) -> dict[str, Any]:
    """Return the keywords of `Axes.plot` for the group of this place."""
    return {
        "color": ALL_COLOURS[place % len(ALL_COLOURS)],
        "marker": ALL_MARKERS[place % len(ALL_MARKERS)],
        "linestyle": ALL_LINES[(place + place // len(ALL_COLOURS)) % len(ALL_LINES)],
        "linewidth": 1.5,
        "markersize": 5,
        "markeredgewidth": 0.5,
        "markeredgecolor": "white",
    }


def draw_heat(heats: Sequence[Heat], names: Sequence[str]) -> "Figure":
    """Draw heat maps side by side: darker for more; experts in the order of the groups that use them most."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    n_groups = len(names)
    height = max(0.27, TEXT_LINE * most_lines(names) + 0.1) * n_groups + 1.1
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(1, len(heats), squeeze=False, sharey=True)[0]
    image = None
    for ax, heat in zip(axes, heats, strict=True):
        ordered_GE, order_E = _ordered(heat.share_GE)
        edges = (np.arange(ordered_GE.shape[1] + 1) - 0.5, np.arange(n_groups + 1) - 0.5)
        colours: Any = {"cmap": colormaps["Blues"].resampled(SHADES), "vmin": 0, "vmax": 1}
        image = ax.pcolormesh(*edges, ordered_GE, edgecolor="white", linewidth=0.6, **colours)
        if ordered_GE.shape[1] * len(heats) <= MOST_CELLS:
            for g, e in np.argwhere(~np.isnan(ordered_GE)):
                share = ordered_GE[g, e]
                if share >= 0.005:
                    text = f"{100 * share:.0f}"
                    ax.text(e, g, text, ha="center", va="center", fontsize=7, color="white" if share > 0.6 else INK)
        told = order_E if len(order_E) * len(heats) <= MOST_TICKS else []
        ax.set_xticks(range(len(told)), [str(e + 1) for e in told], fontsize=7)
        ax.set_xlabel("expert")
        ax.set_yticks(range(n_groups), names)
        ax.set_ylim(n_groups - 0.5, -0.5)
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_title(heat.title)
    assert image is not None
    bar = figure.colorbar(image, ax=list(axes), pad=0.01, fraction=0.02)
    bar.ax.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
    bar.outline.set_visible(False)
    return figure


def _ordered(share_GE: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[int]]:
    """Order the experts by the group that uses each most, those of one group by how much."""
    known_GE = np.nan_to_num(share_GE)
    order_E = np.lexsort((-known_GE.max(axis=0), known_GE.argmax(axis=0)))
    return share_GE[:, order_E], order_E.tolist()


def draw_value(columns: Sequence[Column], rows: Sequence[str], models: Sequence[str], unit: str) -> "Figure":
    """Draw a column per modality, a row per group: the gain by the modality with its interval, a marker per model."""
    from matplotlib.figure import Figure

    figure = Figure(
        figsize=(WIDTH, max(0.34, TEXT_LINE * most_lines(rows) + 0.1) * len(rows) + 1.5), layout="constrained"
    )
    axes = figure.subplots(1, len(columns), squeeze=False, sharey=True, sharex=True)[0]
    for ax, column in zip(axes, columns, strict=True):
        ax.axvline(0, color=SOFT, linewidth=0.9, zorder=1)
        for y in range(1, len(rows)):
            ax.axhline(y - 0.5, color=FAINT, linewidth=0.5, zorder=0)
        for place, model in enumerate(models):
            shift = 0.18 * (2 * place - len(models) + 1) if len(models) > 1 else 0.0
            for point in column.points.get(model, ()):
                _mark(ax, point, point.row + shift, place)
        ax.set_ylim(len(rows) - 0.5, -0.5)
        ax.set_yticks(range(len(rows)), rows)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x")
        ax.set_title(wrapped(column.title, 24))
        ax.xaxis.get_major_locator().set_params(nbins=4)
    figure.supxlabel(unit, fontsize=9)
    handles = [_handle(place) for place in range(len(models))]
    figure.legend(handles, list(models), loc="outside upper left", ncols=len(models), frameon=False)
    return figure


def _mark(ax: "Axes", point: Point, y: float, place: int) -> None:
    style = look(place)
    colour = style["color"]
    if point.low is not None and point.high is not None:
        ax.plot([point.low, point.high], [y, y], color=colour, linewidth=1.3, alpha=0.55 if point.few else 1, zorder=2)
    edge: Any = {"markersize": 5.5, "markeredgecolor": colour, "markeredgewidth": 1.2, "linestyle": "none", "zorder": 3}
    ax.plot(point.value, y, marker=style["marker"], markerfacecolor="white" if point.few else colour, **edge)


def _handle(place: int) -> Any:
    from matplotlib.lines import Line2D

    style = look(place)
    return Line2D([], [], color=style["color"], marker=style["marker"], markersize=5.5, linewidth=1.3)
