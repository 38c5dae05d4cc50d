"""The forest plot: the difference of each method to the reference, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remind_studies.report.style import BAND, INK, LETTER, SOFT, TEXT_LINE, Look, longest, most_lines, wrapped
from remind_studies.report.words import p_value, signed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW, LETTERS = 0.3, 34  # inches of a method; letters of its name


@dataclass(frozen=True)
class Difference:
    """An arm minus the reference, over paired seeds.

    Attributes
    ----------
    difference, low, high
        Mean and ends of its interval; None where undefined.
    p
        Adjusted for all tests of the panel.
    sure, equal
        Whether it counts as a difference at the report's level, or is shown to be smaller than the margin.
    detectable
        The smallest true difference that the test would probably have found.
    anchor
        Whether the arm is a yardstick.
    n
        Pairs of seeds.
    """

    arm: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    sure: bool
    anchor: bool
    n: int
    equal: bool = False
    detectable: float | None = None


def draw_forest(
    measures: Sequence[tuple[str, Sequence[Difference]]], looks: Mapping[str, Look], reference: str, lower_better: bool
) -> "Figure":
    """Plot differences to the reference, a column per measure.

    Parameters
    ----------
    measures
        Name and differences of each; every one holds the same arms in the same order.
    looks
        How to draw each arm.
    lower_better
        Whether lower values are better (losses).
    """
    from matplotlib.figure import Figure

    arms = [row.arm for row in measures[0][1]]
    names = [wrapped(arm, LETTERS) for arm in arms]
    row = max(ROW, TEXT_LINE * most_lines(names) + 0.08)
    width = 1.0 + LETTER * longest(names) + 4.4 * len(measures)
    figure = Figure(figsize=(width, row * len(arms) + 1.25), layout="constrained")
    axes = figure.subplots(1, len(measures), sharey=True, squeeze=False)[0]
    for one, (title, rows) in zip(axes, measures, strict=True):
        one.set_title(title, pad=17)
        _column(one, rows, looks)
        one.set_xlabel(f"method − {wrapped(reference, LETTERS)}")
        left, right = ("method", "reference") if lower_better else ("reference", "method")
        for x, side, text in ((0, "left", f"← {left} better"), (1, "right", f"{right} better →")):
            one.annotate(
                text, (x, 1), (0, 3), "axes fraction", "offset points", ha=side, va="bottom", color=SOFT, fontsize=8
            )
    axes[0].set_yticks(range(len(arms)), names)
    axes[0].set_ylim(len(arms) - 0.5, -0.5)
    return figure


def _column(axes: "Axes", rows: Sequence[Difference], looks: Mapping[str, Look]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.axvline(0, color=INK, linewidth=1)
    axes.grid(axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for y, row in enumerate(rows):
        if y % 2 == 0:
            axes.axhspan(y - 0.5, y + 0.5, color=BAND, linewidth=0, zorder=0)
        if row.difference is None:
            text = "undefined"
        else:
            _interval(axes, y, row, looks[row.arm])
            text = signed(row.difference) + ("" if row.p is None else f"\u2003p\u00a0{p_value(row.p)}")
        weight = "bold" if row.sure else "normal"
        axes.annotate(
            text,
            (1.01, y),
            xycoords=("axes fraction", "data"),
            va="center",
            weight=weight,
            color=INK if row.sure or row.p is not None else SOFT,
            fontsize=8.5,
        )


def _interval(axes: "Axes", y: int, row: Difference, look: Look) -> None:
    dot = look.dot(6.5)
    if not row.sure and "markeredgecolor" in dot:  # hollow: no difference was found
        dot |= {"markerfacecolor": "white", "markeredgecolor": look.colour, "markeredgewidth": 1.3}
    assert row.difference is not None
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [y, y], color=look.colour, linewidth=1.6, solid_capstyle="butt")
    axes.plot([row.difference], [y], linestyle="none", **dot)
