"""A real simulated run: API, CSV, metrics and page have the numbers of its result files."""

import csv
import io
import json
import re

import pytest
from fastapi.testclient import TestClient

from remind.web.access import Access
from remind_server.dashboard.app import dashboard_app
from remind_server.store.open import open_store, store_url
from tests.builders.dashboard_runs import SCORES, SETTINGS, finished_run
from tests.dashboard.conftest import TOKEN
from tests.dashboard.html import group_name


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run's folder, written beside its store."""
    return finished_run(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def client(folder):
    engine = open_store(store_url(folder.parent))
    with TestClient(dashboard_app(engine, Access(token=TOKEN)), headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client
    engine.dispose()


@pytest.fixture(scope="module")
def final(folder):
    return {(row["site"], row["group"]): row for row in json.loads((folder / "final.json").read_text())}


def value(estimate):
    return None if estimate is None else estimate["value"]


def same(scores, row):
    """Whether an answer's scores are those of a line of the result files."""
    assert scores["n"] == row["n"]
    assert scores["positives"] == row["positives"]
    assert [value(scores[name]) for name in SCORES] == [row[name] for name in SCORES]
    assert (scores["loss"], scores["auroc_bound"]) == (row["loss"], row["auroc_bound"])
    for name in SCORES:
        if scores[name]:
            assert scores[name]["low"] <= scores[name]["value"] <= scores[name]["high"]


def test_the_table_of_groups(client, final):
    table = client.get("/api/runs/1/groups").json()
    assert table["patients"] == "test"
    assert {row["name"] for row in table["rows"]} == {group for site, group in final if site == "all"} - {"all"}
    for row in table["rows"]:
        line = final["all", row["name"]]
        same(row["scores"], line)
        assert (row["weight"], row["tail"]) == (line["lambda"], line["tail"])
    losses = [row["scores"]["log_loss"] for row in table["rows"] if row["scores"]["n"] >= 30]
    assert losses == sorted(losses, reverse=True)
    same(client.get("/api/runs/1").json()["overall"], final["all", "all"])


def test_the_matrix(client, final):
    shown = 0
    for score in SCORES:
        matrix = client.get("/api/runs/1/matrix", params={"score": score}).json()
        for g, group in enumerate(matrix["groups"]):
            for s, site in enumerate(matrix["sites"]):
                row = final.get((site, group), {"n": 0, score: None})
                assert matrix["n"][g][s] == row["n"]
                assert matrix["value"][g][s] == (None if row[score] is None else pytest.approx(row[score], rel=1e-5))
                shown += row["n"] > 0
    assert shown


def test_the_csv_files(client, final, folder):
    lines = list(csv.DictReader(io.StringIO(client.get("/runs/1/matrix.csv").text)))
    with_patients = {key for key, row in final.items() if row["n"]}
    assert {(line["site"], line["group"]) for line in lines} == with_patients
    for line in lines:
        row = final[line["site"], line["group"]]
        assert int(line["n"]) == row["n"]
        for name in (*SCORES, "log_loss", "loss"):
            assert (float(line[name]) if line[name] else None) == row[name]
    rounds = list(csv.DictReader(io.StringIO(client.get("/runs/1/rounds.csv").text)))
    written = [json.loads(line) for line in (folder / "rounds.jsonl").read_text().splitlines()]
    for key in ("round", "stage", "seconds", "bytes_down", "bytes_up"):
        assert [float(row[key]) for row in rounds] == [row[key] for row in written]


def test_the_curves(client, folder):
    written = [json.loads(line) for line in (folder / "groups.jsonl").read_text().splitlines()]
    numbers = {row["name"]: row["number"] for row in client.get("/api/runs/1/groups").json()["rows"]}
    asked = ",".join(map(str, numbers.values()))
    found = {c["name"]: c for c in client.get("/api/runs/1/curves", params={"groups": asked}).json()["curves"]}
    text = client.get("/runs/1/curves.csv").text
    lines = {(int(row["round"]), row["group"]): row for row in csv.DictReader(io.StringIO(text))}
    for row in written:
        curve, i = found[row["group"]], row["round"] - 1
        expected = {
            "weight": row["lambda"],
            "risk": row["risk"],
            "gate_open": row["gate_open"],
            "n": row["validation"]["n"],
        }
        expected |= {name: row["validation"][name] for name in (*SCORES, "log_loss", "loss")}
        for name, number in expected.items():
            assert curve[name][i] == (None if number is None else pytest.approx(number, rel=1e-5)), name
        line = lines[row["round"], row["group"]]
        assert float(line["lambda"]) == pytest.approx(row["lambda"], rel=1e-5)
        assert int(line["n"]) == row["validation"]["n"]


def test_the_expert_map(client, folder):
    """Run folder, API, CSV and page agree."""
    final = {row["group"]: row for row in csv.DictReader((folder / "experts.csv").open(newline=""))}
    columns = [f"expert_{e}" for e in range(1, int(SETTINGS["model.experts"]) + 1)]
    found = client.get("/api/runs/1/experts").json()
    assert (found["patients"], found["experts"]) == ("test", len(columns))
    named = {("all" if not i else row["name"]): row for i, row in enumerate(found["rows"])}
    text = client.get("/runs/1/experts.csv").text
    lines = {row["group"]: row for row in csv.DictReader(io.StringIO(text))}
    page = client.get("/runs/1", params={"show": "all"}).text
    html = re.search(r'<table class="experts">(.*?)</table>', page, re.DOTALL)[1]
    words = {
        group_name(name).replace("groups", ""): most
        for name, most in re.findall(r'<th scope="row"[^>]*>(.*?)</th>.*?<td class="most">(.*?)</td>', html, re.DOTALL)
    }
    assert set(final) == {name for name, row in named.items() if row["use"]}
    for name, row in final.items():
        weights = [float(row[column]) for column in columns]
        assert sum(weights) == pytest.approx(1, abs=1e-3)
        shown = named[name]
        assert (shown["n"], shown["use"]) == (int(row["n"]), weights)
        line = lines["all groups" if name == "all" else name]
        assert [float(line[column]) for column in columns] == weights
        most, said = max(range(len(weights)), key=lambda e: (weights[e], -e)), words[name]
        assert said.startswith(f"{most + 1} ({100 * weights[most]:.1f} %)")
        assert f'aria-label="weights of {len(columns)} experts; most used: {said}"' in html
    rounds = [json.loads(line) for line in (folder / "groups.jsonl").read_text().splitlines()]
    assert all(len(row["experts"]) == len(columns) for row in rounds if row["validation"]["n"])
    assert all(row["experts"] is None for row in rounds if not row["validation"]["n"])


def test_the_metrics(client, final):
    text = client.get("/metrics").text
    for (site, group), row in final.items():
        if site != "all" or row["auroc"] is None:
            continue
        pattern = rf'^remind_group_score{{group="{re.escape(group)}",patients="test",run="1",score="auroc",.*}} (.*)$'
        [number] = re.findall(pattern, text, re.MULTILINE)
        assert float(number) == row["auroc"]
    assert re.search(r'^remind_run_status{.*status="finished"} 1.0$', text, re.MULTILINE)


def test_the_page(client, final):
    page = client.get("/runs/1", params={"show": "all"}).text
    rows = re.findall(r'<tr [^>]*data-group="\d+">(.*?)</tr>', page, re.DOTALL)
    assert len(rows) == sum(site == "all" for site, _ in final) - 1
    for html in rows:
        name = group_name(re.search(r"<th[^>]*>(.*?)</th>", html, re.DOTALL)[1])
        cells = [
            re.sub(r"<small.*?</small>", "", c).strip() for c in re.findall(r"<td class=\"num[^>]*>(.*?)</td>", html)
        ]
        row = final["all", name]
        texts = ["–" if row[s] is None else f"{row[s]:.3f}" for s in SCORES]
        assert cells[1] == str(row["n"])
        assert cells[3:7] == texts
