"""Processes of studies that begin with their libraries loaded.

One process has loaded them and forks each of these; those of `remind bench` load them again, which takes seconds.
"""

import multiprocessing

import pytest

from remind_studies.cells import pool

STARTED = multiprocessing.get_context("forkserver")
STARTED.set_forkserver_preload(
    ["torch", "lightgbm", "remind_studies.cells.pool", "remind_server.simulation.simulate", "remind_client.app"]
)


def start_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let studies start their processes so, during a test."""
    monkeypatch.setattr(pool, "get_context", lambda way: STARTED)
