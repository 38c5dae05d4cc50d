"""The heartbeat of a run in the store: the dashboard notices when the coordinator is gone."""

import logging
import threading
import time
from collections.abc import Callable

from sqlalchemy import Engine, update
from sqlalchemy.exc import SQLAlchemyError

from remind_server.store.schema import Run

log = logging.getLogger(__name__)
BEAT = 5.0  # seconds between two heartbeats
HEARTBEAT = "run store heartbeat"  # name of the thread


class Heartbeat:
    """A thread that writes the time every few seconds.

    Parameters
    ----------
    run_id
        Returns the number of the run.
    interval
        Seconds between two heartbeats.
    """

    def __init__(self, engine: Engine, run_id: Callable[[], int], interval: float = BEAT) -> None:
        self._engine, self._run_id, self._interval = engine, run_id, interval
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._over.is_set()

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name=HEARTBEAT, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread: nothing is written after this returns, unless the database hangs."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(BEAT)

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            try:
                with self._engine.begin() as connection:
                    connection.execute(update(Run).where(Run.id == self._run_id()).values(heard=time.time()))
            except SQLAlchemyError as error:
                log.debug("the heartbeat could not be written: %s", error)
