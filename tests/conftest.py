"""Settings of all tests."""

import signal
import threading

import pytest
import torch
from hypothesis import settings

from remind_server.rounds import roster
from remind_server.store.observer import HEARTBEAT

# The same examples in every run, and no limit of time per example on a busy machine.
settings.register_profile("remind", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("remind")

# A shell starts programs in the background without SIGINT; tests of Ctrl-C, and the programs that they start, need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

torch.set_num_threads(1)  # models are tiny, and sums in one order round alike on every machine


@pytest.fixture(autouse=True)
def _in_process_sites_are_there_at_once(monkeypatch):
    monkeypatch.setattr(roster, "SETTLE", 0.01)


@pytest.fixture(autouse=True, scope="module")
def _no_run_is_left_under_way():
    yield
    assert HEARTBEAT not in [thread.name for thread in threading.enumerate()], "a run's store observer was not ended"
