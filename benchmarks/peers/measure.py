"""Run a candidate in processes of its own, and follow the time, processor time and memory of the whole tree.

Linux only: it reads /proc.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

BECOME_SUBREAPER = 36  # prctl(2): descendants whose parent ends become ours, so that none is missed
EVERY = 1.0  # seconds between two looks
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Timeline:
    """What was seen of a process tree.

    Attributes
    ----------
    seen
        Seconds since 1970, and processor seconds of all processes until then.
    peak
        Largest sum of the processes' proportional memory (PSS), in bytes.
    """

    seen: list[tuple[float, float]] = field(default_factory=list)
    peak: int = 0
    _cpu: dict[int, float] = field(default_factory=dict)

    def look(self) -> None:
        """Add what the tree is like now."""
        memory = 0
        for pid in descendants(os.getpid()):
            with suppress(OSError, ValueError):
                stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(") ")[2]
                words = stat.split()
                self._cpu[pid] = (int(words[11]) + int(words[12])) / TICKS
                memory += pss(pid)
        self.peak = max(self.peak, memory)
        self.seen.append((time.time(), sum(self._cpu.values())))

    def cpu_until(self, moment: float) -> float:
        """Return the processor seconds until a moment, between two looks in proportion."""
        after = bisect_left(self.seen, (moment, 0.0))
        if after == 0:
            return 0.0
        if after == len(self.seen):
            return self.seen[-1][1]
        (t0, c0), (t1, c1) = self.seen[after - 1], self.seen[after]
        return c0 + (c1 - c0) * (moment - t0) / (t1 - t0)


@dataclass(frozen=True)
class Measured:
    """A candidate's figures.

    Attributes
    ----------
    seconds, cpu_seconds
        Median of a round, without the first, which pays for the start: by the clock, and of all processes together.
    start
        Seconds until the first round had ended.
    peak
        Peak memory of the process tree in bytes, shared pages counted once.
    """

    seconds: float
    cpu_seconds: float
    start: float
    peak: int


class FailedError(Exception):
    """A candidate did not do the job."""


def run(command: Sequence[str], environment: Mapping[str, str], log: Path, limit: float) -> tuple[Timeline, float]:
    """Run a command to its end; return what was seen, and when it started.

    Raises
    ------
    FailedError
        It failed, or took longer than `limit` seconds.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(BECOME_SUBREAPER, 1, 0, 0, 0)
    timeline, started = Timeline(), time.time()
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, **environment}, cwd=log.parent)
        try:
            while process.poll() is None:
                if time.time() > started + limit:
                    raise FailedError(f"more than {limit:g} s")
                timeline.look()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(EVERY)
        finally:
            end_descendants()
    if process.returncode:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise FailedError(last[0] if last else f"exit code {process.returncode}")
    return timeline, started


def figures(timeline: Timeline, started: float, ends: Sequence[float]) -> Measured:
    """Return a candidate's figures from the times at which its rounds ended."""
    pairs = list(pairwise(ends))
    if not pairs:
        raise FailedError("fewer than two rounds")
    return Measured(
        seconds=median(b - a for a, b in pairs),
        cpu_seconds=median(timeline.cpu_until(b) - timeline.cpu_until(a) for a, b in pairs),
        start=ends[0] - started,
        peak=timeline.peak,
    )


def descendants(root: int) -> list[int]:
    """Return the processes below this one."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError):
            words = entry.read_text(encoding="utf-8", errors="replace").rpartition(") ")[2].split()
            children.setdefault(int(words[1]), []).append(int(entry.parent.name))
    found, new = [], [root]
    while new:
        new = [child for parent in new for child in children.get(parent, ())]
        found += new
    return found


def pss(pid: int) -> int:
    """Return the proportional memory of a process in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    return 0


def end_descendants() -> None:
    """End all processes below this one."""
    for pid in descendants(os.getpid()):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        while os.waitpid(-1, 0)[0]:
            pass
