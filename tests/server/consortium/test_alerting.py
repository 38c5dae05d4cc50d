"""Certificates that expire are told of once at 30 days, once at 7, and once when it has happened."""

from datetime import timedelta

from remind.alerts.sending import Sender
from remind.alerts.settings import Alerts
from remind_server.consortium import alerting
from remind_server.consortium.alerting import tell_of_certificates
from remind_server.consortium.certificates import lifetimes
from remind_server.consortium.flower import environment


class Listening(Sender):
    def __init__(self):
        super().__init__(Alerts())
        self.sent = []

    def send(self, alert):
        self.sent.append(alert)


def test_each_stage_is_told_once_whatever_restarts(folder):
    server = next(one for one in lifetimes(folder) if one.name == "server")
    told = []
    for days in (40, 30, 29, 8, 7, 1, 0, -3):
        for _ in range(2):  # a restart in between
            sender = Listening()
            tell_of_certificates(folder, sender, server.ends - timedelta(days=days))
            told += [(days, one.about["certificate"]) for one in sender.sent if one.about["certificate"] == "server"]
    assert told == [(30, "server"), (7, "server"), (0, "server")]


def test_what_it_says(folder):
    sender = Listening()
    server = next(one for one in lifetimes(folder) if one.name == "server")
    tell_of_certificates(folder, sender, server.ends - timedelta(days=20, hours=1))
    [one] = [one for one in sender.sent if one.about["certificate"] == "server"]
    assert (one.kind, one.about["ends"]) == ("certificate-expires", server.ends.isoformat())
    assert "the server certificate expires in 20 day(s)" in one.subject
    assert "remind consortium renew" in one.text


def test_a_damaged_list_tells_again_and_not_never(folder):
    server = next(one for one in lifetimes(folder) if one.name == "server")
    folder.alerted.parent.mkdir(parents=True, exist_ok=True)
    folder.alerted.write_text("{broken")
    sender = Listening()
    tell_of_certificates(folder, sender, server.ends)
    assert any(one.about["certificate"] == "server" for one in sender.sent)
    assert alerting._sent(folder)


def test_runs_of_the_consortium_read_its_file(folder, monkeypatch):
    monkeypatch.delenv("REMIND_ALERTS", raising=False)
    assert "REMIND_ALERTS" not in environment(folder)
    folder.alerts.write_text("")
    assert environment(folder)["REMIND_ALERTS"] == str(folder.alerts)
