"""Benchmarks still fit the code they measure: each can be imported, and one of a step runs."""

import os
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from remind.config import Config
from remind.data.cohort.read import read_cohort
from remind_studies.arms import read_arms

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))  # as for a script
    monkeypatch.delitem(sys.modules, "soft_moe", raising=False)  # a package on PyPI has this name too
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_what_it_imports_is_there_and_it_says_what_it_takes(path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    assert f"usage: {path.name}" in capsys.readouterr().out


@pytest.mark.slow
def test_group_routing_prints_a_ratio_for_each_gate(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["group_routing.py", "--size", "small", "--repeats", "2", "--steps", "1"])
    runpy.run_path(str(FOLDER / "group_routing.py"), run_name="__main__")
    rows = [line.split("|")[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) > 2
    assert all(0.2 < float(row[2]) < 5 for row in rows[1:])


@pytest.mark.slow
def test_soft_moe_is_compared_with_the_packages_of_its_extra(tmp_path):
    """They are installed beside the environment: one of them has a package ``tests``, which would hide this one."""
    project = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = project["optional-dependencies"]["benchmarks"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "packages")]
    if (got := subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no package index can be reached: {got.stderr.strip().splitlines()[-1]}")
    words = ["--size", "small", "--repeats", "1", "--steps", "1"]
    done = subprocess.run(
        [sys.executable, str(FOLDER / "soft_moe.py"), *words],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path / "packages"), *sys.path])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "best of the packages ÷ remind: " in done.stdout
    assert all(f"| {name.partition('=')[0].partition('>')[0]} |" in done.stdout for name in wanted)


def test_the_recommended_settings_are_the_defaults():
    candidates = runpy.run_path(str(FOLDER / "preset.py"))
    assert Config.from_flat(candidates["CANDIDATES"][candidates["DEFAULTS"]]) == Config()


def test_every_method_tries_the_same_options_with_its_own_fusion_model():
    options = runpy.run_path(str(FOLDER / "options.py"))
    tried = {"model.encoders.alone": "both", "method.fusion": "{fusion}(modality-dropout = 0.3)"}
    for arm in read_arms("softmoe, groupdro, remind(compose = true)", {}):
        settings = options["filled"](arm, tried)
        fusion = str(arm.settings["method.fusion"]).partition("(")[0]
        assert settings["method.fusion"] == f"{fusion}(modality-dropout = 0.3)"
        assert settings["method.objective"] == arm.settings["method.objective"]
        assert settings["model.encoders.alone"] == "both"
        Config.from_flat(settings)


def test_an_option_is_worth_what_it_gains_over_the_first_on_validation_patients_of_all_cohorts():
    gain = runpy.run_path(str(FOLDER / "options.py"))["gain"]
    nothing = (0.0, 0.0, 0.0)
    found = {
        "small": {"first": [((0.8, 0.7, 0.6), nothing)], "other": [((0.9, 0.8, float("nan")), nothing)]},
        "large": {"first": [((0.5, 0.5, 0.5), nothing)], "other": [((0.6, 0.5, 0.4), nothing)]},
    }
    shown = runpy.run_path(str(FOLDER / "options.py"))["shown"]
    assert shown([(0.8, 0.7, float("nan")), (0.9, float("nan"), float("nan"))]) == "0.850 / 0.700 / –"
    assert gain(found, "first", 0, "first") == 0
    assert gain(found, "other", 0, "first") == pytest.approx((0.1 + 0.0) / 2)


def test_cohorts_of_other_outcomes_have_no_column_of_the_outcome_among_their_inputs(tmp_path):
    made = runpy.run_path(str(FOLDER / "outcome_cohorts.py"))
    if not made["DATA"].is_dir():
        pytest.skip("the real cohorts are not here")
    for name, outcomes in (("nhanes", {"LBXGH"}), ("cinc", {"los_d", "left", "label", "survival_d"})):
        declared, patients = made[name](made["DATA"])
        folder = made["write"](tmp_path / name, made["DATA"], declared, patients)
        written = tomllib.loads((folder / "cohort.toml").read_text())
        modalities = written["modalities"]
        assert modalities, "inputs are left"
        named = {c for m in modalities.values() for c in (*m.get("columns", ()), *m.get("items", ()))}
        assert not named & outcomes
        assert written["label"].get("column", written["label"].get("time")) in outcomes
        assert written["label"]["missing"] == "drop"
        if name == "nhanes":
            cohort = read_cohort(folder)
            assert len(cohort) == patients["LBXGH"].notna().sum() > 7000
            assert cohort.schema.predicts.kind == "regression"
    assert (patients["los_d"].dropna() > 2).all(), "nobody leaves while inputs are still measured"
    assert patients["los_d"].notna().sum() > 7000
