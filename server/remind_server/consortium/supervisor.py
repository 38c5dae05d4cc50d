"""Keeps programs running: starts them, starts them again when they end, ends them all when asked to.

Every program gets a process group of its own, so that what it has started goes with it: a SuperExec's ServerApps are
neither left behind by an end nor by a crash.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # seconds before a program that ended is started again; doubled each time
STEADY = 60.0  # seconds after which a program counts as running well
GRACE = 15.0  # seconds to end in, before it is made to
KILLED = 2.0  # seconds to be gone after SIGKILL, and taken from the process table by init


@dataclass(frozen=True)
class Program:
    """A program to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]


@dataclass
class Child:
    """A program under way; `ends` counts how often it ended unasked, `on_start` is called after every start."""

    program: Program
    on_start: Callable[[], None] = lambda: None
    process: asyncio.subprocess.Process | None = None
    ends: int = 0
    stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        return self.process is not None and self.process.returncode is None

    async def keep(self, say: Callable[[str], None]) -> None:
        """Run it until `stop`; whenever it ends before, start it again, ever later."""
        pause = FIRST_PAUSE
        while not self.stopping.is_set():
            started = time.monotonic()
            code = await self._once(say)
            if self.stopping.is_set():
                return
            self.ends += 1
            if time.monotonic() - started > STEADY:
                pause = FIRST_PAUSE
            say(f"{self.program.name} ended ({_ended(code)}); starting it again in {pause:g} s")
            try:
                await asyncio.wait_for(self.stopping.wait(), pause)
            except TimeoutError:
                pause = min(2 * pause, LONGEST_PAUSE)

    async def _once(self, say: Callable[[str], None]) -> int | None:
        try:
            self.process = await asyncio.create_subprocess_exec(
                *self.program.command,
                env=dict(self.program.environment),
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            say(f"{self.program.name} cannot be started: {error}")
            return None
        self.on_start()
        if self.stopping.is_set():  # asked to while it was being started
            self.stop()
        code = await self.process.wait()
        await self._clear(self.process.pid)
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)

    def stop(self) -> None:
        """Ask it and all it has started to end; `keep` returns when they have."""
        self.stopping.set()
        if self.process is not None and self.process.returncode is None:
            _signal_group(self.process.pid, signal.SIGTERM)
            asyncio.get_running_loop().call_later(GRACE, self._insist, self.process)

    def _insist(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGKILL)

    async def _clear(self, group: int) -> None:
        """Wait for what the program had started: asked to end once, made to after `GRACE` seconds."""
        first = None if self.stopping.is_set() else signal.SIGTERM  # `stop` has asked the whole group
        for number, patience in ((first, GRACE), (signal.SIGKILL, KILLED)):
            deadline = time.monotonic() + patience
            alive = _signal_group(group, number)
            while alive and time.monotonic() < deadline:
                await asyncio.sleep(0.1)  # nobody tells when someone else's child ends
                alive = _signal_group(group, None)
            if not alive:
                return


def say(text: str) -> None:
    """One line on the output, at once."""
    print(f"remind consortium: {text}", file=sys.stderr, flush=True)


def _signal_group(group: int, number: signal.Signals | None) -> bool:
    """Send a signal (None: nothing) to all processes of a group; whether there was one."""
    try:
        os.killpg(group, number or 0)
    except ProcessLookupError:
        return False
    return True


def _ended(code: int | None) -> str:
    if code is None:
        return "not started"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
