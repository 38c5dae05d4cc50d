"""Alerts reach a real server and a real program, once; what fails is tried again within bounds, and holds nobody up."""

import socket
import sys

import pytest

from remind.alerts.message import Alert
from remind.alerts.sending import MOST_WAITING, Sender
from remind.alerts.settings import Alerts, Command, Webhook
from tests.alerts.receivers import receiving, writer, written
from tests.machine import until

QUICK = (0.01, 0.02, 0.03)
GONE = Alert(
    "site-missing", "REMIND: run r: Basel is missing", "Basel: no answer within 600 s", {"run": "r", "round": 3}
)


class Told(list):
    """Outcomes in the order in which they came."""

    @property
    def said(self):
        return sorted((one.target, one.attempts, one.problem) for one in self)


def send(*targets, alert=GONE, waits=QUICK, timeout=60.0, within=120.0):
    told = Told()
    hooks = tuple(one for one in targets if isinstance(one, Webhook))
    sender = Sender(
        Alerts(webhook=hooks, command=tuple(t for t in targets if t not in hooks)), told.append, waits, timeout
    )
    sender.send(alert)
    sender.close(within)
    return told


def test_a_webhook_gets_the_alert_once_with_its_headers():
    with receiving() as server:
        told = send(Webhook(url=server.url, headers={"Authorization": "Bearer x"}))
    assert told.said == [("webhook 127.0.0.1", 1, "")]
    [got] = server.got
    assert (got["kind"], got["subject"], got["about"]) == ("site-missing", GONE.subject, {"run": "r", "round": 3})
    assert got["text"] == f"{GONE.subject}\n{GONE.text}"
    assert server.headers[0]["Authorization"] == "Bearer x"
    assert server.headers[0]["Content-Type"] == "application/json"


def test_a_command_gets_subject_and_text(tmp_path):
    evil = Alert("run-ended", "run $(touch pwned); 'a\nBcc: everyone", "first\x00\nsecond")
    told = send(Command(run=writer(tmp_path / "mails")), alert=evil)
    assert told.said == [(f"command {sys.executable.rsplit('/')[-1]}", 1, "")]
    assert written(tmp_path / "mails") == [["run $(touch pwned); 'a Bcc: everyone", "first \nsecond\n"]]
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("statuses", "attempts", "problem"),
    [
        ((503, 429, 200), 3, ""),
        ((500,), 4, "answered 500"),
        ((404,), 1, "answered 404"),
        ((302,), 1, "answered 302; set url to the address to which it redirects"),
    ],
)
def test_only_what_may_pass_is_tried_again(statuses, attempts, problem):
    with receiving(*statuses) as server:
        assert send(Webhook(url=server.url)).said == [("webhook 127.0.0.1", attempts, problem)]
    assert len(server.got) == attempts
    assert server.paths == [], "a redirection is not followed"


def test_nobody_listens():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        [(_, attempts, problem)] = send(Webhook(url=f"http://127.0.0.1:{held.getsockname()[1]}/secret")).said
    assert attempts == len(QUICK) + 1
    assert problem.startswith("no answer")
    assert "secret" not in problem


def test_a_target_that_hangs_holds_nobody_up(tmp_path):
    with receiving() as server:
        server.held.clear()
        told = Told()
        alerts = Alerts(webhook=(Webhook(url=server.url),), command=(Command(run=writer(tmp_path / "mails")),))
        sender = Sender(alerts, told.append, QUICK, timeout=600.0)
        for _ in range(MOST_WAITING + 30):
            sender.send(GONE)
        assert (server.got, server.held.is_set()) == ([], False), "sending returned before the first was answered"
        until(lambda: written(tmp_path / "mails"))  # although the webhook has not answered
        sender.close(within=0.1)
        dropped = [one.problem for one in told if one.target.startswith("webhook")]
        assert dropped.count(f"{MOST_WAITING} earlier alerts are waiting") >= 20
        assert dropped.count("the run ended before it was sent") >= MOST_WAITING - 1


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path):
    hang = f"import subprocess; subprocess.Popen([sys.executable, '-S', '-c', {WAITS_FOR_EVER!r}]).wait()"
    [(_, attempts, problem)] = send(Command(run=writer(tmp_path / "m", hang)), waits=(), timeout=1.0).said
    assert (attempts, problem) == (1, "did not end within 1 s"), "and not: the run ended before it was sent"


WAITS_FOR_EVER = "import time; time.sleep(600)"


def test_a_program_says_why_it_failed(tmp_path):
    fails = "sys.exit('no such mailbox')"
    [(_, attempts, problem)] = send(Command(run=writer(tmp_path / "m", fails)), waits=(0.01,)).said
    assert (attempts, problem) == (2, "exit code 1: no such mailbox")
    [(_, attempts, problem)] = send(Command(run=(str(tmp_path / "nothing"),))).said
    assert (attempts, problem) == (1, "cannot be started: No such file or directory")


def test_a_target_gets_only_the_events_it_asked_for(tmp_path):
    with receiving() as server:
        told = send(Webhook(url=server.url, events=("run-ended",)), Command(run=writer(tmp_path / "m")))
    assert server.got == []
    assert [one.target.split()[0] for one in told] == ["command"]


def test_who_records_outcomes_may_fail():
    def fail(_):
        raise RuntimeError("the store is away")

    with receiving() as server:
        sender = Sender(Alerts(webhook=(Webhook(url=server.url),)), fail, QUICK)
        sender.send(GONE)
        sender.send(GONE)
        sender.close()
        assert len(server.got) == 2
