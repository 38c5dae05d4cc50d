"""No two runs write into one results folder."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from remind.config import Config
from remind.errors import UserError
from remind_server.outputs.results_claim import make_own
from remind_server.outputs.run_folder import RunFolder
from remind_server.simulation.flwr_plan import claimed, plan_elsewhere, plan_remind

NOW = datetime(2026, 1, 2, 3, 4, 5)


def plan(folder, typed=None):
    return plan_remind(typed or {}, {}, Config().flat(), app_dir=folder, cwd=folder, now=NOW)


def test_runs_of_one_second_get_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        plans = list(pool.map(lambda _: claimed(plan(tmp_path)), range(24)))
    folders = [made.results for made in plans]
    assert len(set(folders)) == 24
    assert all(made.run["results"] == made.results for made in plans)
    first = tmp_path / "results" / "20260102-030405-synthetic-seed0"
    assert {str(first), f"{first}-2", f"{first}-24"} <= set(folders)


def test_the_folder_of_a_run_is_empty_when_it_begins(tmp_path):
    folder = RunFolder(make_own(tmp_path / "new"))
    assert [path.name for path in folder.folder.iterdir()] == ["rounds.jsonl"]


@pytest.mark.parametrize("left", ["sites", "model.safetensors", ".hidden"])
def test_a_chosen_folder_that_holds_anything_is_refused_before_and_at_the_start(tmp_path, left):
    (tmp_path / "out").mkdir()
    assert claimed(plan(tmp_path, {"results": "out"})).results == str(tmp_path / "out"), "an empty one is welcome"
    (tmp_path / "out" / left).mkdir()
    with pytest.raises(UserError, match="is not empty"):
        claimed(plan(tmp_path, {"results": "out"}))
    with pytest.raises(UserError, match="is not empty"):
        RunFolder(tmp_path / "out")


def test_of_two_runs_that_find_a_chosen_folder_empty_one_is_refused(tmp_path, monkeypatch):
    RunFolder(tmp_path)
    monkeypatch.setattr("remind_server.outputs.run_folder.refuse_what_holds_something", lambda folder: None)
    with pytest.raises(UserError, match="already holds a run"):
        RunFolder(tmp_path)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match="results"):
        make_own(tmp_path / "results" / "run")
    with pytest.raises(UserError, match="cannot use"):
        claimed(plan(tmp_path, {"results": "results"}))


def test_a_folder_of_another_machine_is_that_machines(tmp_path):
    made = plan_elsewhere({"results": str(tmp_path)}, {}, Config().flat())
    assert made.elsewhere
