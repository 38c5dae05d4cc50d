"""Freed memory stays with the process while it trains, and goes back to the system on request."""

import ctypes
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from remind.processes.memory import keep_freed_memory, return_freed_memory

GLIBC = sys.platform == "linux" and hasattr(ctypes.CDLL(None), "mallopt")
# In a process of its own: malloc's settings cannot be taken back.
STEPS = """
import resource, sys
import numpy as np
from remind.processes.memory import keep_freed_memory, return_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    for _ in range(2):
        np.ones(30_000_000)  # 240 MB, beyond the largest threshold that glibc chooses by itself
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
step()
before = faults()
step()
print(faults() - before)
return_freed_memory()
before = faults()
step()
print(faults() - before)
"""


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def faults_of_a_step(setting: str) -> list[int]:
    """Page faults of a step after another, and of one after memory was returned."""
    done = subprocess.run([sys.executable, "-c", STEPS, setting], capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(not GLIBC, reason="needs glibc")
def test_a_step_reuses_the_memory_of_the_step_before_until_it_is_returned():
    kept, returned = faults_of_a_step("keep")
    assert kept < 20 < 100 < returned
    assert faults_of_a_step("default")[0] > 100


@pytest.mark.parametrize("missing", [AttributeError("mallopt"), OSError("no library"), TypeError("no NoneType")])
def test_without_glibc_nothing_happens(missing, monkeypatch):
    def library(name):
        raise missing

    monkeypatch.setattr(ctypes, "CDLL", library)
    assert keep_freed_memory.__wrapped__() is False
    return_freed_memory()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_blocks_between_kept_ones_are_returned():
    blocks = [np.ones(12_000) for _ in range(2000)]  # 96 kB each, from the heap
    full = resident()
    kept = blocks[::50]
    blocks.clear()
    return_freed_memory()
    assert resident() < full - 100_000_000
    assert len(kept) == 40
