"""Small groups are folded into one row with their pooled score, and are never the worst: the same rule everywhere."""

import json

import numpy as np
import pytest

from remind.metrics.aggregates import is_supported, small_groups
from remind.metrics.scores import intervals, scores
from remind.metrics.statistics import merge, total
from remind_server.outputs.tables import summary
from tests.builders.stored_runs import Drill
from tests.dashboard.conftest import client_over

# Group 1 and 3 have support. 2 has patients enough, but 4 of class 1; 5 and 7 have few patients.
PATIENTS = {"Basel": {1: 80, 3: 60, 2: 20, 5: 7}, "Chur": {1: 50, 2: 20, 7: 1}}


@pytest.fixture(scope="module")
def result(shared_engine, tmp_path_factory):
    drill = Drill(shared_engine, tmp_path_factory.mktemp("results") / "run", PATIENTS, share=0.3).start()
    for _ in range(drill.rounds):
        drill.round()
    return drill.finish()


@pytest.fixture(scope="module")
def of_result(result, shared_engine):
    """Client of a dashboard over the store with that run alone."""
    return client_over(shared_engine)


def table(client, **params):
    return client.get("/api/runs/1/groups", params=params).json()


def test_support_needs_patients_and_two_classes():
    assert is_supported([20, 10])
    assert not is_supported([20, 9])
    assert not is_supported([10, 10])
    assert not is_supported([200, 9])
    assert is_supported([15, 12, 3])
    assert not is_supported([])


def test_the_pooled_row_is_the_score_of_all_their_patients(of_result, result):
    by_group = merge(result.test.values())
    small = small_groups(by_group)
    assert small, "some are small"
    assert small < by_group.keys(), "some are not"
    found = table(of_result)
    folded = {row["name"] for row in found["rows"] if not row["ranked"]}
    assert len(folded) == len(small) == found["small"]["groups"]
    pooled = total({k: by_group[k] for k in small})
    expected, low_high = scores(pooled), intervals(pooled)["auroc"]
    shown = found["small"]["scores"]
    assert (shown["n"], shown["positives"]) == (expected.n, expected.positives)
    assert shown["auroc"] == {"value": expected.auroc, "low": low_high[0], "high": low_high[1]}
    assert shown["log_loss"] == expected.log_loss
    told = summary(result)["small_groups"]
    assert (told["groups"], told["n"], told["auroc"]) == (len(small), expected.n, expected.auroc)


@pytest.mark.parametrize("by", ["auroc", "accuracy", "log_loss", "brier"])
def test_no_small_group_comes_before_a_ranked_one(of_result, result, by):
    ranked = [row["ranked"] for row in table(of_result, by=by)["rows"]]
    assert ranked == sorted(ranked, reverse=True)
    assert True in ranked
    assert False in ranked


def test_the_page_folds_and_unfolds(of_result, result):
    folded = of_result.get("/runs/1").text
    found = table(of_result)
    large = [row for row in found["rows"] if row["ranked"]]
    assert folded.count("data-group=") == len(large)
    assert 'id="small-groups"' in folded
    assert f"{found['small']['groups']} other groups together" in folded
    whole = of_result.get("/runs/1?show=all").text
    assert whole.count("data-group=") == len(found["rows"])
    assert "Too small to be ranked" in whole
    first = sorted(large, key=lambda row: -row["scores"]["n"])
    assert f'data-charted="{",".join(str(row["number"]) for row in first)}"' in folded, "charts: the largest first"


