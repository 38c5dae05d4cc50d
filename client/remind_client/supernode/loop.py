"""The SuperNode's two steps, fetching a message and sending its answer, made safe against hanging and stale state.

Flower (`flwr/supernode/start_client_internal.py`) executes them in a loop, one message at a time. Its version

- keeps task and message if the run ends while the message is fetched: the worker then waits up to two hours for content
  that never comes, and every later answer is that of the message before;
- waits up to two hours for the rest of a message;
- waits forever for the answer of a task that ended without one;
- ends the loop, but not the process, when a call to the coordinator fails.

`Steps` wraps both. After each message, in every case, the node's memory is empty; if it cannot be emptied, the process
ends and its supervisor starts a new one.
"""

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from flwr.app import Error, Message

from remind_client.flower_internals import (
    CRASHED,
    NodeMemory,
    ObjectPullError,
    ObjectUnavailableError,
    RunNotRunningException,
    fetch_and_send,
    replace_fetch_and_send,
)
from remind_client.launcher.address import ask_status, ask_to_stop
from remind_client.supernode.note import tell

log = logging.getLogger(__name__)
STALL = 60.0  # seconds without a further piece of a message, after which it is abandoned
LOOK = 0.5  # seconds between two checks whether the answer is there
ASK = 5.0  # seconds between two checks whether the run is still active
CLAIM = 180.0  # seconds within which a task must start; a cold start on a slow machine needs up to one minute
STOP = 30.0  # seconds within which a worker must stop its task on request
STUCK = 300.0  # seconds within which the loop must iterate or transfer a piece
PATIENCE = 60.0  # seconds of retrying a call that the coordinator cannot serve at the moment


class Steps:
    """The replacement of Flower's two steps.

    Parameters
    ----------
    worker
        Socket of the warm worker; None: every task has its own process.
    """

    def __init__(self, worker: Path | None) -> None:
        self.worker = worker
        self.fetch_from_flower, self.send_with_flower = fetch_and_send()
        self._message: Message | None = None
        self._get_run: Callable[[int], Any] = lambda run_id: None
        self._expires = 0.0
        self._polled: bool | None = None
        self._ticked = time.monotonic()

    def alive(self) -> bool:
        """Return whether the loop makes progress: it iterated recently, or transfers a message."""
        return time.monotonic() - self._ticked < STUCK

    def _tick(self) -> None:
        self._ticked = time.monotonic()

    def install(self) -> None:
        """Install the steps in Flower's loop."""
        replace_fetch_and_send(self.fetch, self.send)

    def fetch(self, *, state: Any, receive: Any, get_run: Any, pull_object: Any, **calls: Any) -> int | None:
        """Fetch the next message; return its run, or None. Raises only SystemExit."""
        self._message, self._get_run = None, get_run
        self._tick()

        def noted() -> Any:
            received = receive()
            if received is not None:
                self._message = received[0]
                self._expires = time.monotonic() + self._message.metadata.ttl
            return received

        why = ""
        try:
            run_id: int | None = self.fetch_from_flower(
                state=state, receive=noted, get_run=get_run, pull_object=_bounded(pull_object, self._tick), **calls
            )
        except Exception as error:  # HTTP 500, an expired certificate, …: the loop must continue
            run_id, why = None, f"{type(error).__name__}: {error}"
        self._tell_poll(why)
        if run_id is None and self._message is not None:
            self._give_up(state, why or "the run ended, or the message could not be fetched completely", running=False)
        return run_id

    def send(self, state: Any, object_store: Any, send: Any, push_object: Any) -> None:
        """Wait for the answer to the current message and send it, unless the coordinator no longer waits for it."""
        message = self._message
        if message is None:
            return
        memory = NodeMemory(state)
        if why := self._wait(memory, message):
            self._give_up(state, why, running=True)
            return
        memory.drop_other_replies(message)
        if not memory.replies():
            log.warning("the task ended without an answer; reporting this to the coordinator")
            reason = "the site's task ended without an answer; the site's own log says why"
            memory.put(Message(Error(CRASHED, reason), reply_to=message), object_store)
        sent = _Watched(send, self._tick), _Watched(push_object, self._tick)
        try:
            self.send_with_flower(state, object_store, *sent)
        except Exception as error:  # Flower means to raise none
            log.exception("sending failed")
            sent[0].failure = f"{type(error).__name__}: {error}"
        failure = next((call.failure for call in sent if call.failure), "")
        tell("done", answered=not failure, why=failure)
        self._clear(state)

    def _wait(self, memory: NodeMemory, message: Message) -> str:
        """Wait until the current task has ended; return the reason to stop waiting earlier, else an empty text."""
        began, asked = time.monotonic(), time.monotonic()
        while memory.unfinished():
            self._tick()
            now = time.monotonic()
            if now > self._expires:
                return "its deadline has passed: the coordinator no longer waits for the answer"
            if now - began > CLAIM and not memory.begun():
                _leave(f"the task did not start within {CLAIM:g} s")
            if now - asked > ASK:
                asked = now
                if not self._goes_on(message.metadata.run_id):
                    return "the run is over"
            time.sleep(LOOK)
        return ""

    def _goes_on(self, run_id: int) -> bool:
        try:
            self._get_run(run_id)
        except RunNotRunningException:
            return False
        except Exception as error:  # not reachable at the moment: continue, because the run may be active
            log.debug("cannot check whether run %s is still active: %s", run_id, error)
        return True

    def _give_up(self, state: Any, why: str, running: bool) -> None:
        """Drop the current message: stop its task and delete all its data."""
        log.warning("the current message is dropped: %s", why)
        cold = running and not _busy(self.worker)
        self._clear(state)
        tell("done", answered=False, why=why)
        if cold:
            _leave("its task has a separate process, which ends with the SuperExec")
        if self.worker is not None and not _stopped(self.worker):
            _leave("the worker does not stop its task")

    def _clear(self, state: Any) -> None:
        """Forget all messages, tasks and contents; the tasks' tokens no longer count."""
        if not NodeMemory(state).clear():
            _leave("a task could not be dropped")

    def _tell_poll(self, why: str) -> None:
        if why and self._polled is not False:
            log.error("the coordinator cannot be asked for messages: %s; asking again", why)
        self._polled = not why
        tell("poll", ok=not why, why=why)


