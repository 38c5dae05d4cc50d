"""Every outcome is learned in both stages: losses fall, and the score beats what knows nothing of a patient."""

import csv
import json
from functools import cache

import pytest
from starlette.testclient import TestClient

from remind.config import Config
from remind.data.sites.hospitals import virtual_hospitals
from remind.fusion.base import registry as fusions
from remind.metrics.scores import scores, scores_of
from remind.metrics.statistics import merge, total
from remind.objectives.base import registry as objectives
from remind.outcomes.base import outcomes
from remind.web.access import Access
from remind_server.dashboard.app import dashboard_app
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.strategy import FedRemind
from remind_server.store.observer import StoreObserver
from remind_server.store.open import open_store, store_url
from tests.builders.grids import SiteGrid
from tests.builders.sites import site

OTHERS = [name for name in outcomes() if name not in ("classes", "segmentation")]  # masks: test_segmentation_learning
TOKEN = "a-token-of-enough-characters"
CHANCE = {"regression": ("r2", 0.0), "survival": ("c_index", 0.5), "ordinal": ("weighted_kappa", 0.0)}
CHANCE |= {"multilabel": ("auroc", 0.5)}
SETTINGS = {
    "synthetic.patients": 400,
    "synthetic.interaction": 0.0,
    "model.width": 16,
    "model.experts": 4,
    "model.heads": 2,
    "model.tokens": 2,
    "model.dropout": 0.0,
    "train.warmup-rounds": 2,
    "train.routing-rounds": 2,
    "train.local-steps": 10,
    "train.batch": 32,
    "train.lr": 5e-3,
    "train.routing-lr": 2e-3,
}


@cache
def hospitals(outcome: str, patients: int):
    config = Config.from_flat(SETTINGS | {"synthetic.outcome": outcome, "synthetic.patients": patients})
    return virtual_hospitals(config.data, config.synthetic, 0, 2)


def trained(outcome, folder, observers=(), **changes):
    config = Config.from_flat(SETTINGS | {"synthetic.outcome": outcome} | changes)
    sites = [site(h.name, h.cohort, config, folder) for h in hospitals(outcome, config.synthetic.patients)]
    return FedRemind(config, observers=observers).run(SiteGrid(sites))


@pytest.mark.parametrize("outcome", OTHERS)
def test_it_is_learned_and_shown(outcome, tmp_path):
    results = tmp_path / "run"
    engine = open_store(store_url(tmp_path / "results"))
    result = trained(outcome, tmp_path, [RunFolder(results), StoreObserver(engine, results)])
    everyone = total(merge(result.test.values()))
    name, chance = CHANCE[outcome]
    assert getattr(scores(everyone), name) > chance + 0.1
    lines = [json.loads(line) for line in (results / "groups.jsonl").read_text().splitlines()]
    largest = max(lines, key=lambda line: line["train_n"])["group"]
    risks = [line["risk"] for line in lines if line["group"] == largest]
    assert risks[-1] < risks[0]
    own = set(scores_of(outcome))
    head = next(csv.reader((results / "final.csv").open()))
    assert own <= set(head)
    assert ("accuracy" in head) == ("accuracy" in own)
    page = TestClient(dashboard_app(engine, Access(token=TOKEN)), headers={"authorization": f"Bearer {TOKEN}"})
    shown = page.get("/runs/1").text
    assert f'id="by-{outcomes()[outcome].chief}"' in shown
    assert ('id="by-macro_f1"' in shown) == (outcome == "ordinal")
    assert outcomes()[outcome].chief in page.get("/runs/1/groups.csv").text.splitlines()[0]
    assert page.get("/api/runs/1/verdict").json()["score"] == outcomes()[outcome].chief
    assert page.get("/runs/1/everything.zip").status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("outcome", ["regression", "survival"])
@pytest.mark.parametrize(
    ("fusion", "objective"),
    [
        *((one.name, "erm") for one in fusions.methods() if not one.build.outcomes and one.name != "remind"),
        *(("attention", one.name) for one in objectives.methods() if not one.build.outcomes),
    ],
)
def test_every_method_that_is_not_refused_trains(outcome, fusion, objective, tmp_path):
    few = {"synthetic.patients": 80, "train.warmup-rounds": 1, "train.routing-rounds": 1, "train.local-steps": 1}
    more = {"data.validation": 0.3} if objective == "dfr" else {}
    result = trained(outcome, tmp_path, **few, **more, **{"method.fusion": fusion, "method.objective": objective})
    assert result.round > 0
