"""Waiting for a run: its end, its failure, a SuperLink that is away for a while."""

import pytest

from remind.errors import UserError
from remind_server.consortium import runs
from remind_server.consortium.flower import Control, Run, UnreachableError
from remind_server.consortium.runs import RunFailedError, run_settings, wait


class Answering(Control):
    """Answers one after the other; an exception is raised."""

    def __init__(self, *answers):
        self.answers = iter(answers)

    def run(self, run_id):
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return Run(run_id, answer, "why it failed", "")


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(runs, "LOOK", 0.0)


def test_every_change_is_said_once():
    said = []
    wait(Answering("pending", "pending", "running", "running", "finished:completed"), 7, said.append)
    assert said == ["run 7: pending", "run 7: running", "run 7: finished:completed"]


@pytest.mark.parametrize("end", ["finished:failed", "finished:stopped"])
def test_a_run_that_does_not_end_well(end):
    with pytest.raises(RunFailedError, match=f"{end}: why it failed"):
        wait(Answering("running", end), 7, lambda _: None)


def test_a_superlink_may_be_away_but_not_for_ever(monkeypatch):
    away = UnreachableError("no SuperLink answers")
    assert wait(Answering("running", away, away, "finished:completed"), 7, lambda _: None).finished
    monkeypatch.setattr(runs, "PATIENCE", -1.0)
    with pytest.raises(UnreachableError):
        wait(Answering("running", away), 7, lambda _: None)


def test_settings_are_checked_before_they_are_sent(tmp_path):
    (tmp_path / "run.toml").write_text("[train]\nlr = 0.01\n")
    assert run_settings([str(tmp_path / "run.toml"), "seed=3"]) == {"train.lr": 0.01, "seed": 3}
    with pytest.raises(UserError, match=r"train\.lrr"):
        run_settings(["train.lrr=1"])
    with pytest.raises(UserError, match=r"train\.lr"):
        run_settings(['train.lr="fast"'])


def test_settings_that_exclude_each_other_are_refused_before_they_are_sent():
    with pytest.raises(UserError, match="only their sum can be read"):
        run_settings(['federation.secure-aggregation=true method.aggregator="median"'])
