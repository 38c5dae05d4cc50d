"""Sends alerts in one thread per target, so that neither the run nor another target waits."""

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from remind.alerts.delivery import DeliveryError, deliver
from remind.alerts.message import Alert
from remind.alerts.settings import Alerts, Command, Webhook

log = logging.getLogger(__name__)
WAITS = (2.0, 10.0, 30.0)  # seconds before the second, the third, and the fourth and last attempt
TIMEOUT = 10.0  # seconds per attempt
MOST_WAITING = 100  # maximum length of a target's queue
END = 20.0  # seconds for which the end of a run waits for its last alerts


@dataclass(frozen=True)
class Outcome:
    """The outcome of an alert at one target; `problem` is empty if it was sent."""

    alert: Alert
    target: str
    attempts: int
    problem: str = ""


class Sender:
    """Sends each alert to all targets that are configured for its event, with a limited number and time of attempts.

    Parameters
    ----------
    report
        Called with the outcome of each alert at each target, in a thread of the sender.
    waits
        Seconds before each further attempt.
    """

    def __init__(
        self,
        alerts: Alerts,
        report: Callable[[Outcome], None] = lambda _: None,
        waits: Sequence[float] = WAITS,
        timeout: float = TIMEOUT,
    ) -> None:
        self._report, self._waits, self._timeout = report, waits, timeout
        self._over = threading.Event()
        self._queues = [_TargetQueue(target, self) for target in alerts.targets]

    def send(self, alert: Alert) -> None:
        """Queue an alert and return immediately."""
        for one in self._queues:
            if alert.kind in one.target.events:
                one.put(alert)

    def close(self, within: float = END) -> None:
        """Wait at most `within` seconds for the queued alerts, and report those that were not sent by then."""
        for one in self._queues:
            one.end()
        until = time.monotonic() + within
        for one in self._queues:
            one.join(max(0.0, until - time.monotonic()))
        self._over.set()
        for one in self._queues:
            one.give_up()

    def deliver(self, target: Webhook | Command, alert: Alert) -> None:
        """Attempt delivery until it succeeds or the attempts are used up, and report the outcome."""
        problem, attempts = "", 0
        for wait in (0.0, *self._waits):
            if wait and self._over.wait(wait):
                problem += "; the run ended before another attempt"
                break
            attempts += 1
            try:
                deliver(target, alert, self._timeout)
            except DeliveryError as error:
                problem = str(error)
                if error.final:
                    break
            else:
                problem = ""
                break
        self.report(Outcome(alert, target.name, attempts, problem))

    def report(self, outcome: Outcome) -> None:
        """Log a failure, and call the reporter; an error of the reporter is logged."""
        if outcome.problem:
            log.warning("alert %r not sent to %s: %s", outcome.alert.subject, outcome.target, outcome.problem)
        try:
            self._report(outcome)
        except Exception as error:  # it does not change whether the alert was sent
            log.warning("the outcome of an alert could not be recorded: %s", error)


class _TargetQueue:
    """The queue of one target, and the thread that empties it. The thread starts with the first alert."""

    def __init__(self, target: Webhook | Command, sender: Sender) -> None:
        self.target, self._sender = target, sender
        self._queue: queue.Queue[Alert | None] = queue.Queue()
        self._thread: threading.Thread | None = None

    def put(self, alert: Alert) -> None:
        if self._queue.qsize() >= MOST_WAITING:
            self._sender.report(Outcome(alert, self.target.name, 0, f"{MOST_WAITING} earlier alerts are waiting"))
            return
        self._queue.put(alert)
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep_sending, name=f"alerts: {self.target.name}", daemon=True)
            self._thread.start()

    def end(self) -> None:
        self._queue.put(None)

    def join(self, within: float) -> None:
        if self._thread is not None:
            self._thread.join(within)

    def give_up(self) -> None:
        """Report the alerts that are left in the queue as not sent."""
        while True:
            try:
                alert = self._queue.get_nowait()
            except queue.Empty:
                return
            if alert is not None:
                self._sender.report(Outcome(alert, self.target.name, 0, "the run ended before it was sent"))

    def _keep_sending(self) -> None:
        while (alert := self._queue.get()) is not None:
            self._sender.deliver(self.target, alert)
