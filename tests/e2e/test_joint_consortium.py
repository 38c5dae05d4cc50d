"""Four hospitals share the noise of one run over TLS: three are killed, one in each exchange, and one's budget ends.

West is killed while keys are dealt, north when its masked answer is ready, east when it is asked for shares. All come
back. South has taken part in another run, so that its budget for life is not enough for round 7.
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
from remind_client.ledger.account import account_of
from remind_client.ledger.budget import TRAINING, BudgetError, Release
from remind_client.ledger.spender import Spender
from remind_client.privacy_form import form_of
from remind_server.consortium.proxy import nginx_program
from remind_server.dashboard.app import dashboard_app
from remind_server.store.open import open_store, store_url
from tests.e2e.joint import NAMES, SETTINGS, Joint

pytestmark = pytest.mark.slow

DELTA, COUNTS, STEP = 1e-5, Mechanism("counts", 1.0), Mechanism("gradient", 2.0)
EARLIER = 6  # steps of the other run of south
OTHER_RUN = "7"
ROUNDS, LAST = 8, 6  # of the run, and of south in it
ROOM = 0.1  # what is left of the budget then; one step more costs 0.4
FOR_LIFE = epsilon(compose([COUNTS] + [STEP] * (EARLIER + LAST)), DELTA) + ROOM
OTHERS = ["east", "north", "west"]
TEXTS = {"enrolment", "keys", "dealt", "masked", "unmasked", "refusal"}
ANSWERS = TEXTS | {"report", "examination"}


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
        joint.enrol_all({"south": f"epsilon_for_life = {FOR_LIFE}\n"})
        south = joint.site("south")
        earlier = [Release(TRAINING, Mechanism(STEP.what, STEP.noise, steps=EARLIER))]
        Spender(south.privacy_ledger, OTHER_RUN, (), south.audit_log).pay(0, "a question", earlier)
        joint.start_all()
        yield joint
    finally:
        joint.end()


@pytest.fixture(scope="module")
def run(joint):
    """The whole run: its id, its folder, its rounds. While one hospital is dead, another holds the next round."""
    joint.stop_at("west", "before Deal 0")
    joint.stop_at("north", "after MaskedAnswer 2")
    joint.stop_at("east", "before Task 3")
    run_id, out = joint.begin(SETTINGS + f"train.warmup-rounds=2 train.routing-rounds={ROUNDS - 2} ")
    joint.kill("west")
    joint.kill("north")
    joint.wait_stopped("east")
    joint.wait_ready("north")
    joint.stop_at("east", "before Unmask 4")
    joint.stop_at("north", "before Task 5")
    joint.let_go("east")
    joint.kill("east")
    joint.wait_stopped("north")
    joint.wait_ready("east")
    joint.let_go("north")
    line = joint.end_of(run_id)
    assert "finished:completed" in line, line
    return run_id, out, [json.loads(line) for line in (out / "rounds.jsonl").open()]


def test_hospitals_that_are_killed_at_the_deal_the_masked_answer_and_the_opening_come_back(joint, run):
    run_id, _, rounds = run
    assert [r["round"] for r in rounds] == list(range(1, ROUNDS + 1))
    every = set(range(1, ROUNDS + 1))
    answered = {name: {r["round"] for r in rounds if name in r["answered"]} for name in OTHERS}
    assert answered["west"] == every, "it was killed before the first round"
    assert every - answered["north"] in ({2}, {2, 3}), "in round 3, if it was back when that began"
    assert "offline" in rounds[1]["absent"]["north"]
    assert every - answered["east"] in (set(), {5}), "in round 4 its masked answer had come when it was killed"
    paid = {name: joint.paid_rounds(name, run_id) for name in OTHERS}
    assert paid == {**{name: sorted(answered[name]) for name in OTHERS}, "north": sorted(answered["north"] | {2})}


def test_a_hospital_leaves_before_the_round_that_would_exceed_its_budget_for_life(joint, run):
    run_id, out, rounds = run
    refused = f"refused: {BudgetError.outside}"
    assert [("south" in r["answered"]) for r in rounds] == [True] * LAST + [False] * (ROUNDS - LAST)
    assert [r["absent"].get("south") for r in rounds] == [None] * LAST + [
        refused,
        f"left the run in round {LAST + 1}: {refused}",
    ]
    assert joint.paid_rounds("south", run_id) == list(range(1, LAST + 1))
    whole = account_of(joint.site("south").privacy_ledger, DELTA, life=FOR_LIFE)
    assert whole.epsilon == pytest.approx(FOR_LIFE - ROOM)
    events = [e for e in joint.sites["south"].audit() if e["event"] == "refused"]
    assert [(e["request"], e["round"], e["reason"]) for e in events] == [("train", LAST, BudgetError.outside)]
    assert "policy.privacy.epsilon_for_life allows" in joint.sites["south"].log.read_text()
    assert [r["answered"] for r in rounds[LAST:]] == [OTHERS] * (ROUNDS - LAST)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "completed"
    assert summary["took_part"] == list(NAMES)
    assert summary["rounds_missed"]["south"] == ROUNDS - LAST
    assert summary["absent"] == {}, "it examines the final model"


def test_ledger_summary_and_page_say_the_same(joint, run):
    run_id, out, _ = run
    told = json.loads((out / "summary.json").read_text())["privacy"]
    assert set(told) == set(NAMES)
    store, access = open_store(store_url(joint.home)), Access(token="a-token-of-enough-characters")
    reader = TestClient(dashboard_app(store, access), headers={"authorization": f"Bearer {access.token}"})
    page = reader.get("/runs/1").text
    store.dispose()
    alone = Mechanism("gradient", STEP.noise / np.sqrt(2))  # of four hospitals, two are in a sum for sure
    for name in NAMES:
        account, steps = joint.account(name, run_id), len(joint.paid_rounds(name, run_id))
        assert account.epsilon == pytest.approx(epsilon(compose([COUNTS] + [STEP] * steps), DELTA))
        assert account.own == pytest.approx(epsilon(compose([COUNTS] + [alone] * steps), DELTA))
        assert told[name]["epsilon"] == pytest.approx(account.epsilon)
        assert told[name]["own"] == pytest.approx(account.own)
        assert f"**epsilon {account.epsilon:.3g} at delta 1e-05**" in form_of(joint.site(name), run_id)
        assert f"ε {account.epsilon:.2f}" in page
        assert f"{account.own:.2f} if the others left their noise out" in page


def test_on_the_wire_are_masked_values_alone(joint, run):
    """All that four hospitals have pushed: texts of six kinds, and numbers that are uniform to the byte."""
    sent = joint.wire.objects()
    kinds = {kind for kind, _ in sent}
    assert kinds == {"Message", "RecordDict", "ConfigRecord", "ArrayRecord", "Array", "ArrayChunk"}
    texts = b"".join(content for kind, content in sent if kind == "ConfigRecord")
    assert {kind for kind in ANSWERS if re.search(rf'"kind":\s*"{kind}"'.encode(), texts)} == TEXTS
    masked = [np.frombuffer(content, np.uint8) for kind, content in sent if kind == "ArrayChunk"]
    answered = sum(len(r["answered"]) for r in run[2])
    assert len(masked) >= answered + len(NAMES), "all rounds and an examination"
    for values in masked:
        counts = np.bincount(values, minlength=256)
        expected = len(values) / 256
        assert expected > 5
        assert np.sum((counts - expected) ** 2 / expected) < 400, "255 degrees of freedom: mean 255, sd 22.6"
