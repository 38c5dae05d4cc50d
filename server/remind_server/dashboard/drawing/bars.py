"""Intervals as bars on one scale, and trends as small lines, in the table of hospitals."""

import math
from collections.abc import Sequence

from markupsafe import Markup

from remind_server.dashboard.answers import Estimate, PatientScores
from remind_server.dashboard.views.hospitals import Hospital, Hospitals

WIDTH, HEIGHT = 180, 18  # units of a bar
LINE, TALL = 110, 26  # units of a trend


def bar_scale(hospitals: Hospitals) -> Markup:
    """Return the ends of the bars' common scale."""
    low, high = _ends(hospitals)
    return Markup('<span class="bar-scale"><span>{}</span><span>{}</span></span>').format(_short(low), _short(high))


def interval_bar(scores: PatientScores, overall: PatientScores, hospitals: Hospitals) -> Markup:
    """Return a score's interval as a bar, the score as a dot, and the score of all patients as a vertical line."""
    found: Estimate | None = getattr(scores, hospitals.score)
    everybody: Estimate | None = getattr(overall, hospitals.score)
    if found is None:
        return Markup("")
    low, high = _ends(hospitals)

    def at(value: float) -> float:
        return round(min(max((value - low) / (high - low), 0.0), 1.0) * WIDTH, 1)

    parts = [Markup('<path class="base" d="M0 9H{}"/>').format(WIDTH)]
    if everybody is not None:
        parts.append(Markup('<path class="everybody" d="M{} 0V{}"/>').format(at(everybody.value), HEIGHT))
    if found.low is not None and found.high is not None:
        parts.append(Markup('<path class="interval" d="M{} 9H{}"/>').format(at(found.low), at(found.high)))
    parts.append(Markup('<circle cx="{}" cy="9" r="4"/>').format(at(found.value)))
    between = "" if found.low is None else f", 95 % interval {found.low:.2f} to {found.high:.2f}"
    words = f"{found.value:.3f}{between}"
    head = '<svg class="bar" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">{3}</svg>'
    return Markup(head).format(WIDTH, HEIGHT, words, Markup("").join(parts))


def sparkline(row: Hospital, hospitals: Hospitals) -> Markup:
    """Return the trend of a hospital as a line with its last value; all lines of a page have one scale."""
    known = [value for one in hospitals.rows for value in one.trend if value is not None]
    own = [(i, value) for i, value in enumerate(row.trend) if value is not None]
    if not own:
        return Markup('<span class="none">–</span>')
    low, high = min(known), max(known)
    last = max(len(row.trend) - 1, 1)

    def at(i: int, value: float) -> tuple[float, float]:
        share = (value - low) / (high - low) if high > low else 0.5
        return round(4 + (LINE - 8) * i / last, 1), round(4 + (TALL - 8) * (1 - share), 1)

    pieces = _unbroken([i for i, _ in own])
    value_of = dict(own)
    lines = [
        " ".join(f"{'L' if k else 'M'}{x} {y}" for k, (x, y) in enumerate(at(i, value_of[i]) for i in p))
        for p in pieces
    ]
    end = at(*own[-1])
    words = f"round by round, from {own[0][1]:.3f} to {own[-1][1]:.3f}; scale {low:.2f} to {high:.2f}"
    head = (
        '<svg class="trend" width="{0}" height="{1}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}" data-tip="{2}">'
        '<path d="{3}"/><circle cx="{4}" cy="{5}" r="3"/></svg>'
    )
    return Markup(head).format(LINE, TALL, words, " ".join(lines), *end)


def _unbroken(places: Sequence[int]) -> list[list[int]]:
    """Return runs of consecutive positions: a line has a gap at a round without a value."""
    found: list[list[int]] = []
    for i in places:
        if found and found[-1][-1] == i - 1:
            found[-1].append(i)
        else:
            found.append([i])
    return found


def _ends(hospitals: Hospitals) -> tuple[float, float]:
    """Return the ends of the scale: those of the intervals, rounded outwards to a tenth; of a share within 0 and 1."""
    found = [one for row in hospitals.rows if (one := getattr(row.scores, hospitals.score)) is not None]
    ends = [end for one in found for end in (one.value, one.low, one.high) if end is not None] or [0.0, 1.0]
    low, high = math.floor(10 * min(ends)) / 10, math.ceil(10 * max(ends)) / 10
    return (low, high) if high > low else (low - 0.1, low + 0.1)


def _short(value: float) -> str:
    return f"{value:.2g}"
