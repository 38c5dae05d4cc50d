"""A site that is killed with -9 anywhere in an answer: the ledger never counts too little, nor the same answer twice.

Once with noise of the site's own, once with a share of the noise of four sites under masks.
"""

import json
import signal

import pytest

from tests.client.ledger.killed_sites import FOUND, POINTS, UNPAID, in_a_process_of_its_own, main

COST = {"train": [1], "examine": [2, 2], "enrol": [None]}  # rounds of the rows of an answer; scores: of two parts


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What happened, from a process that is forked here, as it would load its libraries for seconds."""
    folder = tmp_path_factory.mktemp("killed")
    assert in_a_process_of_its_own(lambda: main(folder)) == 0
    return json.loads((folder / FOUND).read_text())


@pytest.mark.parametrize(
    ("mode", "request_", "point"),
    [(mode, request, point) for mode, all_ in POINTS.items() for request, points in all_.items() for point in points],
)
def test_a_killed_answer_is_paid_before_it_is_computed_and_only_once(found, mode, request_, point):
    happened = found[f"{mode}, {request_}, {point}"]
    assert happened["signal"] == signal.SIGKILL
    before, cost = happened["paid_before"], COST[request_]
    assert before == {"train": [0], "examine": [], "enrol": []}[request_]
    assert happened["paid_when_killed"] == (before if point in UNPAID else before + cost)
    assert happened["paid_at_last"] == before + cost
    assert happened["same"], "the question that is asked again gets the bytes of a site that was not killed"
    assert happened["problems"] == []
