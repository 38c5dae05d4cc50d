"""Run a simulation in its own process, and inject a fault at an exact moment of a round.

A forkserver imports everything once; each process then takes about a second. The faults are real: a signal that cannot
be caught, a limit of the operating system that prevents files from growing, another clock.
"""

import importlib
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(
    ["tests.e2e.chaos_process", "remind.cli", "remind_server.rounds.strategy", "remind_client.app"]
)


@dataclass(frozen=True)
class Moment:
    """The n-th call of a function after the first round: before it, after it, or, of a write, when half is written.

    Attributes
    ----------
    place
        ``module:attribute``; the attribute may have dots.
    of
        A part of the path that the call writes; empty: any call.
    """

    place: str
    when: str = "before"
    number: int = 1
    of: str = ""

    def arrange(self, what: Callable[[], None]) -> None:
        """Call `what` at this moment."""
        module, _, path = self.place.partition(":")
        *owners, name = path.split(".")
        owner = reduce(getattr, owners, importlib.import_module(module))
        inner, calls = getattr(owner, name), [0]

        def outer(*given: Any, **named: Any) -> Any:
            if not _begun() or (self.of and not any(self.of in str(one) for one in given)):
                return inner(*given, **named)
            calls[0] += 1
            now = calls[0] == self.number
            if now and self.when == "half":
                target = next(one for one in given if isinstance(one, Path))
                if name != "_append":  # a file that is written whole has another name until it is complete
                    target = target.with_name(target.name + ".partial")
                with target.open("ab") as out:
                    out.write(b'{"half": ')
            if now and self.when != "after":
                what()
            result = inner(*given, **named)
            if now and self.when == "after":
                what()
            return result

        setattr(owner, name, outer)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def full_disk() -> None:
    """Prevent all files of this process from growing."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


def an_hour_back() -> None:
    before = time.time
    time.time = lambda: before() - 3600


def _begun() -> bool:
    """Whether the first round has ended."""
    return any(Path("run/checkpoints").glob("round-0000[1-9].safetensors"))


def _run(folder: Path, words: list[str], moment: Moment | None, what: Callable[[], None] | None, out: Any) -> None:
    os.chdir(folder)
    os.dup2(out.fileno(), 1)
    os.dup2(out.fileno(), 2)
    out.close()
    if moment is not None and what is not None:
        moment.arrange(what)
    sys.argv = ["remind", "simulate", "-q", *words]
    importlib.import_module("remind.cli").main()


def simulate(
    folder: Path, *words: str, moment: Moment | None = None, what: Callable[[], None] | None = None
) -> tuple[int | None, str]:
    """Run ``remind simulate`` with these arguments; return its exit code and its output (from a pipe, not a file)."""
    receives, sends = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(folder, list(words), moment, what, sends))
    process.start()
    sends.close()
    said = b""
    while part := os.read(receives.fileno(), 65536):
        said += part
    process.join(120)
    if process.is_alive():
        process.kill()
        raise AssertionError(said.decode())
    return process.exitcode, said.decode()
