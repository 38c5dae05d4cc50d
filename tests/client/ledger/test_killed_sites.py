"""A site that is killed with -9 anywhere in a round: the ledger never counts too little, nor the same answer twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.ledger.killed_sites import POINTS

ROOT = Path(__file__).parents[3]
NOT_YET = {"after receive", "before the spend is on disk"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    command = [sys.executable, "-m", "tests.client.ledger.killed_sites", str(tmp_path_factory.mktemp("killed"))]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=alone, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_round_is_paid_before_it_is_computed_and_only_once(found, point):
    happened = found[point]
    assert happened["signal"] == signal.SIGKILL
    assert happened["paid_when_killed"] == ([0] if point in NOT_YET else [0, 1])
    assert happened["paid_at_last"] == [0, 1]
    assert happened["same_bytes"], "the question that is asked again gets the bytes of a site that was not killed"
    assert happened["problems"] == []
