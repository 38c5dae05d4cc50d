"""Run one task of the SuperNode as Flower's ``flwr-clientapp`` does, but through the door.

Flower's own function unpacks the bundle and imports the app before anything can validate them, and then exits. Here
the bundle stays in memory until the door has accepted it, and the process can continue with the next task.
"""

import logging
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from flwr.clientapp import ClientApp

from remind.quoting import quoted
from remind_client.flower_internals import RunNotRunningException, TaskLine, load_component, task_arguments
from remind_client.launcher.door import Door
from remind_client.policy.bundle import OURS, Bundle

log = logging.getLogger(__name__)
PATIENCE = 60.0  # seconds of trying to reach a SuperNode that is gone; without a limit it would block the worker


class TaskStopped(BaseException):
    """The SuperNode no longer wants this task: its run was stopped, or its token has expired."""


@dataclass(frozen=True)
class TaskCall:
    """The arguments of Flower's call of ``flwr-clientapp`` that are used here.

    The option to install an app's dependencies at run time is not among them: a site runs only what its administrator
    installed.
    """

    address: str
    token: str
    certificates: bytes | None
    insecure: bool

    @classmethod
    def parse(cls, arguments: Sequence[str]) -> "TaskCall":
        """Parse a list of command-line arguments.

        Raises
        ------
        SystemExit
            If they are not the arguments of Flower's call.
        """
        return cls(*task_arguments(arguments))


def run_task(call: TaskCall, door: Door) -> bool:
    """Run one task; return whether an answer or a refusal was sent.

    Must run in the main thread: Flower stops a task by SIGINT to its process.
    """
    line = TaskLine(call.address, call.token, call.certificates, call.insecure, PATIENCE)
    context = None
    completed, details = False, "the task could not be started; the site's own log says why"
    try:
        with _stoppable():
            line.open()
            message, context, run, bundle = line.pull()
            log.info("run %s: %s", run, quoted(message.metadata.message_type))
            with tempfile.TemporaryDirectory(prefix="remind-app-") as folder:
                reply = door.answer(bundle, message, context, lambda b: load(b, bundle, Path(folder)))
                details = "the answer could not be sent; the site's own log says why"
                line.push(reply, context)
            completed, details = True, ""
    except TaskStopped:
        log.warning("the task was stopped")
    except RunNotRunningException:
        log.warning("the run is over; its task is dropped")
    except Exception:  # the text of an exception must not reach the coordinator through the task's details
        log.exception("the task failed")
    finally:
        with suppress(Exception, RunNotRunningException):  # the SuperNode notices without it, only later
            line.end(context, completed, details)
        line.close()
    return completed


def load(bundle: Bundle, content: bytes, folder: Path) -> ClientApp:
    """Load the app of an accepted bundle: our app as installed, any other app unpacked into `folder`."""
    if bundle.component == OURS and not bundle.code:
        from remind_client.app import app as ours

        return ours
    return load_component(bundle.component, content, folder)


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGINT raise `TaskStopped` within the block; restore the old handler afterwards."""

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise TaskStopped

    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("a task runs in the main thread")
    before: Any = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def set_up_logging() -> None:
    """Send our log lines to standard error, the same stream as the SuperNode's."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per call otherwise
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
