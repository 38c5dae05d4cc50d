"""A site that is killed with -9 anywhere in a round: the ledger never counts too little, nor the same answer twice."""

import json
import signal

import pytest

from tests.client.ledger.killed_sites import FOUND, POINTS, in_a_process_of_its_own, main

NOT_YET = {"after receive", "before the spend is on disk"}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What happened, from a process that is forked here, as it would load its libraries for seconds."""
    folder = tmp_path_factory.mktemp("killed")
    assert in_a_process_of_its_own(lambda: main(folder)) == 0
    return json.loads((folder / FOUND).read_text())


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_round_is_paid_before_it_is_computed_and_only_once(found, point):
    happened = found[point]
    assert happened["signal"] == signal.SIGKILL
    assert happened["paid_when_killed"] == ([0] if point in NOT_YET else [0, 1])
    assert happened["paid_at_last"] == [0, 1]
    assert happened["same_bytes"], "the question that is asked again gets the bytes of a site that was not killed"
    assert happened["problems"] == []
