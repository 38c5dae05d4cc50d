"""What hospitals tell of their privacy budgets: on the page and as JSON, and nothing of hospitals that do not tell."""

from dataclasses import replace

import pytest

from remind.config import Scalar
from remind.federation.message_statistics import PrivacySpent
from remind.metrics.scores import EVERY
from tests.builders.stored_runs import Drill

SITES = {"Basel": {1: 80, 3: 60}, "Bern": {1: 70, 3: 50}}


@pytest.fixture
def drill(engine, tmp_path):
    return Drill(engine, tmp_path / "run", SITES).start()


def told(epsilon):
    return PrivacySpent(epsilon=epsilon, delta=1e-5, left=8 - epsilon, releases={"training gradient": epsilon})


def test_the_page_shows_what_was_told_last(drill, client):
    drill.round(privacy={"Basel": told(2.5)})
    drill.round(privacy={"Basel": told(4.25)})
    drill.round()
    rows = {row["name"]: row["privacy"] for row in client.get("/api/runs/1/hospitals").json()["rows"]}
    assert rows == {"Basel": told(4.25).model_dump(), "Bern": None}
    page = client.get("/runs/1").text
    assert "Privacy spent" in page
    assert "ε 4.25<small>3.75 left</small>" in page
    assert page.count(" left</small>") == 1, "Bern tells nothing"


def test_a_run_of_which_nobody_tells_has_no_such_column(drill, client):
    drill.round()
    assert "Privacy spent" not in client.get("/runs/1").text


def test_where_scores_are_known_in_sum_only_each_hospitals_spending_is_shown(engine, tmp_path, client):
    drill = Drill(engine, tmp_path / "run", SITES, changes={"federation.secure-aggregation": True}).start()
    drill.round(privacy={"Basel": told(4.25).model_copy(update={"own": 7.5})})
    page = client.get("/runs/1").text
    assert "sums over all hospitals alone" in page
    assert "ε 4.25<small>3.75 left; 7.50 if the others left their noise out</small>" in page
    assert '<th scope="row" class="name">Bern</th><td class="num">–</td>' in page


def test_the_rounds_say_which_model_they_are_of_or_why_they_have_no_scores(engine, tmp_path, client):
    Drill(engine, tmp_path / "run", SITES).start().round()
    assert "the model that the round received: that after the round before" in client.get("/runs/1").text
    changes = {"federation.secure-aggregation": True}
    Drill(engine, tmp_path / "other", SITES, changes=changes).start().round()
    page = client.get("/runs/2").text
    assert "No scores between the rounds: validation patients are not measured under secure aggregation" in page
    assert "the model that the round received" not in page


def test_a_private_run_that_learned_next_to_nothing_says_so(engine, tmp_path, client, monkeypatch):
    changes: dict[str, Scalar] = {"privacy.mode": "site", "privacy.epsilon": 3.0, "evaluation.calibration": "none"}
    drill = Drill(engine, tmp_path / "run", SITES, changes=changes).start()
    drill.round()
    assert "hardly more than guessing" not in client.get("/runs/1").text
    drill.finish()
    assert "hardly more than guessing" not in client.get("/runs/1").text
    monkeypatch.setitem(EVERY, "auroc", replace(EVERY["auroc"], guessing=(0.5, 1.0)))
    assert "privacy.mode = site at ε = 3.0: AUROC" in client.get("/runs/1").text
