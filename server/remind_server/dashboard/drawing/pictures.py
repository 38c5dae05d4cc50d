"""Small plots as SVG: lines distinguished by their strokes and marks, axes with numbers and names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from remind_server.dashboard.views.thresholds import GroupCurves

SIZE, LEFT, BELOW = 220, 52, 44  # units: a plot's side, and room for the numbers and names of its axes
TENTHS = 10  # ranges of the calibration curve
MOST_MARKED = 14  # points of a line with a mark each
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Line:
    """A line in a plot of the unit square; `kind` is its class in the style sheet, `mark` a shape, or none."""

    kind: str
    points: Points
    mark: str = ""


def plot(lines: Sequence[Line], x: str, y: str, words: str, chosen: Points = ()) -> Markup:
    """Draw lines over x and y from 0 to 1; `chosen` are points to mark with a ring; `words` describe the picture."""
    drawn = []
    for line in lines:
        at = [_at(*point) for point in line.points]
        path = " ".join(f"{'L' if i else 'M'}{a} {b}" for i, (a, b) in enumerate(at))
        drawn.append(Markup('<path class="{}" d="{}"/>').format(line.kind, path))
        every = max(1, -(-len(at) // MOST_MARKED))
        drawn += [
            Markup('<text class="mark {}" x="{}" y="{}">{}</text>').format(line.kind, a, b, line.mark)
            for a, b in (at[::every] if line.mark else ())
        ]
    drawn += [Markup('<circle class="chosen" cx="{}" cy="{}" r="8"/>').format(*_at(*point)) for point in chosen]
    ticks = [
        Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(a, b, anchor, f"{share:.3g}")
        for share in (0.0, 0.5, 1.0)
        for a, b, anchor in (
            (LEFT + SIZE * share, SIZE + 22, "middle"),
            (LEFT - 6, 12 + SIZE * (1 - share), "end"),
        )
    ]
    names = Markup(
        '<text x="{}" y="{}" text-anchor="middle">{}</text><text transform="translate(12 {}) rotate(-90)" '
        'text-anchor="middle">{}</text>'
    ).format(LEFT + SIZE / 2, SIZE + 38, x, 8 + SIZE / 2, y)
    square = (
        '<svg x="{0}" y="8" width="{1}" height="{1}" viewBox="0 0 {1} {1}"><rect width="{1}" height="{1}"/>{2}</svg>'
    )
    inner = Markup(square).format(LEFT, SIZE, Markup("").join(drawn))
    size = Markup('<svg class="unit" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">')
    head = size.format(LEFT + SIZE + 16, SIZE + BELOW, words)
    return head + inner + Markup("").join(ticks) + names + Markup("</svg>")


def threshold_pictures(own: GroupCurves, everyone: GroupCurves | None) -> list[tuple[str, Markup]]:
    """Draw ROC, precision–recall, calibration and threshold curves, each with its caption.

    A group's plot also has the line of all patients.
    """
    both = [("own", own, "●")] + ([("everyone", everyone, "")] if everyone and everyone.number != own.number else [])
    who, chosen = own.group, own.chosen

    def lines(points_of: Callable[[GroupCurves], Points], extra: Line) -> list[Line]:
        return [extra, *(Line(kind, points_of(one), mark) for kind, one, mark in reversed(both))]

    roc = plot(
        lines(
            lambda one: [(1 - p.specificity, p.sensitivity) for p in one.points], Line("yardstick", [(0, 0), (1, 1)])
        ),
        "1 − specificity",
        "sensitivity",
        f"ROC curve of {who}",
        [(1 - chosen.specificity, chosen.sensitivity)] if chosen else (),
    )
    share = own.of_class / own.n
    precision = plot(
        lines(
            lambda one: [(p.sensitivity, p.precision) for p in one.points if p.precision is not None],
            Line("yardstick", [(0, share), (1, share)]),
        ),
        "sensitivity (recall)",
        "precision",
        f"precision and recall of {who}",
        [
            (p.sensitivity, p.precision)
            for p in own.points
            if chosen and p.threshold == chosen.threshold and p.precision
        ],
    )
    reliability = plot(
        lines(_calibration, Line("yardstick", [(0, 0), (1, 1)])),
        "predicted probability",
        "observed share",
        f"calibration of {who}",
    )
    points = [p for p in own.points if 0 <= p.threshold <= 1]
    over = plot(
        [
            Line("specificity", [(p.threshold, p.specificity) for p in points], "◆"),
            Line("own", [(p.threshold, p.sensitivity) for p in points], "●"),
        ],
        "threshold probability",
        "share",
        f"sensitivity and specificity of {who} over the threshold",
        [(chosen.threshold, chosen.sensitivity), (chosen.threshold, chosen.specificity)] if chosen else (),
    )
    return [("ROC", roc), ("Precision–recall", precision), ("Calibration", reliability), ("Thresholds", over)]


def _calibration(curves: GroupCurves) -> Points:
    """Return mean prediction and observed share of at most `TENTHS` joined ranges of about equally many patients."""
    found: list[tuple[float, float]] = []
    n = of_class = 0
    predicted = 0.0
    left = curves.n
    for one in curves.ranges:
        n, of_class, predicted, left = (
            n + one.n,
            of_class + one.of_class,
            predicted + one.n * one.predicted,
            left - one.n,
        )
        if n >= curves.n / TENTHS and (left >= curves.n / TENTHS or not left):
            found.append((predicted / n, of_class / n))
            n = of_class = 0
            predicted = 0.0
    return found


def _at(x: float, y: float) -> tuple[float, float]:
    return round(SIZE * x, 1), round(SIZE * (1 - y), 1)
