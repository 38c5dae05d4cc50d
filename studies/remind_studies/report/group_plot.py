"""The dot plot of the groups: one row per combination, one marker with its interval per method."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remind_studies.report.style import (
    BAND,
    INK,
    LETTER,
    SOFT,
    TEXT_LINE,
    Look,
    label,
    legend,
    longest,
    most_lines,
    wrapped,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE, GAP, LETTERS = 0.105, 0.13, 34  # inches of a method and between groups; letters of a name


@dataclass(frozen=True)
class Dot:
    """A mean and the ends of its interval, which may be unknown."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class GroupRow:
    """One group.

    Attributes
    ----------
    label
        Its number in the table and its name.
    ranked
        Whether it has enough test patients; others are drawn pale.
    dots
        Of each arm that has one.
    """

    label: str
    ranked: bool
    dots: Mapping[str, Dot]


def draw_groups(rows: Sequence[GroupRow], looks: Mapping[str, Look], title: str, score: bool) -> "Figure":
    """Plot the scores of every group, by every arm of `looks`.

    Parameters
    ----------
    title
        Title of the axis: the score, and whether higher is better.
    score
        Whether values lie in 0 … 1, so that intervals beyond are cut.
    """
    from matplotlib.figure import Figure

    labels = [wrapped(row.label, LETTERS) for row in rows]
    band = max(LINE * len(looks) + GAP, TEXT_LINE * most_lines(labels) + 0.05)
    figure = Figure(figsize=(8.6 + LETTER * longest(labels), band * len(rows) + 1.1), layout="constrained")
    axes = figure.subplots()
    for y in range(0, len(rows), 2):
        axes.axhspan(y - 0.5, y + 0.5, color=BAND, linewidth=0, zorder=0)
    for i, (arm, look) in enumerate(looks.items()):
        shift = (i - (len(looks) - 1) / 2) * LINE / band
        for ranked, alpha in ((True, 1.0), (False, 0.45)):
            found = [
                (y + shift, row.dots[arm]) for y, row in enumerate(rows) if row.ranked == ranked and arm in row.dots
            ]
            _draw(axes, found, look, alpha)
        axes.plot([], [], label=label(arm), linestyle="none", **look.dot(6))
    axes.set_xlim(*_range(rows, score))
    axes.set_xlabel(title)
    axes.grid(axis="x")
    axes.set_yticks(range(len(rows)), labels)
    for tick, row in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_color(INK if row.ranked else SOFT)
        tick.set_fontstyle("normal" if row.ranked else "italic")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    legend(figure, axes)
    return figure


def _draw(axes: "Axes", found: Sequence[tuple[float, Dot]], look: Look, alpha: float) -> None:
    """Draw markers and intervals of one arm, at their heights."""
    ends = [(y, one.low, one.high) for y, one in found if one.low is not None and one.high is not None]
    if ends:
        y_n, low_n, high_n = zip(*ends, strict=True)
        axes.hlines(y_n, low_n, high_n, color=look.colour, linewidth=1.8 if look.own else 1.0, alpha=alpha)
    axes.plot([one.mean for _, one in found], [y for y, _ in found], linestyle="none", alpha=alpha, **look.dot(6))


def _range(rows: Sequence[GroupRow], score: bool) -> tuple[float, float]:
    """Return limits that hold all means and the intervals of ranked groups; those of small groups are too wide."""
    ends = [end for row in rows for one in row.dots.values() for end in _ends(one, row.ranked)]
    low, high = min(ends), max(ends)
    if score:
        low, high = max(low, 0.0), min(high, 1.0)
    margin = 0.03 * (high - low) or 0.05
    return low - margin, high + margin


def _ends(one: Dot, with_interval: bool) -> list[float]:
    return [end for end in (one.mean, one.low, one.high) if end is not None] if with_interval else [one.mean]
