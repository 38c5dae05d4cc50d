"""A program that is kept running, with everything it starts.

It has a process group of its own, so that what it starts ends with it; it is tethered (`tether`), so that it ends even
if its supervisor is killed; and its lines may be read on their way to the log.
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
_KILLED = 2.0  # seconds to be gone after SIGKILL, and taken from the process table by init
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Patience:
    """How long a program is waited for, in seconds.

    Attributes
    ----------
    first, longest
        Before a program that ended is started again; doubled each time.
    steady
        After so long a program counts as running well: the next pause is the first again.
    grace
        To end in, before it is made to.
    """

    first: float = 1.0
    longest: float = 60.0
    steady: float = 120.0
    grace: float = 10.0


def to_log(line: str) -> None:
    """As `Child.hear`: every line is for the log, under the program's name."""


@dataclass
class Child:
    """A program to keep running.

    Attributes
    ----------
    name, command, environment
        Of the program.
    say
        Called with every line of our own about it.
    hear
        Called with every line it writes; a line of which it says True is not for the log. None: it writes to our output
        itself, and is not heard.
    on_start
        Called after every start.
    ends
        How often it ended unasked.
    last_end
        How it ended last, in words.
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
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def keep(self) -> None:
        """Run it until `stop`; whenever it ends before, start it again, ever later."""
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
        """Send it a signal, if it runs: to the program alone, not to what it has started."""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)

    async def restart(self, why: str) -> None:
        """End it and all it has started, as `stop` does; `keep` then starts it again."""
        if self.pid is not None and not self._stopping.is_set():
            self.say(f"{self.name} is started again: {why}")
            self._hurry = True
            await _end_group(self.pid, self.patience.grace)

    async def stop(self, grace: float | None = None) -> None:
        """End it and all it has started: asked first, made to after `grace` seconds (None: as its patience says)."""
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
                start_new_session=True,  # a group of its own: what it starts ends with it
            )
        except OSError as error:
            self.say(f"{self.name} cannot be started: {error.strerror}")
            return None
        self.on_start()
        listening = asyncio.create_task(self._listen(process))
        if self._stopping.is_set():  # asked to while it was being started
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
    """One line of our own for the log, at once."""
    print(f"{program}: {text}", file=sys.stderr, flush=True)


async def _exit(process: asyncio.subprocess.Process) -> int:
    """Exit code; asyncio's `wait` also waits for whoever holds the program's output, as what it has started does."""
    while process.returncode is None:
        await asyncio.sleep(0.05)
    return process.returncode


async def _end_group(group: int, grace: float, asked: bool = False) -> None:
    """End all processes of a group and wait until they are gone: asked to first, if they were not yet."""
    for number, patience in ((None if asked else signal.SIGTERM, grace), (signal.SIGKILL, _KILLED)):
        alive = _signal_group(group, number)
        deadline = time.monotonic() + patience
        while alive and time.monotonic() < deadline:
            await asyncio.sleep(0.05)  # nobody tells when someone else's child ends
            alive = _signal_group(group, None)
        if not alive:
            return


def _signal_group(group: int, number: signal.Signals | None) -> bool:
    """Send a signal (None: nothing) to all processes of a group; whether there was one."""
    try:
        os.killpg(group, number or 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # all that is left of it is not ours (macOS says this of a zombie)
        return False
    return True


def _words(code: int | None) -> str:
    if code is None:
        return "not started"
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
