"""Follows a run that Flower's `run` command submitted: its id, the end of its log, its final status.

Flower's command exits with 0 even if the streamed run fails, and at Ctrl-C the run continues without a message.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from remind_server.flower_internals import replaced_in_run, run_status
from remind_server.outputs.attendance import INCOMPLETE
from remind_server.outputs.gaps import summary_warnings

PATIENCE = 15.0  # seconds to wait between the end of a run's log and the end of the run
LOOK = 0.2
FAILED, INTERRUPTED = 1, 130  # exit codes


@dataclass
class Followed:
    """The submitted runs, oldest first, and the status of the streamed one when its log ended.

    Attributes
    ----------
    status
        ``finished:completed``, ``finished:failed``, ``running`` …; empty if nothing was streamed.
    """

    ids: list[int] = field(default_factory=list)
    status: str = ""
    details: str = ""

    @property
    def goes_on(self) -> bool:
        """Return whether the user stopped watching before the run ended."""
        return bool(self.status) and not self.status.startswith("finished")


@contextmanager
def followed(run: Callable[..., None]) -> Iterator[Followed]:
    """Record the runs that Flower's `run` submits in this context; none if this Flower submits in another way."""
    seen = Followed()
    with replaced_in_run(run, lambda connect: _noting(connect, seen), lambda stream: _watching(stream, seen)):
        yield seen


def exit_code(seen: Followed, commands: Callable[[str], str], results: str, say: Callable[[str], None]) -> int:
    """Return the command's exit code; if it is not 0, print the reason first.

    Parameters
    ----------
    commands
        Function that completes ``"log 42 --stream"`` to the whole command.
    results
        Folder of the run, if it is on this machine.
    """
    run_id = seen.ids[-1] if seen.ids else 0
    if seen.goes_on:
        say(
            f"run {run_id} continues without you: stop it with: {commands(f'stop {run_id}')}   "
            f"or watch it again with: {commands(f'log {run_id}')} --stream"
        )
        return INTERRUPTED
    if seen.status == "finished:completed":
        warnings = _absent(results)
        for warning in warnings:
            say(f"warning: {warning}")
        return INCOMPLETE if warnings else 0
    if seen.status:
        why = f": {seen.details}" if seen.details else f"; its log says why: {commands(f'log {run_id}')} --show"
        say(f"error: run {run_id} {'was stopped' if seen.status == 'finished:stopped' else 'failed'}{why}")
        return FAILED
    return 0


def _absent(results: str) -> list[str]:
    path = Path(results) / "summary.json"
    try:
        return summary_warnings(json.loads(path.read_text(encoding="utf-8"))) if results else []
    except (OSError, ValueError):
        return []


def _noting(connect: Callable[..., Any], seen: Followed) -> Callable[..., Any]:
    def connect_and_note(*args: Any, **kwargs: Any) -> Any:
        client = connect(*args, **kwargs)
        start = client.StartRun

        def start_and_note(request: Any) -> Any:
            response = start(request)
            seen.ids.append(response.run_id)
            return response

        client.StartRun = start_and_note
        return client

    return connect_and_note


def _watching(stream: Callable[[int, Any], None], seen: Followed) -> Callable[[int, Any], None]:
    def stream_and_look(run_id: int, client: Any) -> None:
        whole = False
        logs = client.StreamLogs

        def to_the_end(request: Any) -> Iterator[Any]:
            nonlocal whole
            yield from logs(request)
            whole = True

        client.StreamLogs = to_the_end
        stream(run_id, client)  # it also returns at Ctrl-C
        closes = time.monotonic() + PATIENCE
        while True:
            seen.status, seen.details = run_status(run_id, client)
            if not (whole and seen.goes_on and time.monotonic() < closes):
                return
            time.sleep(LOOK)

    return stream_and_look
