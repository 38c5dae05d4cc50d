"""Any file from outside, damaged or misspelt in any way: it is read, or refused in one message that names the file."""

import json
from datetime import date
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remind.alerts.settings import Alerts
from remind.consortium.enrolment import public_key_text
from remind.consortium.roster import read_roster, roster_text
from remind.data.cohort.read import read_cohort
from remind.errors import UserError
from remind.privacy.accounting import Mechanism
from remind_client.initialise import initialise
from remind_client.ledger.budget import TRAINING, BudgetError, Limit, Release
from remind_client.ledger.spends import PrivacyLedger
from remind_client.policy.ledger import Ledger
from remind_client.site_config import load_site_config
from remind_server.consortium.ledger import Ledger as Sites
from remind_server.consortium.ledger import read_ledger
from remind_server.consortium.settings import read_settings
from tests.builders.mutations import damaged, texts
from tests.builders.site_files import TOML

FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
KEYS = [public_key_text(ec.generate_private_key(ec.SECP384R1()).public_key()) for _ in range(2)]
COHORT = """
name = "c"
root = "."
[patients]
file = "patients.csv"
[label]
column = "label"
classes = ["no", "yes"]
missing = "error"
[split]
column = "split"
[modalities.a]
kind = "table"
categories = { x = ["a", "b"] }
[modalities.b]
kind = "series"
absent = true
items = ["hr"]
horizon = 24.0
"""
SITE = TOML.format(
    more="""[policy]
hours = ["mon-fri 20:00-06:00"]
minimum_patients = 12
timezone = "Europe/Zurich"
[policy.privacy]
require = ["site"]
epsilon_per_run = 3.0
[vault]
enabled = true
[retention]
days = 3.5
"""
)
ALERTS = """
[[webhook]]
url = "https://hooks.example/T0/path"
headers = { Authorization = "Bearer t0ken" }
events = ["site-missing"]
[[command]]
run = ["mail", "-s", "{subject}", "ops@example.org"]
"""
CONSORTIUM = """
version = 1
name = "heart"
[public]
hosts = ["coordinator.example.org"]
port = 443
[proxy]
kind = "nginx"
[[operators]]
user = "anna"
role = "admin"
"""


def _cohort(path: Path) -> None:
    (path.parent / "patients.csv").write_text("patient_id,label,split\n1,no,train\n2,yes,test\n3,no,train\n")
    (path.parent / "a.csv").write_text("patient_id,x,y\n1,a,0.5\n2,b,1.5\n3,a,2.5\n")
    read_cohort(path)


def _alerts(path: Path) -> None:
    path.chmod(0o600)
    Alerts.read(path)


def _kit(path: Path) -> None:
    initialise(path.parent, path.parent / "site", "cohort", "46.5,6.6")


READERS = {
    "cohort.toml": (COHORT, _cohort),
    "site.toml": (SITE, load_site_config),
    "alerts.toml": (ALERTS, _alerts),
    "consortium.toml": (CONSORTIUM, read_settings),
    "roster.toml": (roster_text(dict(zip(("bern", "geneva"), KEYS, strict=True))), read_roster),
    "ledger.json": (Sites().model_dump_json(indent=2), read_ledger),
}


@pytest.mark.parametrize("name", READERS)
@FUZZ
@given(data=st.data())
def test_a_text_is_read_or_refused_by_name(name, tmp_path, data):
    valid, read = READERS[name]
    path = tmp_path / name
    path.write_bytes(data.draw(texts(valid)))
    try:
        read(path)
    except UserError as error:
        said = str(error)
        assert str(tmp_path) in said, "the message names the file or its folder"
        assert not any(word in said for word in ("Traceback", "Input should", "validation error", "pydantic"))
        assert "t0ken" not in said
        assert "/T0/path" not in said


@pytest.mark.parametrize("name", READERS)
def test_the_valid_one_is_read(name, tmp_path):
    valid, read = READERS[name]
    (tmp_path / name).write_text(valid)
    read(tmp_path / name)


@settings(FUZZ, max_examples=15)
@given(data=st.data())
def test_a_kit_makes_a_site_or_is_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("kit")
    (folder / "ca.crt").write_text("certificate")
    (folder / "site.toml").write_bytes(data.draw(texts(TOML.format(more=""))))
    try:
        _kit(folder / "site.toml")
    except UserError as error:
        said = str(error)
        assert str(folder) in said
        assert not (folder / "site").exists(), "nothing is half made"


@FUZZ
@given(data=st.data())
def test_what_the_policy_counted_is_read_or_refused(tmp_path_factory, data):
    ledger = Ledger(tmp_path_factory.mktemp("policy"))
    day = date(2026, 3, 4)
    ledger.begin_round(day, 5)
    ledger.release("7", frozenset({1, 3}))
    ledger.is_repeated("7", 0, "q")
    ledger.begin("7", "examinations", 5)
    ledger.approve("a" * 64)
    path = data.draw(st.sampled_from(sorted(ledger.folder.glob("*.json"))))
    valid = json.loads(path.read_text())
    key = data.draw(st.sampled_from(sorted(valid)))
    nasty = st.sampled_from([None, -1, 1.5, "x", [], {}, [[]], {"0": 1}, [None], True])
    changed = json.dumps(valid | {key: data.draw(nasty)}).encode()
    path.write_bytes(data.draw(st.one_of(st.just(changed), damaged(path.read_bytes()))))
    uses = (
        lambda: ledger.begin_round(day, 5),
        lambda: ledger.released("7"),
        lambda: ledger.is_repeated("7", 0, "q"),
        lambda: ledger.begin("7", "examinations", 5),
        ledger.approved,
    )
    for use in uses:
        try:
            use()
        except UserError as error:
            said = str(error)
            assert str(path) in said


STEP = Release(TRAINING, Mechanism("gradient", 2.0))
LIMITS = [Limit("policy.privacy.epsilon_for_life", 50.0, 1e-5, for_life=True)]


class File(bytes):
    """Bytes that are not printed where a test fails."""

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="module")
def spent(tmp_path_factory):
    """The bytes of a ledger in which two rounds are."""
    ledger = PrivacyLedger(tmp_path_factory.mktemp("ledger"))
    for round_ in range(2):
        ledger.spend("7", round_, str(round_), [STEP], LIMITS)
    return File(ledger.path.read_bytes())


@FUZZ
@given(data=st.data())
def test_a_damaged_privacy_ledger_is_refused_or_counts_no_less(spent, tmp_path_factory, data):
    ledger = PrivacyLedger(tmp_path_factory.mktemp("damaged"))
    ledger.path.write_bytes(data.draw(damaged(spent)))
    try:
        ledger.spend("7", 2, "2", [STEP], LIMITS)
        problems = ledger.problems()
    except UserError as error:
        said = str(error)
        assert str(ledger.path) in said
    except BudgetError:
        pass
    else:
        assert problems or len(ledger.spends()) >= 3
