"""Small counts are hidden in every table, and so are numbers from which they would follow."""

import csv
import io
import re

import pytest

from tests.builders.stored_runs import Drill

PATIENTS = {"Basel": {1: 40, 3: 30, 5: 33}, "Chur": {1: 35, 3: 4, 5: 31}, "Davos": {1: 50, 5: 3}}


@pytest.fixture
def drill(engine, tmp_path):
    training = {name: {k: 10 * n for k, n in found.items()} for name, found in PATIENTS.items()}
    training["Davos"][7] = 4
    drill = Drill(engine, tmp_path / "results" / "run", training, patients=PATIENTS).start()
    drill.round()
    drill.round()
    return drill


def test_every_answer_suppresses(drill, client_of):
    client = client_of(min_count=6)
    groups = {row["name"]: row for row in client.get("/api/runs/1/groups").json()["rows"]}
    assert groups["fundus+oct+table"]["train_suppressed"]
    assert groups["fundus+oct+table"]["train_n"] is None
    assert groups["fundus+oct+table"]["risk"] is None
    matrix = client.get("/api/runs/1/matrix").json()
    place = matrix["groups"].index("fundus+oct"), matrix["sites"].index("Chur")
    assert list(place) in matrix["suppressed"]
    assert matrix["n"][place[0]][place[1]] is None
    assert matrix["value"][place[0]][place[1]] is None
    everything = list(csv.DictReader(io.StringIO(client.get("/runs/1/matrix.csv").text)))
    [cell] = [row for row in everything if (row["site"], row["group"]) == ("Chur", "fundus+oct")]
    assert cell["n"] == "withheld"
    assert not any(value for name, value in cell.items() if name not in ("site", "group", "n", "sites_withholding"))
    assert all(row["n"] == "withheld" or int(row["n"]) >= 6 for row in everything)
    page = client.get("/runs/1", headers={"accept": "text/html"}).text
    assert 'title="withheld: too few patients, or none"' in page


def test_the_expert_map_suppresses(drill, client_of):
    drill.finish()
    whole = {row["name"]: row for row in client_of().get("/api/runs/1/experts").json()["rows"]}
    client = client_of(min_count=60)  # of 2 · 34 and 2 · 67 test patients, about half are of each class
    rows = {row["name"]: row for row in client.get("/api/runs/1/experts").json()["rows"]}
    hidden = {name for name, row in rows.items() if row["withheld"]}
    assert {"fundus+oct"} < hidden, "more than one, so that it is not everybody less the others"
    assert "all groups" not in hidden
    for name, row in rows.items():
        assert (row["use"], row["in_effect"]) == (None, None) if name in hidden else row == whole[name]
    text = client.get("/runs/1/experts.csv").text
    gone = [row for row in csv.DictReader(io.StringIO(text)) if row["group"] in hidden]
    assert len(gone) == len(hidden)
    assert {v for row in gone for k, v in row.items() if k not in ("group", "tail", "n")} <= {"", "withheld"}
    html = client.get("/runs/1", headers={"accept": "text/html"}).text.partition('<table class="experts">')[2]
    table = html.partition("</table>")[0]
    assert table.count('class="strip"') == sum(row["use"] is not None for row in rows.values()) == 2
    metrics = client.get("/metrics").text
    assert 'remind_group_experts_in_effect{group="all"' in metrics
    assert 'remind_group_experts_in_effect{group="fundus+oct"' not in metrics


def test_metrics_and_curves_suppress(engine, tmp_path, client_of):
    few = {"Basel": {1: 40, 3: 30, 5: 4}, "Chur": {1: 35, 3: 8}}
    drill = Drill(engine, tmp_path / "results" / "run", few).start()
    drill.round()
    client = client_of(min_count=6)
    numbers = {row["name"]: row for row in client.get("/api/runs/1/groups").json()["rows"]}
    tiny = numbers["fundus+table"]
    assert {name: found for name, found in tiny["scores"].items() if found is not None} == {
        "suppressed": True,
        "withheld": True,
        "sites_withholding": 0,
    }
    curves = client.get("/api/runs/1/curves", params={"groups": tiny["number"]}).json()["curves"]
    [curve] = [c for c in curves if c["number"] == tiny["number"]]
    assert curve["suppressed"] == [0]
    assert [curve[name] for name in ("n", "loss", "auroc", "accuracy", "gate_open", "risk")] == [[None]] * 6
    lines = [line for line in client.get("/metrics").text.splitlines() if 'group="fundus+table"' in line]
    assert any(line.startswith("remind_group_suppressed") and line.endswith(" 1.0") for line in lines)
    assert not any(
        line.startswith(("remind_group_score", "remind_group_patients", "remind_group_loss")) for line in lines
    )
    text = client.get("/runs/1/curves.csv").text
    assert [row["n"] for row in csv.DictReader(io.StringIO(text)) if row["group"] == "fundus+table"] == ["withheld"]
    pairs = client.get("/api/compare", params={"first": 1, "second": 1}).json()["groups"]
    [pair] = [p for p in pairs if p["name"] == "fundus+table"]
    assert pair["first"]["suppressed"]
    assert pair["difference"] is None


def test_scores_of_few_positives_are_not_shown(engine, tmp_path, client_of):
    """From accuracy, balanced accuracy and macro-F1 the positives follow: none of them is shown, nor anything else."""
    Drill(engine, tmp_path / "results" / "run", {"Basel": {1: 30, 3: 400, 5: 300}}, share=0.1).start().round()
    shown = client_of(min_count=10).get("/api/runs/1/groups").json()["rows"]
    [few] = [row["scores"] for row in shown if row["name"] == "fundus"]
    assert {name: value for name, value in few.items() if value not in (None, False)} == {"n": 30, "withheld": True}
    assert [row["scores"]["withheld"] for row in shown].count(True) == 2, "one group alone would follow from the rest"
    html = client_of(min_count=10).get("/runs/1?show=all", headers={"accept": "text/html"}).text
    [line] = [row for row in html.split("<tr ")[1:] if 'aria-label="Chart fundus"' in row]
    words = re.findall(r"<td[^>]*>([^<]*)", line)
    assert words[:3] == ["", "30", "30"]
    assert set(words[3:9]) == {"·"}