class _Watched:
    """Call a function of the sending step, retry while the coordinator cannot serve it, and store its last failure."""

    def __init__(self, call: Callable[..., Any], tick: Callable[[], None]) -> None:
        self.call, self.tick, self.failure = call, tick, ""

    def __call__(self, *arguments: Any) -> Any:
        ends, pause = time.monotonic() + PATIENCE, LOOK
        while True:
            try:
                result = self.call(*arguments)
                self.tick()
                return result
            except RunNotRunningException:
                self.failure = "the run is over"
                raise
            except Exception as error:
                if time.monotonic() > ends or not _passing(error):
                    self.failure = f"{type(error).__name__}: {error}"
                    raise
                time.sleep(pause)
                pause = min(2 * pause, 10.0)


def _passing(error: Exception) -> bool:
    """Return whether a failure may be temporary: of the coordinator or the connection, but not a refusal."""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.status_code >= 500
    return isinstance(error, httpx.TransportError)


def _bounded(pull_object: Callable[[int, str], bytes], tick: Callable[[], None]) -> Callable[[int, str], bytes]:
    """Fetch a piece; abandon the message after `STALL` seconds without any available piece."""
    last = time.monotonic()

    def pull(run_id: int, object_id: str) -> bytes:
        nonlocal last
        try:
            content = pull_object(run_id, object_id)
        except ObjectUnavailableError:
            if time.monotonic() - last > STALL:
                raise ObjectPullError(object_id, f"no further piece of the message arrived for {STALL:g} s") from None
            raise
        last = time.monotonic()
        tick()
        return content

    return pull


def _busy(worker: Path | None) -> bool:
    """Return whether the worker exists and works on a task."""
    status = ask_status(worker) if worker is not None else None
    return status is not None and status.get("busy_seconds") is not None


def _stopped(worker: Path) -> bool:
    """Let the worker stop its task; return whether it did, or True if there is no worker."""
    ends = time.monotonic() + STOP
    while _busy(worker):
        if time.monotonic() > ends:
            return False
        ask_to_stop(worker)
        time.sleep(LOOK)
    return True


def _leave(why: str) -> None:
    """End this process cleanly; the supervisor then restarts it, and the processes of its tasks."""
    tell("leaving", why=why)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)  # Flower's handler ends the process from here
