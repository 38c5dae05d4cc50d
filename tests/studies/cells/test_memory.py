"""What is freed goes back to the system."""

import sys
from pathlib import Path

import numpy as np
import pytest

from remind_studies.cells.memory import trim


def resident() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_blocks_between_kept_ones_are_handed_back():
    blocks = [np.ones(12_000) for _ in range(2000)]  # 96 kB each, from the heap
    full = resident()
    kept = blocks[::50]
    blocks.clear()
    trim()
    assert resident() < full - 100_000_000
    assert len(kept) == 40
