"""The clock for deadlines: the machine's clock, or one that a test or an in-process grid advances."""

import time
from typing import Protocol

from flwr.serverapp import Grid


class Clock(Protocol):
    """A monotonic clock, in seconds."""

    def now(self) -> float:
        """Return the seconds since some fixed moment."""

    def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Return the seconds since some fixed moment."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""
        time.sleep(seconds)


class SimulatedClock:
    """A clock that only `sleep` advances: tests do not wait, and no site is late because the machine is slow."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        """Return the seconds since the clock was made."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Advance by this many seconds without waiting."""
        self._now += seconds


_SYSTEM = SystemClock()


def clock_of(grid: Grid) -> Clock:
    """Return the clock of a grid: its own if it has one, else the machine's clock."""
    clock: Clock = getattr(grid, "clock", _SYSTEM)
    return clock
