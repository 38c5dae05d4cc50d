"""Hours of operation: ``mon-fri 19:00-07:00``, ``sat,sun 00:00-24:00``, ``22:00-06:00`` (every day)."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_FORM = re.compile(r"(?:(?P<days>[a-z,-]+) +)?(?P<start>\d{1,2}:\d{2})-(?P<end>\d{1,2}:\d{2})")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Window:
    """A time of day on some weekdays. If the end is not after the start, the window extends into the next day.

    Attributes
    ----------
    days
        Weekdays on which the window begins, Monday = 0.
    start, end
        Minutes after midnight, local time; `end` is exclusive.
    """

    days: frozenset[int]
    start: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a window.

        Raises
        ------
        ValueError
            If the text is not a window.
        """
        form = _FORM.fullmatch(text.strip().lower())
        if form is None:
            raise ValueError(f"{text!r} is no time window; write e.g. 'mon-fri 19:00-07:00' or '22:00-06:00'")
        return cls(_days(form["days"], text), _minutes(form["start"], text), _minutes(form["end"], text))

    def holds(self, moment: datetime) -> bool:
        """Return whether a moment lies in the window, in the moment's own time zone."""
        minute = moment.hour * 60 + moment.minute
        today, yesterday = moment.weekday(), (moment - timedelta(days=1)).weekday()
        if self.start < self.end:
            return today in self.days and self.start <= minute < self.end
        return (today in self.days and minute >= self.start) or (yesterday in self.days and minute < self.end)


def _days(text: str | None, whole: str) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not dash:
            last = first
        if first not in DAYS or last not in DAYS:
            raise ValueError(f"{whole!r}: {part!r} is no weekday; there are {', '.join(DAYS)}, and ranges like mon-fri")
        start, end = DAYS.index(first), DAYS.index(last)
        days |= {day % 7 for day in range(start, end + 1 if end >= start else end + 8)}
    return frozenset(days)


def _minutes(text: str, whole: str) -> int:
    hour, minute = map(int, text.split(":"))
    total = hour * 60 + minute
    if minute > 59 or total > _DAY_MINUTES:
        raise ValueError(f"{whole!r}: {text} is no time of day; 00:00 to 24:00")
    return total
