"""Curves by threshold are correct, and under a minimum count no small count follows from all of them together."""

import csv
import io
from itertools import pairwise

import numpy as np
import pytest

from remind.metrics.histograms import centres
from remind.metrics.statistics import merge, total
from tests.attacker import Attacker
from tests.builders.stored_runs import Drill

SITES = {
    "Basel": {1: 220, 3: 130, 5: 60, 7: 25, 2: 30},
    "Chur": {1: 150, 3: 90, 5: 45, 7: 12},
    "Davos": {1: 80, 6: 9},
}
MINIMUM = 10


@pytest.fixture
def drill(engine, tmp_path):
    drill = Drill(engine, tmp_path / "results" / "run", SITES).start()
    drill.round()
    return drill


def numbers(client):
    return {row["name"]: row["number"] for row in client.get("/api/runs/1/groups").json()["rows"]}


def curve(client, number):
    return client.get("/api/runs/1/thresholds", params={"group": number}).json()


def test_a_curve_is_that_of_the_group(drill, client):
    merged = merge(drill.validation.values())
    named = {"fundus": 1, "fundus+oct": 3, "fundus+oct+table": 7}
    for name, number in {"all groups": 0, **{k: numbers(client)[k] for k in named}}.items():
        found = curve(client, number)
        one = total(merged) if number == 0 else merged[named[name]]
        assert (found["group"], found["n"]) == (name, one.count)
        assert found["of_class"] == one.confusion_CC[1].sum()
        chosen = found["chosen"]
        assert chosen["threshold"] == pytest.approx(0.5, abs=1e-3)
        recall_C = np.diag(one.confusion_CC) / one.confusion_CC.sum(axis=1)
        assert (chosen["specificity"], chosen["sensitivity"]) == tuple(pytest.approx(share) for share in recall_C)
        assert chosen["sensitivity_low"] <= chosen["sensitivity"] <= chosen["sensitivity_high"]
        assert all(a["threshold"] >= b["threshold"] for a, b in pairwise(found["points"]))
        assert sum(r["n"] for r in found["ranges"]) == one.count


def test_the_csv_file_has_all_curves(drill, client):
    rows = list(csv.DictReader(io.StringIO(client.get("/runs/1/thresholds.csv").text)))
    assert {row["group"] for row in rows} >= {"all groups", "fundus", "fundus+oct"}
    mine = [row for row in rows if row["group"] == "fundus"]
    assert [float(row["sensitivity"]) for row in mine] == [
        p["sensitivity"] for p in curve(client, numbers(client)["fundus"])["points"]
    ]


def test_under_a_minimum_nothing_small_is_there_nor_follows(drill, client_of):
    client = client_of(MINIMUM)
    merged = merge(drill.validation.values())
    name_of = {k: "+".join(drill.schema.names[i] for i in range(3) if k >> i & 1) for k in merged}
    shown = {0: curve(client, 0)} | {k: curve(client, numbers(client)[name_of[k]]) for k in merged}
    shown = {k: found for k, found in shown.items() if found}
    assert {0, 1, 3} <= set(shown)
    assert not {2, 6} & set(shown), "too few of a class"
    edges = sorted({-np.inf, *(_log_odds(r["low"]) for found in shown.values() for r in found["ranges"])})
    truth = {}
    for k, one in merged.items():
        [(bins_K, counts_2K)] = one.scores.placed()
        place_K = np.searchsorted(edges, centres(bins_K), side="right") - 1
        for c in (0, 1):
            for r, n in enumerate(np.bincount(place_K, counts_2K[c], len(edges)).astype(int)):
                truth[k, c, r] = int(n)
    attacker = Attacker(truth)
    for k, found in shown.items():
        members = list(merged) if k == 0 else [k]
        for one in found["ranges"]:
            assert min(one["of_class"], one["n"] - one["of_class"]) >= MINIMUM
            inside = [
                r for r, low in enumerate(edges) if _log_odds(one["low"]) - 1e-6 <= low < _log_odds(one["high"]) - 1e-6
            ]
            for c, n in ((1, one["of_class"]), (0, one["n"] - one["of_class"])):
                attacker.hears([(g, c, r) for g in members for r in inside], n)
    for row in client.get("/api/runs/1/groups").json()["rows"]:
        if not row["scores"]["withheld"]:
            [k] = [k for k, name in name_of.items() if name == row["name"]]
            for c, n in ((1, row["scores"]["positives"]), (0, row["scores"]["n"] - row["scores"]["positives"])):
                attacker.hears([atom for atom in truth if atom[:2] == (k, c)], n)
    hidden = [[atom] for atom in truth if atom[0] not in (2, 6, 7)]
    assert attacker.finds_below(MINIMUM, hidden) == []
    rest = [[(g, c, r) for g in merged if g not in shown] for c in (0, 1) for r in range(len(edges))]
    assert attacker.finds_below(MINIMUM, rest) == [], "all patients less the groups whose curves are shown"


def test_the_files_tell_no_finer_ranges_than_the_curves(drill, client_of):
    """Thresholds, reliability and decisions of a run that ended, as files: no end of a range that was not checked."""
    drill.finish()
    client = client_of(MINIMUM)
    rows = {
        name: list(csv.DictReader(io.StringIO(client.get(f"/runs/1/{name}.csv").text)))
        for name in ("thresholds", "reliability", "decisions")
    }
    names = numbers(client) | {"all groups": 0}
    known = {name: curve(client, number) for name, number in names.items()}
    ends = {
        name: {round(one[end], 9) for one in found["ranges"] for end in ("low", "high")}
        for name, found in known.items()
        if found
    }
    assert {row["group"] for row in rows["thresholds"]} == set(ends)
    for row in rows["thresholds"]:
        assert round(float(row["threshold"]), 9) in ends[row["group"]] | {0.0, 1.0}
    assert rows["reliability"]
    assert rows["decisions"]
    for row in rows["reliability"]:
        assert row["group"] == "all"
        assert {round(float(row["low"]), 9), round(float(row["high"]), 9)} <= ends["all groups"]
        assert min(int(row["of_class"]), int(row["n"]) - int(row["of_class"])) >= MINIMUM
    for row in rows["decisions"]:
        assert round(float(row["threshold"]), 9) in ends["all groups"]


def test_under_a_large_minimum_there_is_no_curve(drill, client_of):
    client = client_of(400)
    assert curve(client, 0) is None
    html = client.get("/runs/1", headers={"accept": "text/html"}).text
    assert 'id="thresholds"' in html
    assert "<h2>By threshold" not in html


def _log_odds(p):
    return -np.inf if p <= 0 else np.inf if p >= 1 else float(np.log(p) - np.log1p(-p))
