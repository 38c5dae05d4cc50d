"""Durations for people."""

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0


def duration(seconds: float) -> str:
    """Return ``"3.2 s"``, ``"45 s"``, ``"12 min"``, ``"2.5 h"`` or ``"4 days"``; the dashboard's script does the same.

    A unit is kept up to one and a half of the next, and hours up to two days, so that every text has two digits or
    three.
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 1.5 * MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 1.5 * HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.1f} h" if seconds < 2 * DAY else f"{seconds / DAY:.0f} days"
