"""The sweep plot: the effect of a setting, a modality or the number of sites on every method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from remind_studies.report.group_plot import Dot
from remind_studies.report.style import BAND, LETTER, Look, label, legend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, WIDEST = 0.75, 1.7  # inches of a value, at least and at most
PAGE = 12.5  # inches that charts may take side by side


@dataclass(frozen=True)
class Sweep:
    """What is varied.

    Attributes
    ----------
    title
        Of the setting.
    values
        Names of its values, in order; short.
    ordered
        Whether they are numbers, so that a line from one to the next has a meaning.
    dots
        arm → one per value, None where undefined.
    """

    title: str
    values: Sequence[str]
    ordered: bool
    dots: Mapping[str, Sequence[Dot | None]]


def draw_sweeps(sweeps: Sequence[Sweep], looks: Mapping[str, Look], ylabel: str) -> "Figure":
    """Plot a chart per sweep, all with the same vertical axis."""
    from matplotlib.figure import Figure

    widths = [_column(sweep) * max(len(sweep.values), 3) + 0.5 for sweep in sweeps]
    per_row = max(1, min(len(widths), int(PAGE // max(widths))))
    rows = [sweeps[i : i + per_row] for i in range(0, len(sweeps), per_row)]
    width = max(sum(widths[i : i + per_row]) for i in range(0, len(sweeps), per_row)) + 0.8
    figure = Figure(figsize=(max(width, 6.0), 3.6 * len(rows) + 0.5), layout="constrained")
    grid = figure.subplots(len(rows), per_row, sharey=True, squeeze=False)
    for axes in grid.flat[len(sweeps) :]:
        axes.set_visible(False)
    for axes, sweep in zip(grid.flat, sweeps, strict=False):
        _chart(axes, sweep, looks)
    for axes in grid[:, 0]:
        axes.set_ylabel(ylabel)
    for arm, look in looks.items():
        grid[0, 0].plot([], [], label=label(arm), linestyle=look.line, linewidth=1.4, **look.dot(6.5))
    if len(looks) > 1:
        legend(figure, grid[0, 0])
    return figure


def _column(sweep: Sweep) -> float:
    """Return the width of a value: that of its name, if all names fit side by side."""
    wanted = max(COLUMN, _longest(sweep) * LETTER + 0.15)
    return wanted if wanted <= WIDEST and wanted * len(sweep.values) < PAGE - 1 else COLUMN


def _longest(sweep: Sweep) -> int:
    return max(len(line) for value in sweep.values for line in value.splitlines())


def _chart(axes: "Axes", sweep: Sweep, looks: Mapping[str, Look]) -> None:
    shift = 0.5 / max(len(looks), 1)
    for x in range(0, len(sweep.values), 2):
        axes.axvspan(x - 0.5, x + 0.5, color=BAND, linewidth=0, zorder=0)
    for i, (arm, look) in enumerate(looks.items()):
        found = [(x, one) for x, one in enumerate(sweep.dots.get(arm, ())) if one is not None]
        at = np.array([x for x, _ in found]) + (i - (len(looks) - 1) / 2) * shift
        ends = [
            (x, one.low, one.high)
            for x, (_, one) in zip(at, found, strict=True)
            if one.low is not None and one.high is not None
        ]
        if ends:
            axes.vlines(*zip(*ends, strict=True), color=look.colour, linewidth=1.1, alpha=0.8)
        line = look.line if sweep.ordered else "none"
        axes.plot(at, [one.mean for _, one in found], linestyle=line, linewidth=1.3, **look.dot(6.5))
    aslant = _longest(sweep) * LETTER > _column(sweep)
    axes.set_xticks(
        range(len(sweep.values)), sweep.values, rotation=30 if aslant else 0, ha="right" if aslant else "center"
    )
    axes.set_xlim(-0.5, len(sweep.values) - 0.5)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="y")
    axes.set_title(sweep.title)
