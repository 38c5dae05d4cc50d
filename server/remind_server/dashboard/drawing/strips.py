"""Rows of the expert map as SVG: a few paths each, so that hundreds of rows of hundreds of experts stay small."""

from collections.abc import Sequence
from heapq import nlargest
from itertools import groupby
from operator import itemgetter

from markupsafe import Markup, escape

LEVELS = 10  # shades; the lightest is not drawn
HEIGHT = 20
NARROWEST, LEAST_WIDTH = 6, 240  # units of an expert, and of a whole strip
NAMED = 3  # experts named in the label


def strip_width(experts: int) -> int:
    """Return the width of a strip; an expert's width is an integer, so that its edges are sharp."""
    return experts * max(NARROWEST, -(-LEAST_WIDTH // experts))


def strip(use: Sequence[float], top: float, label: str = "") -> Markup:
    """Return a row of cells, darker for larger weights; `top` is the darkest one's weight. Default label: a summary."""
    wide = strip_width(len(use)) // len(use)
    paths: list[list[str]] = [[] for _ in range(LEVELS)]
    x = 0
    for level, run in groupby(use, key=lambda weight: _level(weight, top)):
        length = wide * sum(1 for _ in run)
        paths[level].append(f"M{x} 0h{length}v{HEIGHT}h-{length}z")
        x += length
    drawn = "".join(f'<path class="u{u}" d="{"".join(parts)}"/>' for u, parts in enumerate(paths) if u and parts)
    words = escape(label or f"weights of {len(use)} experts; most used: {most_used(use)}")
    size = f'width="{x}" height="{HEIGHT}" viewBox="0 0 {x} {HEIGHT}"'
    return Markup(f'<svg class="strip" {size} role="img" aria-label="{words}">{drawn}</svg>')


def scale(experts: int) -> Markup:
    """Return the experts' numbers above the strips: the first, and then at regular steps."""
    wide = strip_width(experts) // experts
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, experts) if step * wide >= 24)
    numbers = [1, *range(max(step, 2), experts + 1, step)]
    texts = Markup("").join(
        Markup('<text x="{}" y="11">{}</text>').format((number - 0.5) * wide, number)
        for number in numbers
        if number == 1 or (number - 1) * wide >= 24
    )
    picture = '<svg class="scale" width="{0}" height="14" viewBox="0 0 {0} 14" aria-hidden="true">{1}</svg>'
    return Markup(picture).format(experts * wide, texts)


def most_used(use: Sequence[float]) -> str:
    """Return the experts with the largest weights, as text."""
    most = nlargest(NAMED, enumerate(use, start=1), key=itemgetter(1))
    return ", ".join(f"{e} ({100 * weight:.1f} %)" for e, weight in most if weight > 0) or "none in use"


def _level(weight: float, top: float) -> int:
    return min(int(weight / top * LEVELS), LEVELS - 1) if top > 0 else 0
