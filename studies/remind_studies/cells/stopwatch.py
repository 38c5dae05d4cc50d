"""Time candidates alternately in one process, so that other load of the machine affects all of them equally."""

import gc
import resource
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import inf, sqrt
from pathlib import Path
from statistics import median
from typing import Literal

from remind.processes.memory import return_freed_memory

Clock = Literal["wall", "cpu"]
FEWEST = 5  # minimum number of turns, however long they take
NOW: dict[Clock, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Candidate:
    """The step to time, the context of a turn, and a function that frees memory after a turn."""

    step: Callable[[], object]
    context: Callable[[], AbstractContextManager[object]] = nullcontext
    clear: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Lap:
    """Seconds of one step, and bytes of new pages from the operating system."""

    seconds: float
    fresh: int


Laps = Mapping[str, list[Lap]]


def take_turns(candidates: Mapping[str, Candidate], turns: int, steps: int, clock: Clock, most: float = inf) -> Laps:
    """Time the candidates in turns of one untimed and `steps` timed steps; the first candidate changes each turn.

    Parameters
    ----------
    turns, most
        Number of turns; after `most` seconds no further turn begins, but there are at least `FEWEST`.
    """
    names = list(candidates)
    laps: dict[str, list[Lap]] = {name: [] for name in names}
    over = time.monotonic() + most
    gc.disable()
    try:
        for turn in range(turns):
            if turn >= FEWEST and time.monotonic() > over:
                break
            start = turn % len(names)
            for name in names[start:] + names[:start]:
                with candidates[name].context():
                    candidates[name].step()
                    laps[name] += [_lap(candidates[name].step, NOW[clock]) for _ in range(steps)]
                candidates[name].clear()
    finally:
        gc.enable()
    return laps


def _lap(step: Callable[[], object], now: Callable[[], float]) -> Lap:
    faults, begun = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, now()
    step()
    seconds = now() - begun
    return Lap(seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) * resource.getpagesize())


def seconds(laps: Laps, name: str) -> float:
    """Return the median seconds of a step."""
    return median(lap.seconds for lap in laps[name])


def ratio(laps: Laps, name: str, to: str) -> tuple[float, float, float]:
    """Return the median over the laps of time ÷ that of the other's lap of the same turn, and its 95 % interval."""
    ratios = sorted(mine.seconds / other.seconds for mine, other in zip(laps[name], laps[to], strict=True))
    count = len(ratios)
    low = max(0, int(count / 2 - 0.98 * sqrt(count)))
    return median(ratios), ratios[low], ratios[count - 1 - low]


def peak_bytes(candidate: Candidate) -> int | None:
    """Return the peak memory of three steps above the memory before; None except on Linux with glibc."""
    try:
        return_freed_memory()  # memory kept by malloc would hide the memory of the steps
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
    except OSError:
        return None
    with candidate.context():
        for _ in range(3):
            candidate.step()
    peak = _status("VmHWM") - before
    candidate.clear()
    return peak


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
