"""Comparing two or more runs: significant differences, and warnings about different patients."""

import csv
import io
import math

import numpy as np
import pytest

from remind.metrics.differences import difference
from remind.metrics.intervals import wilson
from tests.builders.stored_runs import Drill

SITES = {"Basel": {1: 80, 3: 60}, "Chur": {1: 50, 2: 4}}


def run(engine, folder, sites=SITES, **options):
    drill = Drill(engine, folder, sites, rounds=2, **options).start()
    drill.round()
    drill.round()
    drill.finish()
    return drill.observer.run_id


@pytest.mark.parametrize(("p", "q", "n"), [(0.7, 0.8, 60), (0.9, 0.95, 40), (0.5, 0.5, 200)])
def test_the_interval_holds_the_difference_in_nineteen_of_twenty(p, q, n):
    """Of independent samples; of the same patients more often: it is then wider than need be."""
    rng = np.random.default_rng(0)
    hits = {False: 0, True: 0}
    for _ in range(2000):
        u, v = rng.random(n), rng.random(n)
        for same in hits:
            a, b = float((u < p).mean()), float(((u if same else v) < q).mean())
            _, low, high = difference((a, *wilson(a, n)), (b, *wilson(b, n)))
            hits[same] += low <= q - p <= high
    assert 0.93 <= hits[False] / 2000 <= 0.975
    assert hits[True] >= hits[False]


def test_the_interval_is_newcombes():
    """His example: 56 of 70 against 48 of 80 (method 10 without continuity correction: .0524 to .3339)."""
    a, b = 48 / 80, 56 / 70
    found = difference((a, *wilson(a, 80)), (b, *wilson(b, 70)))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


def test_a_pair_has_the_interval_of_its_difference(engine, tmp_path, client):
    for seed in (0, 0):
        run(engine, tmp_path / f"run{len(list(tmp_path.iterdir()))}", seed=seed)
    found = client.get("/api/compare", params={"first": 1, "second": 2, "score": "accuracy"}).json()
    assert (found["paired"], found["warnings"]) == (True, [])
    for pair in (found["overall"], found["tail"], *found["groups"]):
        assert pair["difference"] == 0
        a, b = (pair[side]["accuracy"] for side in ("first", "second"))
        assert pair["low"] == pytest.approx(-math.hypot(b["value"] - b["low"], a["high"] - a["value"]))
        assert pair["low"] < 0 < pair["high"]
    page = client.get("/compare?run=1&run=2").text
    assert 'class="num unsure"' in page
    assert 'class="num better"' not in page
    assert 'class="num worse"' not in page
    assert "so the interval is too wide" in page
    row = next(csv.DictReader(io.StringIO(client.get("/compare.csv?first=1&second=2").text)))
    assert float(row["difference_auroc_low"]) < 0 < float(row["difference_auroc_high"])


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ({"seed": 1}, "the seeds differ"),
        ({"changes": {"data.test": 0.3}}, "the data.test differ"),
        ({"sites": {"Basel": {1: 80, 3: 60}}}, "the hospitals differ"),
        ({"sites": {"Basel": {1: 80, 3: 61}, "Chur": {1: 50, 2: 4}}}, "the numbers of patients differ"),
    ],
)
def test_other_patients_are_said(engine, tmp_path, client, other, word):
    run(engine, tmp_path / "a")
    run(engine, tmp_path / "b", **other)
    found = client.get("/api/compare", params={"first": 1, "second": 2}).json()
    assert not found["paired"]
    assert any(word in text for text in found["warnings"])
    page = client.get("/compare?run=1&run=2").text
    assert 'id="not-paired"' in page
    assert "are treated as independent" in page


def test_other_classes_are_refused(engine, tmp_path, client):
    run(engine, tmp_path / "a")
    drill = Drill(engine, tmp_path / "b", SITES, rounds=2)
    object.__setattr__(drill.schema, "classes", ("mild", "severe"))
    drill.start()
    drill.round()
    answer = client.get("/api/compare", params={"first": 1, "second": 2})
    assert answer.status_code == 422
    assert "different classes" in answer.json()["detail"]
    assert "mild, severe" in answer.json()["detail"]


def test_more_than_two_runs_side_by_side(engine, tmp_path, client):
    for i, rate in enumerate((0.01, 0.02, 0.02)):
        run(engine, tmp_path / f"run{i}", changes={"train.lr": rate})
    found = client.get("/api/compare/several", params={"run": [1, 2, 3]}).json()
    assert found["settings"] == {"train.lr": [0.01, 0.02, 0.02]}
    assert [len(found[name]) for name in ("runs", "tails")] == [3, 3]
    page = client.get("/compare?run=1&run=2&run=3").text
    assert "3 runs side by side" in page
    assert "<code>train.lr</code>" in page
    assert client.get("/api/compare/several", params={"run": list(range(1, 14))}).status_code == 422
