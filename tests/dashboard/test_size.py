"""300 groups × 50 sites × 200 rounds: every JSON answer for the page stays below a megabyte."""

import time

import pytest

from remind_server.dashboard.views.curves import MOST_CURVES
from tests.builders.stored_runs import large_run
from tests.dashboard.conftest import client_over

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def large(shared_engine):
    return large_run(shared_engine)


@pytest.mark.parametrize("min_count", [0, 20])
def test_json_of_a_large_run(large, shared_engine, min_count):
    client = client_over(shared_engine, min_count, headers={"accept-encoding": "identity"})
    most = ",".join(str(number) for number in range(1, MOST_CURVES + 1))
    for path in ("", "/groups", "/matrix", "/experts", "/curves?groups=1,2,3,4,5,6", f"/curves?groups={most}"):
        began = time.perf_counter()
        answer = client.get(f"/api/runs/{large}{path}")
        print(f"{path or '/'}: {len(answer.content) / 1000:.0f} kB in {1000 * (time.perf_counter() - began):.0f} ms")
        assert answer.status_code == 200
        assert len(answer.content) < MEGABYTE
    page = client.get(f"/runs/{large}")
    assert page.text.count("data-group=") == (0 if min_count else 50), "of this store nothing is shown under a minimum"
    assert len(page.content) < MEGABYTE
    assert client.get(f"/runs/{large}?show=all").text.count("data-group=") == 300
