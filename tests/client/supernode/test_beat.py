"""The heartbeat continues after every error."""

import threading

import httpx
import pytest
from flwr.supercore import heartbeat

from remind_client.supernode.beat import LastingHeartbeat
from remind_client.supernode.note import read_note, tell


@pytest.mark.parametrize(
    "trouble",
    [
        httpx.HTTPStatusError("500", request=httpx.Request("POST", "https://x"), response=httpx.Response(500)),
        httpx.ConnectError("certificate has expired"),
        RuntimeError("Heartbeat failed unexpectedly."),
    ],
)
def test_it_beats_again_after_trouble(trouble, monkeypatch, capsys):
    monkeypatch.setattr(heartbeat, "exponential", lambda **_: iter([0.0] * 100))
    beaten = threading.Event()
    calls = []

    def send():
        calls.append(1)
        if len(calls) < 4:
            raise trouble
        beaten.set()
        return True

    sender = LastingHeartbeat(send)
    sender.start()
    assert beaten.wait(60)
    sender.stop()
    notes = [read_note(line) for line in capsys.readouterr().out.splitlines()]
    assert [note["ok"] for note in notes] == [False, False, False, True]
    assert str(trouble) in notes[0]["why"]


def test_only_notes_are_notes(capsys):
    tell("beat", ok=True)
    assert read_note(capsys.readouterr().out.rstrip()) == {"what": "beat", "ok": True}
    for line in ("INFO: remind-note {}", "remind-note {", 'remind-note ["what"]', "remind-note 1", ""):
        assert read_note(line) is None
