"""The 95 % interval of a difference of two scores, from the interval of each (MOVER; Newcombe 1998, method 10).

The two scores are treated as independent. Scores of two models on the same patients are positively correlated, so this
interval is too wide rather than too narrow, and a significant difference stays significant. The exact interval of a
pair needs both scores of every patient, which do not leave a hospital.
"""

import math

Scored = tuple[float, float, float]  # value, and the ends of its interval


def difference(first: Scored, second: Scored) -> Scored:
    """Return second minus first with its interval: the distances to the ends of both intervals add as squares."""
    (a, a_low, a_high), (b, b_low, b_high) = first, second
    below = math.hypot(b - b_low, a_high - a)
    above = math.hypot(b_high - b, a - a_low)
    return b - a, b - a - below, b - a + above
