"""The clock for deadlines: the machine's clock, or one that a test or an in-process grid advances."""

import time
from typing import Protocol

from flwr.serverapp import Grid


class Clock(Protocol):
    """A monotonic clock, in seconds."""

    def now(self) -> float:
        """Seconds since some fixed moment."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since some fixed moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)


class SimulatedClock:
    """A clock that advances only by `sleep`: a test does not wait, and a slow machine makes no site late."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Seconds since the clock was made."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Advance by this many seconds without waiting."""
        self._now += seconds


_SYSTEM = SystemClock()


def clock_of(grid: Grid) -> Clock:
    """The clock that expires a grid's messages: the machine's clock, unless the grid has its own."""
    clock: Clock = getattr(grid, "clock", _SYSTEM)
    return clock
