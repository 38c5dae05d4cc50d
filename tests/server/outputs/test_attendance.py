"""A run that ends without some of its sites reports this in its summary and by its exit code."""

import json
import os
import signal

import pytest
import typer
from typer.testing import CliRunner

from remind.cli import app
from remind_server.dashboard.reader import Reader
from remind_server.outputs.attendance import INCOMPLETE, Attendance
from remind_server.outputs.gaps import summary_warnings
from remind_server.outputs.run_folder import SUMMARY, RunFolder
from remind_server.simulation.simulate_command import simulate_command
from remind_server.store.open import open_store, store_url
from tests.builders.reports import START, follow, record, result

TINY = (
    "train.warmup-rounds=1 train.routing-rounds=1 train.local-steps=1 train.batch=8 synthetic.patients=120 "
    "model.width=8 model.heads=2 model.experts=2 "
)


def changed(what, **fields):
    return type(what)(**{name: getattr(what, name) for name in what.__dataclass_fields__} | fields)


def test_a_site_whose_answers_never_counted_is_named():
    seen = Attendance()
    seen.started(changed(START, refused={"z": "another schema"}))
    for number in (1, 2):
        absent = {"y": "its update is too large"} | ({"x": "no answer"} if number == 1 else {})
        seen.round_done(changed(record(number), answered=() if number == 1 else ("x",), absent=absent), {})
    seen.finished(changed(result(), absent={}))
    assert seen.warnings == [
        "site y never took part: its update is too large",
        "site z never took part: another schema",
    ]
    assert seen.content()["rounds_missed"] == {"x": 1}


def test_where_everybody_took_part_there_is_nothing_to_say(tmp_path):
    seen, folder = Attendance(), RunFolder(tmp_path / "run")
    for observer in (seen, folder):
        observer.started(changed(START, refused={}))
        observer.round_done(changed(record(1), answered=("x", "y"), absent={}), {})
        observer.finished(changed(result(), absent={}))
    assert seen.warnings == []
    assert summary_warnings(json.loads((tmp_path / "run" / SUMMARY).read_text())) == []


def test_the_summary_holds_what_the_command_says(tmp_path):
    seen, folder = Attendance(), RunFolder(tmp_path / "run")
    follow(seen)
    follow(folder)
    assert summary_warnings(json.loads((tmp_path / "run" / SUMMARY).read_text())) == seen.warnings


@pytest.mark.parametrize("broken", [0, 1])
def test_simulate_with_a_site_that_never_counts_is_no_plain_success(tmp_path, monkeypatch, broken):
    from remind_client.rounds.site import Site

    monkeypatch.chdir(tmp_path)
    train = Site.train

    def failing(self, *args, **kwargs):
        if self.name.endswith("2") and broken:
            raise RuntimeError("disk full")
        return train(self, *args, **kwargs)

    monkeypatch.setattr(Site, "train", failing)
    if not any(command.name == "simulate" for command in app.registered_commands):
        app.command("simulate")(simulate_command)
    done = CliRunner().invoke(app, ["simulate", "--num-clients", "2", "-c", TINY])
    assert done.exit_code == (INCOMPLETE if broken else 0), done.output
    assert ("never took part" in done.stderr) == bool(broken)


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_simulation_that_is_stopped_is_known_to_have_ended(tmp_path, monkeypatch, sign):
    from remind_client.rounds.site import Site

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Site, "train", lambda self, task, buffer: os.kill(os.getpid(), sign))
    before = signal.getsignal(sign)
    command = typer.Typer()
    command.command()(simulate_command)
    done = CliRunner().invoke(command, ["--num-clients", "2", "-c", TINY])
    assert done.exit_code == 130, done.output
    assert "stopped before the end" in done.stderr
    assert signal.getsignal(sign) == before
    state = Reader(open_store(store_url(tmp_path / "results"))).state(1)
    assert (state.status, state.reason) == ("failed", "interrupted")
