"""Tables of probabilities and decisions, before and after calibration."""

import csv
import json

import pytest

from remind.metrics.calibration import CALIBRATION, read_calibration
from remind.metrics.calibration_fit import fit
from remind.metrics.statistics import merge, total
from remind_server.outputs.calibration_tables import CURVE, calibration_rows, decision_rows, reliability_rows
from remind_server.outputs.progress import Progress
from remind_server.outputs.run_folder import CALIBRATION_CSV, DECISIONS, RELIABILITY, SUMMARY, RunFolder
from tests.builders.calibration import TEST, VALIDATION
from tests.builders.reports import SCHEMA, START, result


def finished(method="temperature", wanted="sensitivity >= 0.8"):
    calibration = fit(merge(VALIDATION.values()), SCHEMA.classes, method, wanted, 2)
    return result(TEST, calibration=calibration, validation=VALIDATION)


def written(path, done):
    """The folder of a run that ended with this result."""
    observer = RunFolder(path)
    observer.started(START)
    observer.finished(done)
    return path


def test_calibration_helps_where_it_must_and_the_point_is_reported():
    rows = {(row["group"], row["model"]): row for row in calibration_rows(finished())}
    assert set(rows) == {(group, model) for group in ("all", "a", "a+b") for model in ("raw", "calibrated")}
    for group in ("all", "a", "a+b"):
        raw, after = rows[group, "raw"], rows[group, "calibrated"]
        assert raw["n"] == after["n"]
        for name in ("log_loss", "brier", "ece"):
            assert after[name] < raw[name]
            assert after[f"{name}_low"] <= after[name] <= after[f"{name}_high"]
    after = rows["all", "calibrated"]
    assert after["sensitivity"] == pytest.approx(0.8, abs=0.08)
    assert after["sensitivity_low"] < after["sensitivity"] < after["sensitivity_high"]
    assert after["sensitivity_n"] + after["specificity_n"] == after["n"] == 800
    assert rows["all", "raw"]["sensitivity"] != after["sensitivity"]


def test_curves_count_everybody():
    for group, n in (("all", 800), ("a", total({1: merge(TEST.values())[1]}).count)):
        for model in ("raw", "calibrated"):
            own = [r for r in reliability_rows(finished()) if (r["group"], r["model"]) == (group, model)]
            assert sum(r["n"] for r in own) == n
            assert all(r["from"] - 0.001 <= r["predicted"] <= r["to"] + 0.001 for r in own)
            assert all(r["class"] == SCHEMA.classes[1] for r in own)


def test_decision_curves_begin_at_the_prevalence_and_beat_nobody():
    rows = [r for r in decision_rows(finished()) if r["group"] == "all"]
    positives = total(merge(TEST.values())).confusion_CC[1].sum()
    raw, after = ([r for r in rows if r["model"] == model] for model in ("raw", "calibrated"))
    assert [r["threshold"] for r in raw] == CURVE.tolist()
    assert raw[0]["treat_all"] == pytest.approx(positives / 800 - (1 - positives / 800) / 99)
    assert sum(r["net_benefit"] for r in after) > sum(r["net_benefit"] for r in raw)


def test_the_run_s_folder_has_them_all(tmp_path):
    said, done = [], finished()
    folder = written(tmp_path / "run", done)
    assert read_calibration(folder / CALIBRATION) == done.calibration
    for name, rows in (
        (CALIBRATION_CSV, calibration_rows(done)),
        (RELIABILITY, reliability_rows(done)),
        (DECISIONS, decision_rows(done)),
    ):
        with (folder / name).open(newline="") as file:
            assert len(list(csv.DictReader(file))) == len(rows)
    told = json.loads((folder / SUMMARY).read_text())["calibration"]
    assert told["temperature"] == pytest.approx(1 / done.calibration.scaling.weights[0])
    assert told["test"]["calibrated"]["ece"] < told["test"]["raw"]["ece"]
    Progress(said.append).finished(done)
    assert any(line.startswith("calibrated (temperature") for line in said)
    assert any(line.startswith("operating point sensitivity >= 0.8") for line in said)


def test_what_was_not_asked_for_is_not_there(tmp_path):
    folder = written(tmp_path / "run", result(TEST))
    assert not (folder / CALIBRATION).exists()
    assert {row["model"] for row in calibration_rows(result(TEST))} == {"raw"}
    assert json.loads((folder / SUMMARY).read_text())["calibration"] is None
