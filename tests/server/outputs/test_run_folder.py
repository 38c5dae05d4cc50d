"""The results folder of a run: its files, always complete."""

import csv
import json
import math
import stat

import pytest
import torch
from safetensors import safe_open

from remind.config import Config
from remind.errors import UserError
from remind_server.outputs import run_folder as run_folder_module
from remind_server.outputs.run_folder import (
    CALIBRATION_CSV,
    CONFIG,
    DECISIONS,
    EXPERTS,
    FINAL_CSV,
    FINAL_JSON,
    GROUPS,
    INTERVALS,
    MODEL,
    RELIABILITY,
    ROUNDS,
    SUMMARY,
    RunFolder,
)
from remind_server.outputs.tables import expert_rows, final_rows
from remind_server.store.open import open_store, store_url
from tests.builders.configs import settings
from tests.builders.reports import START, follow, record, result


def test_the_folder_holds_what_the_run_did(tmp_path):
    follow(RunFolder(tmp_path / "run"))
    folder = tmp_path / "run"
    files = {CONFIG, ROUNDS, GROUPS, FINAL_CSV, FINAL_JSON, INTERVALS, EXPERTS, SUMMARY, MODEL}
    files |= {CALIBRATION_CSV, RELIABILITY, DECISIONS}
    assert {p.name for p in folder.iterdir()} == files
    head = json.loads((folder / CONFIG).read_text())
    assert Config.model_validate(head["config"]) == settings()
    assert head["seed"] == 0
    assert head["sites"] == {"x": {"a": 90}, "y": {"a+b": 10, "a+b+c": 2}}
    assert head["tail_groups"] == ["a+b", "a+b+c"]
    lines = [json.loads(line) for line in (folder / GROUPS).read_text().splitlines()]
    assert [(line["round"], line["group"]) for line in lines] == [(r, g) for r in (1, 2) for g in ("a", "a+b", "a+b+c")]
    assert lines[0]["lambda"] == 0.2
    assert [json.loads(line)["round"] for line in (folder / ROUNDS).read_text().splitlines()] == [1, 2]
    final = json.loads((folder / FINAL_JSON).read_text())
    assert final == final_rows(result())
    ends = {row["group"]: row for row in json.loads((folder / INTERVALS).read_text())}
    for row in final:
        if row["site"] == "all" and row["n"]:
            low, high = ends[row["group"]]["intervals"]["accuracy"]
            assert low <= row["accuracy"] <= high
            assert sum(ends[row["group"]]["n_by_class"]) == row["n"]
    with (folder / FINAL_CSV).open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [(r["site"], r["group"], int(r["n"])) for r in table] == [(r["site"], r["group"], r["n"]) for r in final]
    assert all(math.isclose(float(t["lambda"]), r["lambda"]) for t, r in zip(table, final, strict=True) if r["lambda"])
    with (folder / EXPERTS).open(newline="") as file:
        experts = list(csv.DictReader(file))
    assert [{k: str(v) for k, v in row.items()} for row in expert_rows(result())] == experts
    assert len(lines[0]["experts"]) == 3
    with safe_open(folder / MODEL, "pt") as file:
        assert torch.equal(file.get_tensor("fusion.head.bias"), torch.full((2,), 2.0))
        assert json.loads(file.metadata()["weights"]) == {"1": 0.1, "3": 0.3, "7": 0.6}
        assert file.metadata()["round"] == "2"


def test_only_the_owner_can_read_what_counts_single_patients(tmp_path):
    follow(RunFolder(tmp_path / "run"))
    open_store(store_url(tmp_path)).dispose()
    found = [*(tmp_path / "run").iterdir(), *tmp_path.glob("*.db")]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in found}
    assert {FINAL_CSV, GROUPS, MODEL, "runs.db"} <= set(modes)
    assert set(modes.values()) == {0o600}, modes


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "＝1"])
def test_a_hospitals_name_is_no_formula(tmp_path, name):
    path = tmp_path / "final.csv"
    run_folder_module._csv([{"site": name, "n": -1.5}, {"site": "a=b", "n": 2}], path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["site"] for row in rows] == [f"'{name}", "a=b"]
    assert rows[0]["n"] == "-1.5"


@pytest.mark.parametrize("failing", ["save_model", "_dump", "_csv"])
def test_a_write_that_fails_leaves_the_file_of_before(failing, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    again = RunFolder(folder)
    follow(again)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    def half(*args, **kwargs):
        path = next(a for a in args if hasattr(a, "write_bytes"))
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(run_folder_module, failing, half)
    for step in (
        lambda: again.started(START),
        lambda: again.round_done(record(3), {}),
        lambda: again.finished(result()),
    ):
        try:
            step()
        except OSError:
            continue
    after = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert set(after) == set(before), "nothing half-written lies about"
    broken = {"save_model": {MODEL}, "_dump": {CONFIG, FINAL_JSON, SUMMARY, FINAL_CSV}, "_csv": {FINAL_CSV, EXPERTS}}[
        failing
    ]
    assert all(after[name] == before[name] for name in broken)


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    RunFolder(tmp_path).started(START)
    with pytest.raises(UserError, match="already holds a run"):
        RunFolder(tmp_path)


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot make"):
        RunFolder(tmp_path / "file" / "run")
