"""Settings of all tests."""

import asyncio
import gc
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from remind_server.rounds import waiting
from remind_server.store.heartbeat import HEARTBEAT
from tests import deadline

# The same examples in every run, and no limit of time per example on a busy machine.
settings.register_profile("remind", derandomize=True, deadline=None, max_examples=40)
settings.load_profile("remind")

# A shell starts programs in the background without SIGINT; tests of Ctrl-C, and the programs that they start, need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Files of minutes: the first of them computes, the second waits for processes most of the time, and so on.
LONGEST = ["test_typed.py", "test_week.py", "test_simulation.py", "test_afternoon.py", "test_resume_consortium.py"]
ROOT = Path(__file__).parent.parent
torch.set_num_threads(1)  # models are tiny, and sums in one order round alike on every machine
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of programs that tests start: a thread that waits for a core uses it


pytest_addoption, pytest_runtest_setup = deadline.pytest_addoption, deadline.pytest_runtest_setup
pytest_configure, pytest_terminal_summary = deadline.pytest_configure, deadline.pytest_terminal_summary


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Processes for ``-n auto``: one for each core, four at most, if all tests are meant; else none but this one.

    Tests that somebody names, or that end with the first failure, start at once and can be looked into.
    """
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.option.maxfail
    return min(os.cpu_count() or 1, 4) if everything else 0


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m slow`` leave out files that have no such test: each worker would import them all."""
    if config.option.markexpr != "slow" or not collection_path.match("test_*.py"):
        return None
    return "mark.slow" not in collection_path.read_text("utf-8") or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, then those of real processes: none shall begin when the other workers are done."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: (place.get(item.path.name, len(place)), "e2e" not in item.path.parts))


def pytest_collection_finish() -> None:
    """Exclude what is loaded by now, libraries and tests, from garbage collection, which would visit it every time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def _files_need_not_survive_a_power_cut():
    """A disk takes milliseconds for each of thousands of files."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(autouse=True)
def _in_process_sites_are_there_at_once(monkeypatch):
    monkeypatch.setattr(waiting, "SETTLE", 0.01)


@pytest.fixture(autouse=True, scope="module")
def _nothing_is_left_under_way():
    """A file leaves no run and no event loop behind, since other tests run after it, and writes nothing beside code."""
    before = _beside_the_code()
    yield
    assert _beside_the_code() <= before, "a test, here or in another process, wrote into the folder of the project"
    assert asyncio._get_running_loop() is None, "an event loop runs on: nothing can call asyncio.run any more"
    assert HEARTBEAT not in [thread.name for thread in threading.enumerate()], "a run's store observer was not ended"


def _beside_the_code() -> set[str]:
    return {path.name for path in ROOT.iterdir() if not path.name.startswith((".", "__"))}
