"""The sign of life of a run: its process touches its record every few seconds (`lost_runs`)."""

import contextlib
import os
import threading
from pathlib import Path

BEAT = 5.0  # seconds between two signs of life


class Pulse:
    """A thread that touches a run's record while the run's process lives."""

    def __init__(self, path: Path, interval: float = BEAT) -> None:
        self._path, self._interval, self._over = path, interval, threading.Event()

    def start(self) -> None:
        """Start the thread; it ends with the process, or with `stop`."""
        threading.Thread(target=self._run, name="sign of life of a run", daemon=True).start()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            with contextlib.suppress(OSError):  # a full disk does not end the run
                os.utime(self._path)
