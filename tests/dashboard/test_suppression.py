"""What is too small is hidden, and so is what would give it away, in every table."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from remind_server.dashboard.suppression import hide
from remind_server.store.schema import ALL
from tests.dashboard.sample import Drill

COUNTS = hnp.arrays(np.int64, st.tuples(st.integers(1, 5), st.integers(1, 5)), elements=st.integers(0, 15))


def with_margins(n_SG):
    cells = {(s + 1, g + 1): int(n) for (s, g), n in np.ndenumerate(n_SG) if n}
    cells |= {(s + 1, ALL): int(n) for s, n in enumerate(n_SG.sum(axis=1)) if n}
    cells |= {(ALL, g + 1): int(n) for g, n in enumerate(n_SG.sum(axis=0)) if n}
    return cells | ({(ALL, ALL): int(n_SG.sum())} if n_SG.any() else {})


@given(COUNTS, st.integers(2, 8))
def test_small_cells_are_hidden_and_cannot_be_subtracted(n_SG, least):
    cells = with_margins(n_SG)
    hidden = hide(cells, least).cells
    assert {cell for cell, n in cells.items() if n < least} <= hidden
    for axis in (0, 1):
        for line in {cell[axis] for cell in cells}:
            in_line = [cell for cell in cells if cell[axis] == line]
            gone = [cell for cell in in_line if cell in hidden]
            # one number missing among several that add up would be known
            assert len(gone) != 1 or len(in_line) == 1, (line, gone)


@given(COUNTS)
def test_without_a_least_count_nothing_is_hidden(n_SG):
    assert not hide(with_margins(n_SG), 0).cells
    assert not hide(with_margins(n_SG), 1).cells


def test_large_cells_stay():
    assert not hide(with_margins(np.array([[20, 30], [40, 50]])), 5).cells


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
    assert cell["n"] == "suppressed"
    assert not any(value for name, value in cell.items() if name not in ("site", "group", "n"))
    assert all(row["n"] == "suppressed" or int(row["n"]) >= 6 for row in everything)
    page = client.get("/runs/1", headers={"accept": "text/html"}).text
    assert 'title="suppressed"' in page


def test_the_expert_map_suppresses(drill, client_of):
    drill.finish()
    whole = {row["name"]: row for row in client_of().get("/api/runs/1/experts").json()["rows"]}
    client = client_of(min_count=150)  # of 2 · 125, 2 · 34 and 2 · 67 test patients
    rows = {row["name"]: row for row in client.get("/api/runs/1/experts").json()["rows"]}
    hidden = {name for name, row in rows.items() if row["suppressed"]}
    assert hidden == {"fundus+oct", "fundus+table"}, "two, so that neither is everybody less the others"
    for name, row in rows.items():
        assert (row["use"], row["in_effect"], row["n"]) == (None, None, None) if name in hidden else row == whole[name]
    text = client.get("/runs/1/experts.csv").text
    assert {row["group"] for row in csv.DictReader(io.StringIO(text)) if row["n"] == "suppressed"} == hidden
    gone = [row for row in csv.DictReader(io.StringIO(text)) if row["n"] == "suppressed"]
    assert not any(value for row in gone for name, value in row.items() if name not in ("group", "tail", "n"))
    html = client.get("/runs/1", headers={"accept": "text/html"}).text.partition('<table class="experts">')[2]
    table = html.partition("</table>")[0]
    assert table.count(">suppressed<") == 2
    assert table.count('class="strip"') == 2
    metrics = client.get("/metrics").text
    assert 'remind_group_experts_in_effect{group="fundus"' in metrics
    assert 'remind_group_experts_in_effect{group="fundus+oct"' not in metrics


def test_metrics_and_curves_suppress(engine, tmp_path, client_of):
    few = {"Basel": {1: 40, 3: 30, 5: 4}, "Chur": {1: 35, 3: 8}}
    drill = Drill(engine, tmp_path / "results" / "run", few).start()
    drill.round()
    client = client_of(min_count=6)
    numbers = {row["name"]: row for row in client.get("/api/runs/1/groups").json()["rows"]}
    tiny = numbers["fundus+table"]
    assert {name: found for name, found in tiny["scores"].items() if found is not None} == {"suppressed": True}
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
    assert [row["n"] for row in csv.DictReader(io.StringIO(text)) if row["group"] == "fundus+table"] == ["suppressed"]
    pairs = client.get("/api/compare", params={"first": 1, "second": 1}).json()["groups"]
    [pair] = [p for p in pairs if p["name"] == "fundus+table"]
    assert pair["first"]["suppressed"]
    assert pair["difference"] is None


def test_few_positives_are_not_shown(engine, tmp_path, client_of):
    Drill(engine, tmp_path / "results" / "run", {"Basel": {1: 12, 3: 100}}).start().round()
    shown = client_of(min_count=10).get("/api/runs/1/groups").json()["rows"]
    assert {row["name"]: row["scores"]["positives"] is None for row in shown} == {"fundus": True, "fundus+oct": False}
