"""Imported run folders: the page shows what their files contain."""

import json
import shutil

import pytest
from fastapi.testclient import TestClient

from remind.errors import UserError
from remind.web.access import Access
from remind_server.dashboard.app import dashboard_app
from remind_server.store.imported import UNFINISHED, import_runs
from remind_server.store.open import open_store, store_url
from tests.builders.dashboard_runs import finished_run
from tests.dashboard.conftest import TOKEN


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run's folder, written beside its store."""
    return finished_run(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def copies(folder, tmp_path_factory):
    """Run folders without their store: whole, stopped in its last round, and one that is no run of ours."""
    place = tmp_path_factory.mktemp("copies")
    shutil.copytree(folder, place / "whole")
    shutil.copytree(folder, place / "stopped")
    for name in ("summary.json", "final.json", "final.csv", "intervals.json"):
        (place / "stopped" / name).unlink()
    with (place / "stopped" / "rounds.jsonl").open("a") as file:
        file.write('{"round": 5, "sta')
    (place / "odd").mkdir()
    (place / "odd" / "config.json").write_text('{"name": "of another program"}')
    return place


@pytest.fixture(scope="module")
def imported(copies):
    engine = open_store(store_url(copies))
    said = import_runs(engine, copies)
    again = import_runs(engine, copies)
    yield engine, said, again
    engine.dispose()


def client(engine, min_count=1):
    headers = {"authorization": f"Bearer {TOKEN}"}
    return TestClient(dashboard_app(engine, Access(token=TOKEN), min_count), headers=headers)


def test_each_folder_is_named_with_what_became_of_it(imported):
    _, said, again = imported
    assert said[0].startswith("odd: not imported: its config.json names no hospitals; give the results folder of a run")
    assert said[1:] == ["stopped: imported as run 1", "whole: imported as run 2"]
    assert again[1:] == [f"{name}: is in the run store already" for name in ("stopped", "whole")]


def test_the_imported_run_is_the_stored_one(imported, folder):
    """Scores, intervals, λ, rounds, settings and the model: as the store of the run itself has them."""
    own = open_store(store_url(folder.parent))
    here, there = client(imported[0]), client(own)
    for path in ("groups?on=test", "curves?groups=1,2,3", "model", "matrix", "experts?on=test"):
        a, b = here.get(f"/api/runs/2/{path}").json(), there.get(f"/api/runs/1/{path}").json()
        if "rows" in a:
            number = {row["name"]: row.get("number") for row in a["rows"]}
            for rows in (a["rows"], b["rows"]):
                for row in rows:
                    row.pop("number", None)
                rows.sort(key=lambda row: row["name"])
            assert len(number) == len(b["rows"])
            for x, y in zip(a["rows"], b["rows"], strict=True):
                for one in (x, y):
                    one.get("scores", {}).pop("gate_open", None)  # of test patients it is in no file
                    one.get("scores", {}).pop("sites_withholding", None)
                assert x == y
        elif "curves" in a:
            assert (a["round"], a["seconds"], a["bytes_up"]) == (b["round"], b["seconds"], b["bytes_up"])
            ours = {curve["name"]: curve for curve in a["curves"][1:]}
            for curve in b["curves"][1:]:
                assert curve["name"] not in ours or ours[curve["name"]]["auroc"] == curve["auroc"]
        elif "sites" in a:
            assert sorted(a["sites"]) == sorted(b["sites"])
        else:
            assert a["scores"] == b["scores"]
    x, y = here.get("/api/runs/2").json(), there.get("/api/runs/1").json()
    assert (x["run"]["status"], x["run"]["cohort"], x["classes"]) == ("finished", y["run"]["cohort"], y["classes"])
    assert x["overall"]["auroc"] == y["overall"]["auroc"]
    assert x["settings"]["train.lr"] == y["settings"]["train.lr"]
    own.dispose()


def test_pages_of_imported_runs(imported):
    engine = imported[0]
    for min_count in (1, 10):
        page = client(engine, min_count)
        for path in ("/", "/runs/1", "/runs/2", "/runs/2?show=all", "/compare?run=1&run=2", "/runs/2/groups.csv"):
            assert page.get(path).status_code == 200, path
        for path in ("verdict", "groups", "matrix", "curves"):
            assert page.get(f"/api/runs/2/{path}").status_code == 200, path
        assert page.get("/metrics").status_code == 200
    found = client(engine).get("/api/runs/1").json()["run"]
    assert (found["status"], found["reason"]) == ("failed", UNFINISHED)


def test_a_folder_without_runs_is_a_mistake(imported, tmp_path):
    with pytest.raises(UserError, match="no run folder"):
        import_runs(imported[0], tmp_path)


def test_numbers_are_those_of_the_files(imported, copies):
    rows = {(r["site"], r["group"]): r for r in json.loads((copies / "whole" / "final.json").read_text())}
    shown = client(imported[0]).get("/api/runs/2/groups?on=test").json()["rows"]
    assert {row["name"]: row["scores"]["n"] for row in shown} == {
        group: row["n"] for (site, group), row in rows.items() if site == "all" and group != "all"
    }
