"""The timeline of a run, the explanation of terms, and all data as one file."""

import io
import json
import re
import zipfile

import pytest

from tests.builders.stored_runs import Drill

SITES = {"Basel": {1: 40, 3: 30}, "Chur": {1: 35}, "Davos": {3: 20}}


@pytest.fixture
def drill(engine, tmp_path):
    refused = {"Elm": "another <b>schema</b>"}
    drill = Drill(engine, tmp_path / "results" / "run", SITES, rounds=6, refused=refused).start()
    late = {"Davos": "never connected"}
    away = {"Chur": "no answer within 600 s"}
    for absent in (late, late, away, away, {}, {}):
        drill.round(absent)
    return drill


def test_who_joined_was_missing_and_came_back(drill, client):
    events = client.get("/api/runs/1/timeline").json()["events"]
    assert [(e["round"], e["kind"], e["site"]) for e in events] == [
        (0, "refused", "Elm"),
        (1, "joined", "Basel"),
        (1, "joined", "Chur"),
        (1, "missing", "Davos"),
        (3, "joined", "Davos"),
        (3, "missing", "Chur"),
        (4, "stage", None),
        (5, "back", "Chur"),
    ]
    alerts = {(e["site"], e["text"]) for e in events if e["alert"]}
    assert alerts == {
        ("Elm", "another <b>schema</b>"),
        ("Davos", "did not count: never connected"),
        ("Chur", "did not count: no answer within 600 s"),
    }
    page = client.get("/runs/1").text
    assert 'class="timeline"' in page
    assert 'id="alerts"' in page
    assert "<b>schema" not in page


def test_the_best_round_is_marked(drill, client, engine):
    from sqlalchemy import update

    from remind_server.store.schema import Run

    drill.finish()
    model = {"round": 4, "last_round": 6, "selected": {"score": "auroc", "by": "overall", "value": 0.81}}
    model |= {"calibration": None, "scores": [], "reliability": [], "decisions": []}
    with engine.begin() as connection:
        connection.execute(update(Run).values(model=model))
    events = client.get("/api/runs/1/timeline").json()["events"]
    assert [(e["round"], e["text"]) for e in events if e["kind"] == "best"] == [
        (4, "the run's model is that after this round (auroc, overall: 0.810 on validation patients)")
    ]
    assert events[-1]["kind"] == "ended"
    assert "★" in client.get("/runs/1").text


def test_words_are_explained_where_they_stand(drill, client):
    page = client.get("/runs/1").text
    words = dict(re.findall(r'<dt id="word-(\w+)">(.*?)</dt><dd>', page))
    assert {"tail", "ranked", "lambda", "risk", "gate", "undefined", "withheld", "zero"} <= words.keys()
    assert (words["lambda"], words["undefined"]) == ("λ", "–")
    for target in re.findall(r'href="#(words?[\w-]*)"', page):
        assert f'id="{target}"' in page


@pytest.mark.parametrize("min_count", [1, 30])
def test_everything_is_what_the_single_files_are(drill, client_of, min_count):
    drill.finish()
    client = client_of(min_count=min_count)
    archive = zipfile.ZipFile(io.BytesIO(client.get("/runs/1/everything.zip").content))
    inside = {name.removeprefix("run1/"): archive.read(name).decode() for name in archive.namelist()}
    paths = client.get("/api/openapi.json").json()["paths"]
    files = [path.rsplit("/", 1)[1] for path in paths if path.startswith("/runs/{run_id}/") and path.endswith(".csv")]
    assert len(files) > 7
    for file in files:
        kinds = [f"{file[:-4]}-{kind}.csv" for kind in ("test", "validation")]
        assert file in inside or set(kinds) <= inside.keys(), file
    for kind in ("test", "validation"):
        for view in ("groups", "matrix"):
            assert inside[f"{view}-{kind}.csv"] == client.get(f"/runs/1/{view}.csv", params={"on": kind}).text
    assert inside["curves.csv"] == client.get("/runs/1/curves.csv").text
    assert json.loads(inside["run.json"])["overall"] == client.get("/api/runs/1").json()["overall"]
    assert client.get("/runs/9/everything.zip").status_code == 404


def test_a_hospital_that_was_not_measured_is_not_said_to_have_nobody(engine, tmp_path, client):
    """Zero patients is a number; a hospital that was away in the last round has none."""
    drill = Drill(engine, tmp_path / "run", SITES, rounds=2).start()
    drill.round()
    drill.round({"Davos": "no answer within 600 s"})
    rows = {row["name"]: row["scores"] for row in client.get("/api/runs/1/hospitals").json()["rows"]}
    assert (rows["Davos"]["n"], rows["Davos"]["suppressed"]) == (None, False)
    assert rows["Basel"]["n"] == 70
    matrix = client.get("/api/runs/1/matrix").json()
    davos, chur = (matrix["sites"].index(name) for name in ("Davos", "Chur"))
    assert {line[davos] for line in matrix["n"]} == {None}
    assert 0 in {line[chur] for line in matrix["n"]}, "it was measured, and has nobody of that group"
    assert not [place for place in matrix["suppressed"] + matrix["withheld"] if place[1] == davos]
    page = client.get("/runs/1?show=all").text
    assert page.count(">absent</span>") == 1
    assert page.count("not measured: the hospital did not count") == len(matrix["groups"])
    drill.finish()
    rows = {row["name"]: row["scores"] for row in client.get("/api/runs/1/hospitals").json()["rows"]}
    assert rows["Davos"]["n"], "test patients of the final model"
