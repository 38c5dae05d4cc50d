"""The model's card: its round, its calibration, and suppression under a minimum count."""

import csv
import io

import pytest

from remind.metrics.calibration_fit import fit
from remind.metrics.statistics import merge
from remind_server.dashboard.views.calibration import ReliabilityBin, decisions_of, joined
from remind_server.store.observer import StoreObserver
from tests.builders.calibration import TEST, VALIDATION
from tests.builders.reports import SCHEMA, START, record, result


@pytest.fixture
def ended(engine, tmp_path):
    """A run in the store that chose round 1 of 2 and is calibrated."""
    observer = StoreObserver(engine, tmp_path / "run")
    observer.begun(START.config)
    observer.started(START)
    for round_ in (1, 2):
        observer.round_done(record(round_), {})
    calibration = fit(merge(VALIDATION.values()), SCHEMA.classes, "temperature", "sensitivity >= 0.8", 1)
    chosen = {"by": "overall", "score": "log_loss", "value": 0.4}
    observer.finished(result(TEST, validation=VALIDATION, calibration=calibration, round=1, last=2, selected=chosen))
    return observer.run_id


def rows_of(client, path):
    return list(csv.DictReader(io.StringIO(client.get(path).text)))


def test_page_json_and_files_say_the_same(ended, client_of):
    client = client_of(0)
    card = client.get(f"/api/runs/{ended}/model").json()
    assert (card["round"], card["last_round"], card["selected"]["by"]) == (1, 2, "overall")
    assert {row["group"] for row in card["scores"]} == {"all", "a", "a+b"}
    page = client.get(f"/runs/{ended}").text
    assert "The model after round 1 of 2, the best by log_loss (overall)" in page
    assert "operating point sensitivity &gt;= 0.8" in page
    assert page.count("<polyline") == 6, "reliability and decisions: a yardstick, raw and calibrated each"
    assert page.count('<polyline class="raw"') == page.count('<polyline class="calibrated"') == 2
    assert ">0.5</text>" in page, "both pictures have numbers at their axes"
    for name, key in (("calibration", "scores"), ("reliability", "reliability"), ("decisions", "decisions")):
        assert len(rows_of(client, f"/runs/{ended}/{name}.csv")) == len(card[key])


def test_under_a_minimum_no_small_count_is_there_nor_follows(ended, client_of):
    client, free = client_of(30), client_of(0)
    card, whole = (c.get(f"/api/runs/{ended}/model").json() for c in (client, free))
    assert {row["group"] for row in card["scores"]} == {"all"}
    assert {(b["group"], b["model"]) for b in card["reliability"]} == {("all", "calibrated")}
    for one in card["reliability"]:
        assert min(one["of_class"], one["n"] - one["of_class"]) >= 30
    n = {len(c["reliability"]) for c in (card, whole)}
    assert len(n) == 2
    assert sum(b["n"] for b in card["reliability"]) == 800
    assert {d["threshold"] for d in card["decisions"]} == {b["low"] for b in card["reliability"]}
    page = client.get(f"/runs/{ended}").text
    assert 'class="calibrated"' in page
    assert 'class="raw"' not in page, "the one line that is shown has the colour and the name of its model"
    assert 'class="key raw"' not in page
    assert client_of(500).get(f"/api/runs/{ended}/model").json()["scores"] == []


def test_joined_ranges_hold_everybody_or_nobody():
    def row(low, n, of_class):
        return {
            "group": "all",
            "model": "raw",
            "class": "c1",
            "from": low,
            "to": low + 0.1,
            "n": n,
            "of_class": of_class,
            "predicted": low + 0.05,
        }

    rows = [row(0.0, 40, 2), row(0.1, 30, 9), row(0.5, 20, 10), row(0.9, 12, 11)]
    found = joined(rows, 10)
    assert [(b.low, b.high, b.n, b.of_class) for b in found] == [(0.0, 0.2, 70, 11), (0.5, 1.0, 32, 21)]
    assert found[0].predicted == pytest.approx((40 * 0.05 + 30 * 0.15) / 70)
    assert joined(rows[:1], 10) == []
    assert len(joined(rows, 1)) == 4
    assert decisions_of([ReliabilityBin("all", "raw", "c1", 0.0, 0.5, 10, 2, 0.2)])[0].net_benefit == 0.2


def test_a_run_that_has_not_ended_has_no_card(engine, tmp_path, client_of):
    observer = StoreObserver(engine, tmp_path / "run")
    observer.begun(START.config)
    observer.started(START)
    client = client_of(0)
    assert client.get(f"/api/runs/{observer.run_id}/model").json() is None
    assert client.get(f"/runs/{observer.run_id}").status_code == 200
    assert rows_of(client, f"/runs/{observer.run_id}/calibration.csv") == []
    observer.failed("over")
