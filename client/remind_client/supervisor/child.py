"""A program that is kept running, with everything it starts, and whose lines are read on their way to the log."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from remind_client.supervisor import tether

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before a program that ended is started again; doubled each time
STEADY = 120.0  # seconds after which a program counts as running well
GRACE = 10.0  # seconds to end in, before it is made to
_LONGEST_LINE = 1 << 20


@dataclass
class Child:
    """A program to keep running.

    Attributes
    ----------
    name, command, environment
        Of the program.
    hear
        Called with every line it writes; a line of which it says True is not for the log.
    ends
        How often it ended unasked.
    last_end
        How it ended last, in words.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    hear: Callable[[str], bool | None] = lambda line: None
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
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            began = time.monotonic()
            code = await self._once()
            if self._stopping.is_set():
                return
            self.ends += 1
            self.last_end = _words(code)
            if time.monotonic() - began > STEADY or self._hurry:
                pause = FIRST_PAUSE
            self._hurry = False
            say(f"{self.name} ended ({self.last_end}); starting it again in {pause:g} s")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def restart(self, why: str, grace: float = GRACE) -> None:
        """End it and all it has started, as `stop` does; `keep` then starts it again."""
        if self.pid is not None and not self._stopping.is_set():
            say(f"{self.name} is started again: {why}")
            self._hurry = True
            await _end_group(self.pid, grace)

    async def stop(self, grace: float = GRACE) -> None:
        """End it and all it has started: asked first, made to after `grace` seconds."""
        self._stopping.set()
        if self._process is not None:
            await _end_group(self._process.pid, grace, self._process)

    async def _once(self) -> int | None:
        try:
            self._process = process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", tether.__file__, str(os.getpid())),
                *self.command,
                env=dict(self.environment),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=_LONGEST_LINE,
                start_new_session=True,  # a group of its own: what it starts ends with it
            )
        except OSError as error:
            say(f"{self.name} cannot be started: {error.strerror}")
            return None
        if self._stopping.is_set():  # asked to while it was being started
            _signal_group(process.pid, signal.SIGTERM)
        listening = asyncio.create_task(self._listen(process))
        code = await process.wait()
        await _end_group(process.pid, GRACE)
        with contextlib.suppress(TimeoutError):  # something that left the group may hold the pipe open
            await asyncio.wait_for(listening, 1)
        return code

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while True:
            try:
                raw = await process.stdout.readline()
            except ValueError:  # a line longer than the limit: read past it
                continue
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            if not self.hear(line) and line:
                print(f"[{self.name}] {line}", file=sys.stderr, flush=True)


def say(text: str) -> None:
    """One line of our own, at once."""
    print(f"remind-site: {text}", file=sys.stderr, flush=True)


async def _end_group(group: int, grace: float, process: asyncio.subprocess.Process | None = None) -> None:
    """End all processes of a group and wait until they are gone."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, GRACE)):
        if not _signal_group(group, number):
            break
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and _signal_group(group, None):
            await asyncio.sleep(0.05)  # nobody tells when someone else's child ends
    if process is not None:
        await process.wait()


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
