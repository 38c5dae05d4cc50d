"""The clock that deadlines are measured by: the machine's, or one that a test or an in-process grid moves on."""

import time
from typing import Protocol

from flwr.serverapp import Grid


class Clock(Protocol):
    """Seconds that never run backwards."""

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
    """Time that passes only when somebody sleeps: no test waits for it, and no slow machine makes anybody late."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Seconds since the clock was made."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Move on by this many seconds, at once."""
        self._now += seconds


_SYSTEM = SystemClock()


def clock_of(grid: Grid) -> Clock:
    """The clock by which a grid's messages age: the machine's, unless the grid has one of its own."""
    clock: Clock = getattr(grid, "clock", _SYSTEM)
    return clock
