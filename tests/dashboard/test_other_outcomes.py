"""Words and columns of the page follow from what a run's model predicts; every outcome of the registry is tried."""

import csv
import json
import re

import numpy as np
import pytest
from sqlalchemy import update
from sqlalchemy.orm import Session

from remind.config import Scalar
from remind.metrics.scores import EVERY
from remind.metrics.segmentation import MOST_REGIONS
from remind.outcomes.base import outcomes
from remind.outcomes.multilabel import Multilabel
from remind.outcomes.segmentation import Segmentation
from remind_server.outputs.progress import Progress
from remind_server.outputs.protections import judged_by
from remind_server.outputs.tables import final_rows, interval_rows, label_rows, summary
from remind_server.store.imported import import_runs
from remind_server.store.schema import Run
from tests.builders.stored_runs import Drill

SITES = {"Basel": {1: 60, 3: 40}, "Chur": {1: 50, 7: 3}}
WITHOUT_CLASSES = sorted(name for name, one in outcomes().items() if not one.by_class)


def run(engine, folder, outcome):
    drill = Drill(engine, folder, SITES, rounds=2, outcome=outcome, experts=0).start()
    drill.round()
    drill.finish()


def words(page):
    """The text of a page, without what is a name or a setting of the run."""
    return re.sub(r"\s+", " ", re.sub(r'<[^>]*?(?:title="([^"]*)")?[^>]*>', r" \1 ", page.split('id="downloads"')[0]))


@pytest.mark.parametrize("min_count", [1, 10])
@pytest.mark.parametrize("outcome", outcomes())
def test_a_page_speaks_of_what_is_predicted(engine, tmp_path, client_of, outcome, min_count):
    run(engine, tmp_path, outcome)
    page = client_of(min_count).get("/runs/1?show=all")
    assert page.status_code == 200
    text = words(page.text)
    assert f"undefined, such as {outcomes()[outcome].undefined}" in text
    sides = outcomes()[outcome].sides
    if sides is None:
        assert "Ranked : at least 30 patients." in text
    else:
        assert f"and 10 {sides.each}" in text
        assert (sides.one in text) == (min_count > 1 or sides.one in outcomes()[outcome].undefined)
    if not outcomes()[outcome].by_class:
        assert not re.search(r"\bclass(es)?\b", text.split("Log-loss :")[0].split("Explanation of terms")[0])


@pytest.mark.parametrize("outcome", outcomes())
def test_positives_are_a_column_of_two_classes_alone(engine, tmp_path, client_of, outcome):
    run(engine, tmp_path, outcome)
    page = client_of(1).get("/runs/1?show=all").text
    table = re.search(r'<table class="groups".*?</table>', page, re.DOTALL)[0]
    assert (">Pos.</th>" in table) == (outcome == "classes")
    heads = len(re.findall(r'<th scope="col"', table))
    for row in re.findall(r"<tr [^>]*data-group.*?</tr>", table, re.DOTALL):
        assert len(re.findall(r"<t[dh]\b", row)) == heads


def test_outcomes_are_not_compared_with_each_other(engine, tmp_path, client):
    kinds = WITHOUT_CLASSES[:2]
    for number, outcome in enumerate([*kinds, "classes"]):
        run(engine, tmp_path / str(number), outcome)
    for runs in ((1, 2), (1, 3), (1, 2, 3)):
        answer = client.get("/compare?" + "&".join(f"run={number}" for number in runs))
        assert answer.status_code == 422
        assert outcomes()[kinds[0]].title in answer.text


@pytest.mark.parametrize("outcome", outcomes())
def test_an_imported_run_shows_its_scores_or_says_why_not(engine, tmp_path, client_of, outcome):
    drill = Drill(engine, tmp_path / "own", SITES, rounds=2, outcome=outcome, experts=0).start()
    drill.round()
    folder = tmp_path / "copy" / "20260101-000000-tiny"
    folder.mkdir(parents=True)
    rows = final_rows(drill.finish())
    told = {"seed": 0, "versions": {"federated-remind": "0"}, "config": {}, "groups": {}}
    told |= {"schema": drill.schema.model_dump(mode="json"), "sites": {name: {} for name in SITES}}
    written = {"config.json": told, "final.json": rows, "summary.json": {"tail_patients": {}}}
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content, default=float))
    assert import_runs(engine, folder.parent)[0].endswith("imported as run 2")
    whole = next(row for row in rows if row["site"] == row["group"] == "all")
    for min_count in (1, 10):
        client = client_of(min_count)
        overall = client.get("/api/runs/2").json()["overall"]
        known = min_count == 1 or outcome == "classes" or outcomes()[outcome].sides is None
        assert overall["n"] == (whole["n"] if known else None)
        ranked = [row["ranked"] for row in client.get("/api/runs/2/groups").json()["rows"]]
        assert any(ranked) == (outcome == "classes" or outcomes()[outcome].sides is None)
        assert ('id="not-counted"' in client.get("/runs/2").text) == (not known)


