"""The trace plot: weights λ of the groups and open rates of their gates, over the rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remind_studies.report.style import COLOURS, FAINT, LINES, MARKERS, OWN, SOFT, TEXT_LINE, most_lines, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DRAWN = 7  # groups with a colour of their own; more colours could not be distinguished
LETTERS = 44


@dataclass(frozen=True)
class Trace:
    """Of one group.

    Attributes
    ----------
    rounds_R, values_R
        Rounds in which there was a value, and the values.
    """

    label: str
    rounds_R: Sequence[int]
    values_R: Sequence[float]

    @property
    def moved(self) -> float:
        """Return the largest change; groups with the largest are drawn in colours."""
        return max(self.values_R) - min(self.values_R)


def draw_traces(charts: Mapping[str, Sequence[Trace]], routing_from: int | None) -> "Figure":
    """Plot a chart for each of `charts`, side by side; a legend names the groups that moved most.

    Parameters
    ----------
    charts
        Title → traces, none of them empty.
    routing_from
        The first round of stage 2, which is marked; None: there is none.
    """
    from matplotlib.figure import Figure

    told = _told(charts)
    height = (TEXT_LINE * most_lines(wrapped(name, LETTERS) for name in told) + 0.02) * len(told) / 2
    figure = Figure(figsize=(5.3 * max(len(charts), 1.6), 3.1 + height), layout="constrained")
    for axes, (title, traces) in zip(figure.subplots(1, len(charts), squeeze=False)[0], charts.items(), strict=True):
        _chart(axes, title, traces, told, routing_from)
    handles = {line.get_label(): line for axes in figure.axes for line in axes.lines if line.get_gid() == "told"}
    figure.legend(handles.values(), map(str, handles), loc="outside lower left", ncols=2, frameon=False, handlelength=3)
    return figure


def _told(charts: Mapping[str, Sequence[Trace]]) -> list[str]:
    """Return the labels of the groups that moved most in the first chart that has them, in the order of the tables."""
    moved: dict[str, float] = {}
    for chart in charts.values():
        for trace in chart:
            moved.setdefault(trace.label, trace.moved)
    chosen = set(sorted(moved, key=lambda label: -moved[label])[:DRAWN])
    return [label for label in moved if label in chosen]


def _chart(axes: "Axes", title: str, traces: Sequence[Trace], told: Sequence[str], routing_from: int | None) -> None:
    from matplotlib.ticker import MaxNLocator

    palette = (OWN, *COLOURS)
    for trace in traces:
        if trace.label not in told:
            axes.plot(trace.rounds_R, trace.values_R, color=FAINT, linewidth=0.9, zorder=1)
            continue
        i = told.index(trace.label)
        axes.plot(
            trace.rounds_R,
            trace.values_R,
            gid="told",
            label=wrapped(trace.label, LETTERS),
            color=palette[i],
            linestyle=("-", *LINES)[i],
            linewidth=1.6,
            marker=("o", *MARKERS)[i],
            markersize=4.5,
            markevery=(i % 3, max(1, len(trace.rounds_R) // 6)),
        )
    if routing_from is not None:
        axes.axvline(routing_from, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        axes.annotate(
            "routing", (routing_from, 1), (3, -2), xycoords=("data", "axes fraction"), textcoords="offset points",
            va="top", color=SOFT, fontsize=8,
        )  # fmt: skip
    axes.set_ylim(bottom=0)  # else the smallest change would look large
    axes.set_title(title)
    axes.set_xlabel("round")
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
