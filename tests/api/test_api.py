"""`import remind` is light and complete, and names attributes that it does not have."""

import json
import subprocess
import sys

import pytest

import remind
from remind.data.synthetic.write import write_cohort
from remind_server.rounds import waiting
from tests.builders.cohorts import cohort

SMALL = {
    "synthetic.patients": 60,
    "model.width": 8,
    "model.heads": 2,
    "train.warmup-rounds": 1,
    "train.routing-rounds": 0,
    "train.local-steps": 1,
}


class Follower:
    """Has two of an observer's methods, and derives from nothing."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    def started(self, start) -> None:
        self.seen.append(sorted(start.sites))

    def round_done(self, record, tensors) -> None:
        self.seen.append(record.round)


def test_every_name_is_there_and_no_other():
    assert all(getattr(remind, name) is not None for name in remind.__all__)
    assert set(remind.__all__) <= set(dir(remind))
    with pytest.raises(AttributeError, match="module 'remind' has no attribute 'lode'"):
        remind.lode  # noqa: B018
    with pytest.raises(AttributeError, match="there are fusion, objective, rule, aggregator, encoder"):
        remind.register.fusions  # noqa: B018
    for name in dir(remind.register):
        assert callable(getattr(remind.register, name))


def test_importing_it_imports_nothing_heavy():
    code = "import sys; before = set(sys.modules); import remind; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    heavy = {"torch", "numpy", "pandas", "pyarrow", "pydantic", "flwr", "typer"}
    assert not heavy & {name.partition(".")[0] for name in json.loads(done.stdout.replace("'", '"'))}


def test_a_simulation_is_followed_and_its_results_are_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "SETTLE", 0.01)
    monkeypatch.chdir(tmp_path)
    follower = Follower()
    run = remind.simulate(remind.Config.from_flat(SMALL), clients=2, observers=[follower])
    assert follower.seen == [["site-1", "site-2"], 1]
    assert run.folder.parent == tmp_path / "results"
    assert run.config.model.width == 8
    assert run.rounds["round"].tolist() == [1]
    assert {"lambda", "validation.auroc"} <= set(run.groups.columns)
    assert set(run.final["site"]) == {"all", "site-1", "site-2"}
    assert remind.read_run(run.folder).summary == run.summary
    with pytest.raises(remind.UserError, match=r"train\.lrr: no such key; did you mean 'train\.lr'"):
        remind.simulate({"train.lrr": 1.0})
    with pytest.raises(remind.UserError, match="holds"):
        remind.simulate(SMALL | {"results": str(run.folder)}, clients=2)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(remind.UserError, match="no results of a run"):
        remind.read_run(tmp_path)
    with pytest.raises(remind.UserError, match="contains no model"):
        remind.load(tmp_path)


def test_a_cohort_is_read_and_looked_at(tmp_path):
    write_cohort(cohort([1, 3, 3, 7]), tmp_path / "cohort")
    read = remind.Cohort.read(tmp_path / "cohort")
    assert isinstance(read.take([0, 1]), remind.Cohort)
    assert dict(zip(read.counts()["group"], read.counts()["n"], strict=True)) == {"a": 1, "a+b": 2, "a+b+c": 1}
    assert read.frame().columns.tolist() == ["patient_id", "label", "group", "split"]
    assert len(read.frame()) == 4
