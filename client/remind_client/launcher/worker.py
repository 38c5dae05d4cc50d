"""The warm worker: a long-running process that keeps torch, the model code and the site's data in memory.

It accepts one task at a time (a SuperNode has no more) from the launchers, over a Unix socket in the state folder
that only the site's own user can access. Tasks run in the main thread, because Flower stops a task by a signal, and
torch binds its threads to the calling thread. On SIGTERM the worker finishes the current task and exits.

The worker runs only our own app, never the code of a bundle: a bundle that may contain code gets a separate process.
"""

import contextlib
import json
import logging
import os
import queue
import resource
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from remind.errors import UserError
from remind_client.flower_internals import import_task_modules
from remind_client.launcher.address import LONGEST, PATIENCE, address_of
from remind_client.launcher.door import Door
from remind_client.launcher.task import TaskCall, run_task, set_up_logging
from remind_client.site_config import VARIABLE, SiteConfig, load_site_config

log = logging.getLogger(__name__)


@dataclass
class _Task:
    arguments: Sequence[str]
    connection: socket.socket


@dataclass
class Worker:
    """The worker of a site.

    Attributes
    ----------
    path
        Path of its socket.
    work
        Runs a task, given its command-line arguments; returns its exit code.
    """

    path: Path
    work: Callable[[Sequence[str]], int]
    _tasks: "queue.SimpleQueue[_Task | None]" = field(default_factory=queue.SimpleQueue)
    _done: int = 0
    _since: float | None = None
    _stopping: bool = False

    def serve(self, ready: Callable[[], None]) -> None:
        """Listen and run tasks until `stop` is called; finish the current task."""
        with _listen(self.path) as listening:
            threading.Thread(target=self._accept, args=(listening,), daemon=True, name="accept").start()
            ready()
            while (task := self._tasks.get()) is not None:
                self._do(task)
            self.path.unlink(missing_ok=True)
            listening.shutdown(socket.SHUT_RDWR)  # closing does not wake a blocked accept()
        while not self._tasks.empty():
            if (left := self._tasks.get()) is not None:  # arrived during the stop
                _answer(left.connection, b"again\n")

    def stop(self) -> None:
        """Accept no more tasks; `serve` returns when the current one ends. Safe in a signal handler."""
        self._stopping = True
        self._tasks.put(None)

    def status(self) -> dict[str, object]:
        """Return the content of the health page."""
        since = self._since
        busy = time.monotonic() - since if since is not None else None if self._tasks.empty() else 0.0
        return {"busy_seconds": busy, "tasks_done": self._done, "stopping": self._stopping}

    def _do(self, task: _Task) -> None:
        self._since = time.monotonic()
        try:
            code = self.work(task.arguments)
        except BaseException:  # no exception of a task may end the worker
            log.exception("the task failed")
            code = 1
        finally:
            self._since = None
            self._done += 1
        _answer(task.connection, b"%d\n" % code)

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # closed: the worker ends
                return
            threading.Thread(target=self._hear, args=(connection,), daemon=True, name="hear").start()

    def _hear(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        try:
            request = json.loads(connection.makefile("rb").readline(LONGEST))
            if request["do"] == "task" and not self._stopping:
                arguments = [str(argument) for argument in request["arguments"]]
                connection.sendall(b"taken\n")
                self._tasks.put(_Task(arguments, connection))
                return
            if request["do"] == "stop" and self._since is not None:
                os.kill(os.getpid(), signal.SIGINT)  # Flower's signal to stop a task; otherwise ignored
            if request["do"] in ("status", "stop"):
                connection.sendall(json.dumps(self.status()).encode() + b"\n")
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("invalid request")
        connection.close()


def _answer(connection: socket.socket, line: bytes) -> None:
    with connection, contextlib.suppress(OSError):  # the launcher may be gone
        connection.sendall(line)


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)  # left by a kill; the site's lock guarantees that there is no other worker
    listening = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)  # never accessible to other users, not even for a moment
    try:
        with address_of(path) as address:
            listening.bind(address)
    finally:
        os.umask(mask)
    listening.listen()
    return listening


def warm_up(site: SiteConfig) -> None:
    """Import what a task needs and read the cohort once, so that the first message does not have to wait.

    If the cohort cannot be read, log the error only; the next task refuses.
    """
    import remind_client.app  # noqa: F401 - torch and the model code
    from remind.training.device import choose_device
    from remind_client.cohort_cache import cached_cohort

    import_task_modules()
    choose_device(site.device)
    try:
        cached_cohort(site.path(site.cohort), site.memory())
    except UserError as error:
        log.error("%s", error)


def main() -> int:
    """Run the worker of the site that the environment names; print the line ``ready`` when it listens."""
    set_up_logging()
    site = load_site_config(Path(os.environ[VARIABLE]))
    if site.resources.memory_gb is not None:
        limit = int(site.resources.memory_gb * (1 << 30))
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    door = Door(site)
    worker = Worker(site.socket, lambda arguments: 0 if run_task(TaskCall.parse(arguments), door) else 1)

    def stop(number: int, frame: FrameType | None) -> None:
        del number, frame
        worker.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # the supervisor handles Ctrl-C in a terminal; ignore a late stop of a task
    try:
        warm_up(site)
    except UserError as error:
        log.error("%s", error)
        return 1
    worker.serve(lambda: print("ready", flush=True))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
