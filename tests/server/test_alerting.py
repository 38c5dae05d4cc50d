"""A run sends one alert for each event; a target that cannot be reached does not affect the run."""

import json

import pytest
from fastapi.testclient import TestClient

from remind.alerts.sending import Sender
from remind.alerts.settings import Alerts, Webhook
from remind.errors import UserError
from remind.federation.message_statistics import PrivacySpent
from remind.web.access import Access
from remind_server.alerting import AlertObserver
from remind_server.dashboard.app import dashboard_app
from remind_server.outputs.records import RunStart
from remind_server.run_observers import run_observers
from remind_server.simulation.simulate import simulate
from remind_server.store.open import open_store, store_url
from tests.alerts.receivers import receiving, writer, written
from tests.builders.cohorts import schema
from tests.builders.configs import settings
from tests.builders.reports import record

TOKEN = "a-token-of-enough-characters"


class Listening(Sender):
    """Keeps what it is to send, or hardly waits for it at the end."""

    def __init__(self, alerts=None):
        super().__init__(alerts or Alerts(), timeout=60.0)
        self.sent = []

    def send(self, alert):
        self.sent.append(alert)
        super().send(alert)

    def close(self, within=0.1):
        super().close(within)


class Watched(AlertObserver):
    """One whose alerts are kept in a list."""

    def __init__(self):
        listening = Listening()
        self.sent = listening.sent
        super().__init__(listening, "r1")


def begun():
    watched, config = Watched(), settings()
    sites = {name: {1: 20} for name in ("Basel", "Chur", "Davos")}
    start = RunStart(config, schema(), sites, {1: 60}, {}, tuple(sites))
    watched.begun(config)
    watched.started(start)
    return watched, start


def test_a_site_is_told_of_when_it_begins_to_be_missing():
    watched, start = begun()
    late, gone = {"Basel": "no answer within 600 s"}, {"Chur": "it is not connected"}
    for round_, absent in enumerate(({}, late, late, late | gone, gone, late | gone), start=1):
        watched.round_done(record(round_, absent=absent), {})
    told = [(one.about["round"], one.about["sites"]) for one in watched.sent]
    assert told == [(2, ["Basel"]), (4, ["Chur"]), (6, ["Basel"])]
    assert "run r1: Basel is missing in round 2" in watched.sent[0].subject
    assert "no answer within 600 s" in watched.sent[0].text
    again = Watched()
    again.resumed(start, 6, watched.remember())
    again.round_done(record(7, absent=late | gone), {})
    assert again.sent == [], "a run that continues does not repeat it"


def test_many_that_are_missing_at_once_are_one_alert():
    watched, _ = begun()
    watched.round_done(record(1, absent={f"site {i}": "no network" for i in range(40)}), {})
    [one] = watched.sent
    assert "40 hospitals are missing" in one.subject
    assert one.text.count("no network") == 5
    assert "and 35 more" in one.text


def test_a_budget_that_is_nearly_spent_is_told_once():
    watched, start = begun()
    for round_, left in enumerate((3.0, 0.5, 0.3, 0.0), start=1):
        told = {"Basel": PrivacySpent(epsilon=4.0 - left, delta=1e-5, left=left, releases={})}
        watched.round_done(record(round_, absent={}, privacy=told), {})
    [one] = watched.sent
    assert (one.kind, one.about["round"], one.about["sites"]) == ("budget-low", 3, ["Basel"])
    assert "ε 3.70 is spent in this run and 0.30 left" in one.text
    again = Watched()
    again.resumed(start, 4, watched.remember())
    again.round_done(record(5, absent={}, privacy=told), {})
    assert again.sent == []


def test_the_end_is_told_once():
    watched, _ = begun()
    watched.failed("disk full")
    watched.failed("disk full")
    [one] = watched.sent
    assert (one.kind, one.about["status"], one.text) == ("run-ended", "failed", "disk full")


def alerts(folder, text):
    path = folder / "alerts.toml"
    path.write_text(text)
    path.chmod(0o600)


@pytest.fixture
def results(tmp_path, monkeypatch):
    for name in ("REMIND_STORE", "REMIND_ALERTS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "results"


def test_a_run_tells_its_end_and_the_page_who_was_told(results, tmp_path):
    results.mkdir()
    with receiving() as server, receiving(410) as gone:
        command, elsewhere = writer(tmp_path / "mails"), gone.url.replace("127.0.0.1", "localhost")
        alerts(
            results,
            f'[[webhook]]\nurl = "{server.url}"\n[[webhook]]\nurl = "{elsewhere}"\n'
            f"[[command]]\nrun = {json.dumps(command)}\n",
        )
        config = settings({"synthetic.patients": 120, "results": str(results / "run")})
        simulate(config, 2, run_observers(config, results / "run", print))
    [got] = server.got
    assert (got["kind"], got["about"]) == ("run-ended", {"run": "run", "status": "finished"})
    assert [subject for subject, _ in written(tmp_path / "mails")] == ["REMIND: run run has finished"]
    engine = open_store(store_url(results))
    try:
        client = TestClient(dashboard_app(engine, Access(token=TOKEN)), headers={"authorization": f"Bearer {TOKEN}"})
        told = client.get("/api/runs/1/timeline").json()["sent"]
        outcomes = {(one["target"].split()[0], one["target"].split()[-1]): one["problem"] for one in told}
        assert outcomes.pop(("webhook", "127.0.0.1")) == ""
        assert outcomes.pop(("webhook", "localhost")) == "answered 410"
        assert list(outcomes.values()) == [""]
        page = client.get("/runs/1").text
        assert "3 alerts: 2 sent, 1 not" in page
        assert "answered 410" in page
        assert "secret-path" not in page
    finally:
        engine.dispose()


def test_a_wrong_file_is_said_before_the_run(results):
    results.mkdir()
    alerts(results, "[[webhook]]\nurl = 'nowhere'\n")
    with pytest.raises(UserError, match=r"webhook 1\.url"):
        run_observers(settings(), results / "run", print)


def test_a_target_that_never_answers_changes_nothing_in_the_run(results):
    with receiving() as server:
        server.held.clear()
        sender = Listening(Alerts(webhook=(Webhook(url=server.url),)))
        config = settings({"synthetic.patients": 120, "results": str(results / "run")})
        result = simulate(config, 2, [AlertObserver(sender, "run")])
        assert result.last == config.train.rounds
        assert server.got == []
