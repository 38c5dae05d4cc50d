"""Four hospitals share the noise of runs over TLS: a whole run, its traffic, and a kill during the exchange of keys.

One consortium serves all tests, in their order, as a real one does.
"""

import json
import re
import sys

import numpy as np
import pytest
from fastapi.testclient import TestClient

from remind.errors import UserError
from remind.privacy.accounting import Mechanism, compose, epsilon
from remind.web.access import Access
from remind_client.privacy_form import form_of
from remind_server.consortium.proxy import nginx_program
from remind_server.dashboard.app import dashboard_app
from remind_server.store.open import open_store, store_url
from tests.e2e.joint import NAMES, SETTINGS, Joint

pytestmark = pytest.mark.slow

DELTA, COUNTS = 1e-5, Mechanism("counts", 1.0)
FIRST = Mechanism("gradient", 0.5)
TEXTS = {"enrolment", "keys", "dealt", "masked", "unmasked"}
ANSWERS = TEXTS | {"report", "examination", "refusal"}


@pytest.fixture(scope="module")
def joint(tmp_path_factory):
    if sys.platform != "linux":
        pytest.skip("needs Linux: /proc")
    try:
        nginx_program("nginx")
    except UserError:
        pytest.skip("needs nginx: apt-get install nginx-light")
    joint = Joint(tmp_path_factory.mktemp("joint"))
    try:
        joint.coordinator.start()
        joint.found({})
        yield joint
    finally:
        joint.end()


def rounds_of(out):
    file = out / "rounds.jsonl"
    return [json.loads(line) for line in file.open()] if file.exists() else []


@pytest.fixture(scope="module")
def whole(joint):
    run_id, out = joint.begin(SETTINGS + "train.warmup-rounds=1 privacy.noise=0.5 ")
    line = joint.end_of(run_id)
    assert "finished:completed" in line, line
    return run_id, out


def test_ledger_summary_and_page_say_the_same(joint, whole):
    run_id, out = whole
    assert [r["answered"] for r in rounds_of(out)] == [list(NAMES)] * 2
    told = json.loads((out / "summary.json").read_text())["privacy"]
    assert set(told) == set(NAMES)
    store, access = open_store(store_url(joint.home)), Access(token="a-token-of-enough-characters")
    reader = TestClient(dashboard_app(store, access), headers={"authorization": f"Bearer {access.token}"})
    page = reader.get("/runs/1").text
    store.dispose()
    for name in NAMES:
        account = joint.account(name, run_id)
        assert joint.paid_rounds(name, run_id) == [1, 2]
        assert account.epsilon == pytest.approx(epsilon(compose([COUNTS, FIRST, FIRST]), DELTA))
        alone = Mechanism("gradient", 0.5 / np.sqrt(2))  # of four hospitals, two are in a sum for sure
        assert account.own == pytest.approx(epsilon(compose([COUNTS, alone, alone]), DELTA))
        assert told[name]["epsilon"] == pytest.approx(account.epsilon)
        assert told[name]["own"] == pytest.approx(account.own)
        assert f"**epsilon {account.epsilon:.3g} at delta 1e-05**" in form_of(joint.site(name), run_id)
        assert f"ε {account.epsilon:.2f}" in page
        assert f"{account.own:.2f} if the others left their noise out" in page


def test_on_the_wire_are_masked_values_alone(joint, whole):
    """All that four hospitals have pushed so far: texts of five kinds, and numbers that are uniform to the byte."""
    sent = joint.wire.objects()
    kinds = {kind for kind, _ in sent}
    assert kinds == {"Message", "RecordDict", "ConfigRecord", "ArrayRecord", "Array", "ArrayChunk"}
    texts = b"".join(content for kind, content in sent if kind == "ConfigRecord")
    assert {kind for kind in ANSWERS if re.search(rf'"kind":\s*"{kind}"'.encode(), texts)} == TEXTS
    masked = [np.frombuffer(content, np.uint8) for kind, content in sent if kind == "ArrayChunk"]
    assert len(masked) >= 4 * 3, "two rounds and an examination"
    for values in masked:
        counts = np.bincount(values, minlength=256)
        expected = len(values) / 256
        assert np.sum((counts - expected) ** 2 / expected) < 400, "255 degrees of freedom: mean 255, sd 22.6"


def patience(out):
    """How long a round waits for a dead hospital: twice as long as rounds take here, and 10 s at least."""
    return f"federation.deadline={max(10.0, 2 * max(r['seconds'] for r in rounds_of(out))):.0f} "


def test_a_hospital_killed_while_keys_are_dealt_leaves_the_run_of_the_others(joint, whole):
    joint.stop_at("west", "before Deal")
    run_id, out = joint.begin(SETTINGS + patience(whole[1]) + "train.warmup-rounds=0 privacy.noise=1.0 ")
    joint.kill("west")
    line = joint.end_of(run_id)
    assert "finished:completed" in line, line
    (only,) = rounds_of(out)
    assert only["answered"] == ["east", "north", "south"]
    assert joint.paid_rounds("west", run_id) == []
    assert [joint.paid_rounds(name, run_id) for name in ("east", "north", "south")] == [[1]] * 3
    assert set(json.loads((out / "summary.json").read_text())["privacy"]) == {"east", "north", "south"}
