"""A program that is kept running, with everything it starts.

It has its own process group, so that its child processes end with it. It is tethered (`tether`), so that it ends even
if its supervisor is killed. Its output can be parsed on the way to the log.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from remind.processes import tether

Hear = Callable[[str], bool | None]
_KILLED = 2.0  # seconds to end after SIGKILL, until init has removed it from the process table
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Patience:
    """Waiting times, in seconds.

    Attributes
    ----------
    first, longest
        First and longest pause before a restart; it doubles each time.
    steady
        A program that has run for this long counts as stable: the next pause is the first again.
    grace
        Time to end after SIGTERM, before SIGKILL.
    """

    first: float = 1.0
    longest: float = 60.0
    steady: float = 120.0
    grace: float = 10.0


def to_log(line: str) -> None:
    """Handle a line as in `Child.hear`: log every line with the program's name."""


@dataclass
class Child:
    """A program to keep running.

    Attributes
    ----------
    name, command, environment
        Of the program.
    say
        Logs our own messages about the program.
    hear
        Called with every output line of the program; if it returns True, the line is not logged. None: the program
        writes to our output directly.
    on_start
        Called after every start.
    ends
        How often it ended unexpectedly.
    last_end
        How it ended last, as text.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    say: Callable[[str], None]
    hear: Hear | None = None
    on_start: Callable[[], None] = lambda: None
    patience: Patience = Patience()
    ends: int = 0
    last_end: str = ""
    _process: asyncio.subprocess.Process | None = None
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _hurry: bool = False

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def keep(self) -> None:
        """Run it until `stop`; whenever it ends earlier, restart it after a growing pause."""
        pause = self.patience.first
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._once()
            if self._stopping.is_set():
                return
            self.ends += 1
            self.last_end = _words(code)
            if time.monotonic() - began > self.patience.steady or self._hurry:
                pause = self.patience.first
            self._hurry = False
            self.say(f"{self.name} ended ({self.last_end}); starting it again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, self.patience.longest)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program, if it runs, but not to its child processes."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def restart(self, why: str) -> None:
        """End it and its child processes, as `stop` does; `keep` then restarts it."""
        if self.pid is not None and not self._stopping.is_set():
            self.say(f"{self.name} is started again: {why}")
            self._hurry = True
            await _end_group(self.pid, self.patience.grace)

    async def stop(self, grace: float | None = None) -> None:
        """End it and its child processes: SIGTERM, then SIGKILL after `grace` seconds (None: `Patience.grace`)."""
        self._stopping.set()
        if self._process is not None:
            await _end_group(self._process.pid, self.patience.grace if grace is None else grace)
            await _exit(self._process)

    async def _once(self) -> int | None:
        program = self.command[0]
        if shutil.which(program, path=self.environment.get("PATH")) is None:
            self.say(f"{self.name} cannot be started: {program}: no such program")
            return None
        piped = asyncio.subprocess.PIPE if self.hear is not None else None
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid())),
                *self.command,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=piped,
                stderr=None if piped is None else asyncio.subprocess.STDOUT,
                limit=_LONGEST_LINE,
                start_new_session=True,  # an own process group: child processes end with it
            )
        except OSError as error:
            self.say(f"{self.name} cannot be started: {error.strerror}")
            return None
        self.on_start()
        listening = asyncio.create_task(self._listen(process))
        if self._stopping.is_set():  # stopped during the start
            await self.stop()
        code = await _exit(process)
        # `stop` has asked the whole group already; a second SIGTERM would make some programs hurry
        await _end_group(process.pid, self.patience.grace, asked=self._stopping.is_set())
        with contextlib.suppress(TimeoutError):  # something that left the group may hold the pipe open
            await asyncio.wait_for(listening, 1)
        return code

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        while process.stdout is not None:
            try:
                raw = await process.stdout.readline()
            except ValueError:  # a line longer than the limit: read past it
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            if self.hear is not None and not self.hear(line) and line:
                print(f"[{self.name}] {line}", file=sys.stderr, flush=True)


def announce(program: str, text: str) -> None:
    """Write one line of our own to the log, unbuffered."""
    print(f"{program}: {text}", file=sys.stderr, flush=True)


async def _exit(process: asyncio.subprocess.Process) -> int:
    """Return the exit code; asyncio's `wait` would also wait for child processes that hold the program's output."""
    while process.returncode is None:
        await asyncio.sleep(0.05)
    return process.returncode


async def _end_group(group: int, grace: float, asked: bool = False) -> None:
    """End all processes of a group and wait until they are gone; send SIGTERM first, if not done yet."""
    for number, patience in ((None if asked else signal.SIGTERM, grace), (signal.SIGKILL, _KILLED)):
        alive = _signal_group(group, number)
        deadline = time.monotonic() + patience
        while alive and time.monotonic() < deadline:
            await asyncio.sleep(0.05)  # there is no notification when another process's child ends
            alive = _signal_group(group, None)
        if not alive:
            return


def _signal_group(group: int, number: signal.Signals | None) -> bool:
    """Send a signal (None: nothing) to all processes of a group; return whether there was a process."""
    try:
        os.killpg(group, number or 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # the remaining processes are not ours (macOS reports this for a zombie)
        return False
    return True


def _words(code: int | None) -> str:
    if code is None:
        return "not started"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