@pytest.mark.parametrize("outcome", outcomes())
def test_the_screen_says_which_patients_a_rank_needs(engine, tmp_path, outcome):
    drill = Drill(engine, tmp_path, SITES, rounds=2, outcome=outcome, experts=0).start()
    drill.round()
    lines = list[str]()
    Progress(lines.append).finished(drill.finish())
    sides = outcomes()[outcome].sides
    needs = f"fewer than 30 patients, or not 10 {sides.each}" if sides else "fewer than 30 patients"
    assert any(line.endswith(f"° not ranked: {needs}):") for line in lines)


@pytest.mark.parametrize("outcome", [name for name in outcomes() if name != "segmentation"])  # is not private
def test_a_private_run_of_any_outcome_is_compared_with_guessing(engine, tmp_path, client_of, outcome):
    """The predictions of these statistics are noise; a score by which that shows is named."""
    changes: dict[str, Scalar] = {"privacy.mode": "site", "evaluation.calibration": "none"}
    drill = Drill(engine, tmp_path, SITES, rounds=2, outcome=outcome, experts=0, changes=changes).start()
    drill.round()
    lines = list[str]()
    Progress(lines.append).finished(drill.finish())
    name = judged_by(outcome)
    assert EVERY[name].guessing
    found = client_of(1).get("/api/runs/1").json()["overall"][name]
    said = found["low"] <= EVERY[name].guessing[0] or found["value"] < EVERY[name].guessing[1]
    text = f"{EVERY[name].title} {found['value']:.3f} ["
    for place in ("\n".join(lines), client_of(1).get("/runs/1").text):
        assert (text in place and "hardly more than guessing" in place) == said
    assert said


def test_scores_of_each_label_on_screen_file_and_page(engine, tmp_path, client_of):
    drill = Drill(engine, tmp_path / "own", SITES, rounds=2, outcome="multilabel", experts=0).start()
    drill.round()
    result = drill.finish()
    rows = label_rows(result)
    outcome = drill.schema.predicts
    assert isinstance(outcome, Multilabel)
    assert [row["label"] for row in rows] == list(outcome.labels)
    whole = next(row for row in final_rows(result) if row["site"] == row["group"] == "all")
    assert whole["auroc"] == pytest.approx(np.mean([row["auroc"] for row in rows]))
    assert whole["auprc"] == pytest.approx(np.mean([row["auprc"] for row in rows]))
    assert all(row["auroc_low"] < row["auroc"] < row["auroc_high"] for row in rows)
    lines = list[str]()
    Progress(lines.append).finished(result)
    assert any(line.split()[:2] == [rows[0]["label"], str(rows[0]["n"])] for line in "\n".join(lines).splitlines())
    pages = [client_of(1).get("/runs/1").text]
    folder = tmp_path / "copy" / "20260101-000000-tiny"
    folder.mkdir(parents=True)
    told = {"seed": 0, "versions": {"federated-remind": "0"}, "config": {}, "groups": {}}
    told |= {"schema": drill.schema.model_dump(mode="json"), "sites": {name: {} for name in SITES}}
    written = {"config.json": told, "final.json": final_rows(result), "summary.json": {"tail_patients": {}}}
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content, default=float))
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    assert import_runs(engine, folder.parent)[0].endswith("imported as run 2")
    pages.append(client_of(1).get("/runs/2").text)
    for page in pages:
        table = re.search(r'<section id="labels".*?</section>', page, re.DOTALL)[0]
        for row in rows:
            assert f">{row['label']}</th>" in table
            assert f">{row['auroc']:.3f}" in table
            assert f'<td class="num">{row["positives"]}</td>' in table
    most = max(min(row["positives"], row["n"] - row["positives"]) for row in rows)
    hidden = re.search(r'<section id="labels".*?</section>', client_of(most + 1).get("/runs/1").text, re.DOTALL)[0]
    assert hidden.count("withheld") == len(rows)
    assert not any(f">{row['auroc']:.3f}" in hidden for row in rows)


