"""A run whose process is gone without a word is closed, shown as lost and told of once; one that lives is not."""

import os

import pytest

from remind.alerts.sending import Sender
from remind.alerts.settings import Alerts
from remind_server.consortium.flower import Control, Run, UnreachableError
from remind_server.consortium.folder import Folder
from remind_server.consortium.lost_runs import LOST, SILENT, close_lost_runs
from remind_server.consortium.pulse import Pulse
from remind_server.consortium.record_keeper import RecordKeeper
from remind_server.consortium.run_record import read_record, record_path, status_text
from remind_server.store import schema
from tests.builders.reports import START, record, result
from tests.machine import until


class Link(Control):
    def __init__(self, status):
        self.status = status

    def run(self, run_id):
        if isinstance(self.status, Exception):
            raise self.status
        return Run(run_id, self.status, "", "")


class Listening(Sender):
    def __init__(self):
        super().__init__(Alerts())
        self.sent = []

    def send(self, alert):
        self.sent.append(alert)


@pytest.fixture
def folder(tmp_path):
    found = Folder(tmp_path / "heart")
    found.root.mkdir()
    return found


def running(folder):
    keeper = RecordKeeper(record_path(folder, 5), 5, folder.root / "results")
    keeper.begun(START.config)
    keeper.started(START)
    keeper.round_done(record(1), {})
    keeper._pulse.stop()
    return keeper


def look(folder, status, silent):
    sender, path = Listening(), record_path(folder, 5)
    closed = close_lost_runs(folder, Link(status), sender, path.stat().st_mtime + silent)
    return closed, sender.sent, read_record(folder, 5)


@pytest.mark.parametrize(
    ("status", "silent", "words", "alerts"),
    [
        ("running", LOST - 1, "", 0),
        ("running", LOST + 1, "nothing was heard of its process for 10 min", 1),
        ("pending", LOST + 1, "Flower shows it as pending; `remind consortium stop` ends it", 1),
        ("finished:failed", SILENT - 1, "", 0),
        ("finished:failed", SILENT + 1, "its process ended without a word", 1),
        ("finished:stopped", SILENT + 1, "it was stopped", 0),
    ],
)
def test_silence_closes_a_run_and_one_alert_tells_unless_somebody_stopped_it(folder, status, silent, words, alerts):
    running(folder)
    closed, sent, kept = look(folder, status, silent)
    assert len(closed) == bool(words)
    assert [(one.kind, one.about["status"], one.about["round"]) for one in sent] == [("run-ended", "lost", 1)] * alerts
    assert kept.status == ("failed" if words else "running")
    assert words in kept.reason
    assert look(folder, status, silent)[:2] == ([], []), "once"
    if words and not status.startswith("finished"):
        assert status_text(Run(5, status, "", ""), kept).startswith(f"{status}, lost: nothing was heard")


def test_a_run_that_ended_by_itself_is_left_alone(folder):
    running(folder).finished(result())
    kept = read_record(folder, 5)
    assert look(folder, "finished:completed", 10 * LOST) == ([], [], kept)


def test_a_superlink_that_is_away_says_nothing_about_runs(folder):
    running(folder)
    with pytest.raises(UnreachableError):
        look(folder, UnreachableError("no SuperLink answers"), 10 * LOST)
    assert read_record(folder, 5).status == "running"


def test_a_process_that_lives_on_writes_its_record_again(folder):
    keeper = running(folder)
    look(folder, "running", LOST + 1)
    keeper.round_done(record(2), {})
    assert (read_record(folder, 5).status, read_record(folder, 5).round) == ("running", 2)


def test_a_process_shows_that_it_lives_until_it_stops(tmp_path):
    path = tmp_path / "record"
    path.write_text("{}")
    os.utime(path, (0, 0))
    pulse = Pulse(path, 0.01)
    pulse.start()
    until(lambda: path.stat().st_mtime > 0)
    pulse.stop()
    path.unlink()


def test_page_and_consortium_mean_the_same_by_lost():
    assert LOST == schema.LOST
