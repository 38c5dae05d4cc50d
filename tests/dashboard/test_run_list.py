"""The list of runs: content, search, sort, filter, pages, tags, notes, archive, and damaged rows."""

import re
import time

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from remind_server.store.open import writing
from remind_server.store.schema import Run
from tests.builders.stored_runs import Drill
from tests.machine import until

SITES = {"Basel": {1: 40, 3: 30}, "Chur": {1: 35}}


def finished(engine, folder, absent=None, **options):
    drill = Drill(engine, folder, SITES, rounds=2, **options).start()
    drill.round()
    drill.round(absent)
    drill.finish()
    return drill.observer.run_id


def many(engine, number):
    """Rows alone, as many as there are runs after a year."""
    now = time.time()
    with Session(writing(engine)) as session, session.begin():
        for i in range(number):
            session.add(
                Run(
                    name=f"run-{i:03}", folder="x", cohort=f"cohort-{i % 3}", seed=i % 7, version="0", reason="",
                    config={"seed": i, "method.fusion": "remind"}, classes=["no", "yes"], modalities=["a"],
                    status="failed" if i % 5 == 0 else "finished", began=now - 1000 + i, heard=now, ended=now + 10 * i,
                    change=1, rounds=2, round=2, stage=2,
                )
            )  # fmt: skip


def names(client, **params):
    page = client.get("/", params=params, headers={"accept": "text/html"}).text
    return re.findall(r'id="run-\d+">([^<]*)</a>', page)


def test_what_a_line_tells(engine, tmp_path, client):
    run_id = finished(engine, tmp_path / "whole", changes={"method.objective": "erm"})
    finished(engine, tmp_path / "lacking", absent={"Chur": "no answer within 600 s"})
    page = client.get("/").text
    line = re.search(rf'<tr>\s*<td><input[^>]*value="{run_id}".*?</tr>', page, re.DOTALL)[0]
    overall = client.get(f"/api/runs/{run_id}").json()["overall"]["auroc"]
    assert f"{overall['value']:.3f}" in line
    assert f"{overall['low']:.2f}–{overall['high']:.2f}" in line
    assert "remind, erm, fedremind" in line
    assert "missing" not in line
    assert page.count('class="badge missing" title="Chur">1 missing') == 1


def test_every_run_has_its_page(engine, client):
    many(engine, 259)
    found = []
    for page in range(1, 7):
        found += names(client, page=page)
    assert found == [f"run-{i:03}" for i in reversed(range(259))]
    assert names(client, page=99) == found[250:]
    answer = client.get("/api/runs", params={"limit": 1000})
    assert (len(answer.json()), answer.headers["x-total-count"]) == (259, "259")
    assert [run["name"] for run in client.get("/api/runs?limit=2&offset=258").json()] == ["run-000"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"q": "RUN-00"}, [f"run-{i:03}" for i in reversed(range(10))]),
        ({"q": "cohort-1 run-00"}, ["run-007", "run-004", "run-001"]),
        ({"q": "100%"}, []),
        ({"status": "failed", "q": "run-00"}, ["run-005", "run-000"]),
        ({"cohort": "cohort-2", "q": "run-00", "sort": "name", "down": "0"}, ["run-002", "run-005", "run-008"]),
        ({"q": "run-00", "sort": "seconds", "down": "0"}, [f"run-{i:03}" for i in range(10)]),
        ({"q": "run-00", "sort": "seed", "down": "1"}, [f"run-00{i}" for i in (6, 5, 4, 3, 9, 2, 8, 1, 7, 0)]),
    ],
)
def test_search_filter_and_sort(engine, client, params, expected):
    many(engine, 20)
    assert names(client, **params) == expected


def test_the_best_score_first(engine, tmp_path, client):
    for seed in range(3):
        finished(engine, tmp_path / str(seed), seed=seed)
    many(engine, 1)  # without any score
    scores = {
        run["name"]: client.get(f"/api/runs/{run['id']}").json()["overall"] for run in client.get("/api/runs").json()
    }
    scored = {name: found["auroc"]["value"] for name, found in scores.items() if found["n"]}
    best = sorted(scored, key=lambda name: -scored[name])
    assert names(client, sort="score") == [*best, "run-000"]
    assert names(client, sort="score", down="0") == [*best[::-1], "run-000"]


def test_tags_notes_and_archive(engine, client):
    many(engine, 3)
    said = {"run": "2", "tags": "paper, best  paper", "notes": "<b>look</b> at va\r\nagain"}
    answer = client.post("/annotate", data=said, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs/2#annotations")
    page = client.get("/").text
    assert "&lt;b&gt;look&lt;/b&gt; at va" in page
    assert names(client, tag="best") == ["run-001"]
    assert names(client, q="look va") == ["run-001"]
    form = client.get("/runs/2").text
    assert 'value="paper best"' in form
    client.post("/annotate", data=said | {"archived": "on"})
    assert names(client) == ["run-002", "run-000"]
    assert names(client, archived="1") == ["run-001"]
    client.post("/annotate", data=said)
    assert len(names(client)) == 3
    assert client.post("/annotate", data=said | {"tags": "x" * 201}).status_code == 422
    assert client.post("/annotate", data=said | {"run": "77"}).status_code == 404
    assert client.post("/annotate", data=said, headers={"origin": "https://elsewhere.example"}).status_code == 403
    assert client.post("/annotate", data=said, headers={"authorization": ""}).status_code == 401


@pytest.mark.parametrize(
    "damage",
    [
        "config = '{\"seed\": '",
        "config = NULL",
        "status = 'odd'",
        "began = 'yesterday'",
        "rounds = NULL",
        "classes = '['",
    ],
)
def test_a_damaged_row_costs_one_row(engine, tmp_path, client, damage):
    many(engine, 3)
    with engine.begin() as connection:
        connection.execute(text("PRAGMA writable_schema = ON"))
        schema = connection.execute(text("SELECT sql FROM sqlite_master WHERE name = 'runs'")).scalar()
        lax = schema.replace(" NOT NULL", "")
        connection.execute(text("UPDATE sqlite_master SET sql = :lax WHERE name = 'runs'"), {"lax": lax})
    engine.dispose()
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE runs SET {damage} WHERE id = 2"))
    page = client.get("/")
    assert page.status_code == 200
    readable = "classes" in damage  # which the list does not need
    assert ("Run 2" in page.text) != readable
    assert names(client) == (["run-002", "run-001", "run-000"] if readable else ["run-002", "run-000"])
    assert {run["name"] for run in client.get("/api/runs").json()} >= {"run-000", "run-002"}
    assert client.get("/metrics").status_code == 200
    assert client.get("/api/runs/2", headers={"accept": "text/html"}).status_code in (200, 422)


def test_under_a_minimum_scores_come_when_they_are_decided_on(engine, tmp_path, client_of):
    finished(engine, tmp_path / "run")
    client = client_of(min_count=10)
    assert ">…</td>" in client.get("/").text
    until(lambda: ">…</td>" not in client.get("/").text)
    overall = client.get("/api/runs/1").json()["overall"]["auroc"]
    assert f"{overall['value']:.3f}" in client.get("/").text