def test_scores_of_each_region_are_under_its_name_and_there_are_no_others(engine, tmp_path, client_of):
    """Screen, page, CSV, API, Prometheus, of a run and of the same run imported: as many regions as cohort.toml has."""
    few = {"Basel": {1: 12, 3: 6}, "Chur": {1: 6}}  # the HD95 of a patient takes long
    drill = Drill(engine, tmp_path / "own", few, rounds=2, outcome="segmentation", experts=0).start()
    drill.round()
    result = drill.finish()
    outcome = drill.schema.predicts
    assert isinstance(outcome, Segmentation)
    names, numbers = [name for name, _ in outcome.regions], range(1, len(outcome.regions) + 1)
    assert len(names) < MOST_REGIONS
    rows = final_rows(result)
    own = {f"{score}_{number}" for score in ("dice", "hd95") for number in numbers}
    for row in (rows[0], summary(result)["overall"], interval_rows(result)[0]["intervals"]):
        assert {key for key in row if re.fullmatch(r"(dice|hd95)_\d+", key)} == own
    lines = list[str]()
    Progress(lines.append).finished(result)
    heads = [line for line in "\n".join(lines).splitlines() if "HD95" in line]
    assert heads
    for line in heads:
        assert all(f"Dice {name}" in line and f"HD95 {name}" in line for name in names)
        assert not re.search(r"(Dice|HD95) \d", line)
    folder = tmp_path / "copy" / "20260101-000000-tiny"
    folder.mkdir(parents=True)
    told = {"seed": 0, "versions": {"federated-remind": "0"}, "config": {}, "groups": {}}
    told |= {"schema": drill.schema.model_dump(mode="json"), "sites": {name: {} for name in few}}
    written = {"config.json": told, "final.json": rows, "summary.json": {"tail_patients": {}}}
    for name, content in written.items():
        (folder / name).write_text(json.dumps(content, default=float))
    assert import_runs(engine, folder.parent)[0].endswith("imported as run 2")
    client = client_of(1)
    for run_id in (1, 2):
        text = words(client.get(f"/runs/{run_id}").text)
        for name in names:
            assert all(word in text for word in (f"Dice of region {name}", f"Dice {name}", f"HD95 {name}")), name
            assert f"of region {name}: share of voxels" in text
        assert not re.search(r"(Dice|HD95)( of region)? [1-4](?![.\d])", text)
        report = client.get(f"/api/runs/{run_id}").json()
        assert report["parts"] == names
        assert report["overall"]["dice_1"]["value"] == pytest.approx(rows[0]["dice_1"])
        for file in ("groups", "matrix", "curves"):
            head = next(csv.reader([client.get(f"/runs/{run_id}/{file}.csv").text.splitlines()[0]]))
            assert own <= set(head)
            assert not {f"{score}_{MOST_REGIONS}" for score in ("dice", "hd95")} & set(head)
    series = client.get("/metrics").text
    for number, name in zip(numbers, names, strict=True):
        assert f'remind_run_part{{name="{name}",part="{number}",run="' in series
        assert f'score="dice_{number}"' in series
    assert f'score="dice_{MOST_REGIONS}"' not in series
    assert client.get("/runs/1?score=dice_4").status_code == 200
    assert "Dice of region whole overall" in words(client.get("/runs/1?score=dice_1").text)
    assert "Dice overall" in words(client.get("/runs/1?score=dice_4").text)  # the chief one instead
    assert "Dice of region whole" in words(client.get("/compare?run=1&run=2").text)
    with Session(engine) as session:  # a run with other regions: compared by their numbers
        session.execute(update(Run).where(Run.id == 2).values(target={"parts": ["organ"]}))
        session.commit()
    text = words(client.get("/compare?run=1&run=2").text)
    assert "Dice of region 3" in text
    assert "region whole" not in text
    assert "region 4" not in text


def test_scores_in_the_unit_of_a_number_are_shown_with_it(engine, tmp_path, client_of):
    run(engine, tmp_path, "regression")
    client = client_of(1)
    text = words(client.get("/runs/1").text)
    assert text.count("Mean absolute error (points)") > 2  # with the numbers, in the heads and in the words
    assert "MAE (points)" in text
    assert "R² (points)" not in text
    assert client.get("/api/runs/1").json()["unit"] == "points"
    run(engine, tmp_path / "other", "ordinal")
    assert "(points)" not in client.get("/runs/2").text
