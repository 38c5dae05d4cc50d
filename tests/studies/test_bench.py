"""`remind bench` from its options to its files: reproducible, without repeated runs, mistakes in one message."""

import json
import re
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from remind.cli import app
from remind.config import Config, Scalar
from remind.data.synthetic.generate import generate
from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind_server.simulation.flwr_pairs import write_pairs
from remind_studies.bench import bench, listing, read_seeds
from remind_studies.study import registry
from tests.builders.studies import SMALL

CHOICES: dict[str, Any] = {
    "cohort": "synthetic",
    "methods": "softmoe, remind",
    "seeds": "2",
    "clients": 2,
    "metric": "auroc",
    "tune": 0,
    "anchors": True,
    "jobs": 2,
    "command": "remind bench compare",
}


def study(folder, name="compare", settings: dict[str, Scalar] = SMALL, **changes):
    said: list[str] = []
    bench(name, **(CHOICES | {"run_config": write_pairs(settings), "out": folder, "say": said.append} | changes))
    return json.loads((folder / "results.json").read_text()), (folder / "report.html").read_text(), said


@pytest.mark.slow
def test_again_gives_the_same_numbers_and_runs_nothing(tmp_path):
    first, page, said = study(tmp_path / "s")
    assert sum("done" in line for line in said) == 22, "two methods, two anchors and seven yardsticks, two seeds"
    again, page_again, said = study(tmp_path / "s")
    assert not any("done" in line for line in said)
    fresh, _, _ = study(tmp_path / "t", jobs=1)
    for results in (first, again, fresh):
        results.pop("made")
    assert first == again == fresh
    assert "remind" in page
    dated = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d|made.*", re.DOTALL)  # the page says when, at its head too
    assert dated.sub("", page) == dated.sub("", page_again)


@pytest.mark.slow
def test_a_preset_with_a_seed_of_its_own_is_laid_over(tmp_path):
    preset = tmp_path / "preset.toml"
    preset.write_text("seed = 7\n[train]\nlr = 0.002\n")
    changes: dict[str, Any] = {"methods": "softmoe", "seeds": "1", "anchors": False, "jobs": 1}
    results, _, _ = study(tmp_path / "out", **changes, run_config=[str(preset), *write_pairs(SMALL)])
    assert results["seeds"] == [0]
    assert results["settings"]["common"]["train.lr"] == 0.002


@pytest.mark.slow
def test_a_method_more_runs_only_that_method(tmp_path):
    study(tmp_path, anchors=False)
    results, _, said = study(tmp_path, methods="softmoe, remind, attention", anchors=False)
    assert sum("done" in line for line in said) == 2
    assert [arm["name"] for arm in results["panels"][0]["arms"]] == ["softmoe", "remind", "attention"]


@pytest.mark.slow
def test_a_run_that_fails_is_missing_and_said(tmp_path):
    with pytest.raises(UserError, match=r"2 of 2 runs failed, the first: compare / softmoe / seed [01]: "):
        study(tmp_path, settings=SMALL | {"train.lr": 1e30}, methods="softmoe", seeds="0,1", anchors=False, jobs=1)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "comparison"}, "there is no 'comparison'"),
        ({"methods": "nothing"}, "there is no 'nothing'"),
        ({"methods": "pooled, remind+local"}, "yardsticks"),
        ({"metric": "f2"}, "--metric"),
        ({"seeds": "many"}, "--seeds"),
        ({"settings": {"train.learning": 3}}, "no such key"),
        ({"settings": {"data.test": 0.0}}, r"data\.test"),
        ({"settings": {"data.cohort": "x"}, "cohort": "y"}, "give one"),
        ({"cohort": "nowhere/at-all"}, "nowhere/at-all"),
    ],
)
def test_mistakes_are_said_before_anything_runs(tmp_path, changes, says):
    with pytest.raises(UserError, match=says):
        study(tmp_path / "out", **changes)
    assert not list((tmp_path / "out").rglob("*.json"))


@pytest.mark.parametrize("name", ["compare", "extreme"])
def test_too_many_hospitals_are_said_before_anything_runs(tmp_path, name):
    with pytest.raises(UserError, match=r"^5000 sites for 120 patients"):
        study(tmp_path, name, clients=5000)
    assert not list(tmp_path.rglob("*.json"))


def test_other_hospitals_than_the_cohorts_own_are_said_before_anything_runs(tmp_path):
    cohort = generate(Config.from_flat(SMALL).synthetic, 0)
    write_cohort(replace(cohort, site_N=np.resize(["Aarau", "Bern"], len(cohort))), tmp_path / "cohort")
    with pytest.raises(UserError, match=r"^cohort .* has 2 sites"):
        study(tmp_path / "out", settings={}, cohort=str(tmp_path / "cohort"), clients=3)
    assert not list((tmp_path / "out").rglob("*.json"))


@pytest.mark.slow
def test_yardsticks_that_are_named_are_shown_and_never_ranked(tmp_path):
    results, _, _ = study(tmp_path, methods="pooled, softmoe, remind+local", seeds="1", anchors=False)
    (panel,) = results["panels"]
    assert {arm["name"]: arm["anchor"] for arm in panel["arms"]} == {
        "pooled": True,
        "softmoe": False,
        "remind+local": True,
    }
    assert panel["reference"] == "softmoe"


@pytest.mark.parametrize(
    ("text", "seeds"), [("", (0, 1, 2)), ("2", (0, 1)), ("0,5", (0, 5)), ("5-7,1", (5, 6, 7, 1)), (" 3 ", (0, 1, 2))]
)
def test_seeds_as_typed(text, seeds):
    assert read_seeds(text, 3) == seeds


def test_every_study_is_listed_with_its_options():
    text = listing()
    for method in registry.methods():
        assert method.name in text
        assert method.signature() in text


def test_the_command_line(tmp_path, monkeypatch):
    from remind_studies.command import bench_command

    app.command("bench")(bench_command)
    monkeypatch.setattr(sys, "argv", ["remind", "bench", "list"])
    result = CliRunner().invoke(app, ["bench", "list"])
    assert result.exit_code == 0
    assert "compare" in result.output