def test_the_run_in_short(of_result, result):
    by_group = merge(result.test.values())
    found = of_result.get("/api/runs/1/verdict").json()
    tail = {row["name"] for row in table(of_result)["rows"] if row["tail"]}
    assert found["tail"]["groups"] == len(tail) > 0
    assert found["overall"]["n"] == total(by_group).count
    ranked = [row for row in table(of_result, by="auroc")["rows"] if row["ranked"]]
    worst = min(ranked, key=lambda row: row["scores"]["auroc"]["value"])
    assert found["worst_group"]["name"] == worst["name"]
    assert found["worst_group"]["scores"]["n"] >= 30
    of_sites = {name: scores(total(own)) for name, own in result.test.items()}
    assert found["worst_site"]["name"] == min(of_sites, key=lambda name: of_sites[name].auroc)
    told = summary(result)
    assert found["tail"]["scores"]["auroc"]["value"] == told["tail_patients"]["auroc"]
    assert found["worst_group"]["scores"]["auroc"]["value"] == told["worst_group"]["auroc"]["value"]
    for place in ("worst_group_if_equal", "worst_site_if_equal"):
        assert 0.3 < found[place] < found["overall"]["auroc"]["value"], "the smallest of several noisy scores"
    assert found["worst_group_if_equal"] == pytest.approx(told["worst_group"]["auroc"]["if_equal"], abs=0.03)
    assert of_result.get("/api/runs/1/verdict?score=macro_f1").json()["worst_group_if_equal"] is None
    shown = of_result.get("/runs/1").text.partition('id="answer-group-by-chance">about ')[2].partition(" ")[0]
    assert float(shown) == pytest.approx(found["worst_group_if_equal"], abs=6e-3)


def test_one_class_gets_a_remark(engine, tmp_path, client, monkeypatch):
    from tests.builders import stored_runs

    drill = Drill(engine, tmp_path / "results" / "run", {"Basel": {1: 200}}, rounds=1, share=0.2).start()
    made = stored_runs.statistics

    def blunt(*args, **kwargs):
        one = made(*args, **kwargs)
        n_C = one.confusion_CC.sum(axis=1)
        return type(one)(**{**vars(one), "confusion_CC": np.stack([n_C, 0 * n_C], axis=1)})

    monkeypatch.setattr(stored_runs, "statistics", blunt)
    drill.round()
    found = client.get("/api/runs/1/verdict").json()
    assert found["one_class"] == drill.schema.classes[0]
    assert found["recalls"] == dict(zip(drill.schema.classes, [1.0, 0.0], strict=True))
    assert 'id="one-class"' in client.get("/runs/1").text
    result = drill.finish()
    assert summary(result)["one_class"]["class"] == drill.schema.classes[0]
    assert json.dumps(summary(result)), "it is JSON"


def test_under_a_minimum_the_ranked_groups_and_the_tail_are_still_shown(engine, tmp_path, client_of):
    """Two thirds of the groups are too small to be shown; the others follow from none of them, and are shown."""
    small = {1: 1, 2: 2, 4: 1}
    patients = {f"Site {i}": {7: 60, 3: 50} | {k: n + i for k, n in small.items()} for i in range(4)}
    drill = Drill(engine, tmp_path / "results" / "run", patients, rounds=2, share=0.4).start()
    drill.round()
    drill.round()
    drill.finish()
    found = client_of(min_count=10).get("/api/runs/1/verdict").json()
    assert found["ranked_groups"] == 2
    assert found["worst_group"]["scores"]["auroc"]
    assert found["overall"]["auroc"]
    assert found["small"]["scores"]["n"] == sum(
        2 * n for own in patients.values() for k, n in own.items() if k in small
    )


def test_metrics_tell_who_is_ranked(of_result, result):
    text = of_result.get("/metrics").text
    for row in table(of_result)["rows"]:
        tail = str(row["tail"]).lower()
        line = f'remind_group_ranked{{group="{row["name"]}",run="1",tail="{tail}"}} {float(row["ranked"])}'
        assert line in text
    pooled = table(of_result)["small"]["scores"]
    assert f'remind_group_patients{{group="small",patients="test",run="1",tail="false"}} {float(pooled["n"])}' in text


def test_without_enough_of_anything_nothing_is_ranked(engine, tmp_path, client):
    Drill(engine, tmp_path / "results" / "run", {"Basel": {1: 12, 3: 9}}).start().round()
    found = client.get("/api/runs/1/verdict").json()
    assert (found["worst_group"], found["worst_site"]) == (None, None)
    page = client.get("/runs/1").text
    assert "no group can be ranked" in page
    assert "2 other groups together" in page
    assert "data-group=" not in page
