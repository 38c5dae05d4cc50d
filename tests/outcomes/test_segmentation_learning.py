"""Masks are learned in both stages where hospitals lack sequences, and shown; a model predicts volumes of regions."""

import csv
import json

import numpy as np
import pytest
from starlette.testclient import TestClient

from remind.config import Config
from remind.data.cohort.cohort import TEST, TRAIN
from remind.data.sites.hospitals import virtual_hospitals
from remind.metrics.scores import scores
from remind.metrics.statistics import merge, total
from remind.web.access import Access
from remind_server.dashboard.app import dashboard_app
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.strategy import FedRemind
from remind_server.store.observer import StoreObserver
from remind_server.store.open import open_store, store_url
from tests.builders.grids import SiteGrid
from tests.builders.masks import SETTINGS as SMALL
from tests.builders.masks import numbers_of
from tests.builders.sites import site

pytestmark = pytest.mark.slow

TOKEN = "a-token-of-enough-characters"
SETTINGS = SMALL | {
    "synthetic.patients": 60,
    "data.rules": "1: no t1ce; 2: no flair",
    "train.warmup-rounds": 4,
    "train.routing-rounds": 2,
    "train.local-steps": 10,
    "train.batch": 8,
    "train.lr": 5e-3,
    "train.routing-lr": 3e-3,
}


def trained(fusion, folder, observers=()):
    config = Config.from_flat(SETTINGS | {"method.fusion": fusion})
    hospitals = virtual_hospitals(config.data, config.synthetic, 0, 2)
    assert [not np.all(h.cohort.presence_Nm) for h in hospitals] == [True, True]
    sites = [site(h.name, h.cohort, config, folder) for h in hospitals]
    return hospitals, FedRemind(config, observers=observers).run(SiteGrid(sites))


def constant_dice(hospitals):
    """The best Dice of the test patients that one mask for all can have: voxels of the most training patients."""
    outcome = hospitals[0].cohort.schema.predicts
    inside = np.concatenate([outcome.inside(numbers_of(h.cohort)) for h in hospitals])
    split_N = np.concatenate([h.cohort.split_N for h in hospitals])
    share_RV, true_NRV = inside[split_N == TRAIN].mean(axis=0), inside[split_N == TEST]
    found = []
    for least in np.linspace(0, 0.9, 19):
        same_RV = share_RV > least
        both_NR, size_NR = (true_NRV & same_RV).sum(axis=2), true_NRV.sum(axis=2) + same_RV.sum(axis=1)
        found.append(np.mean(np.where(size_NR > 0, 2 * both_NR / np.maximum(size_NR, 1), 1.0)))
    return max(found)


@pytest.mark.parametrize("fusion", ["remind", "simmlm"])
def test_masks_are_learned_where_hospitals_lack_sequences_and_are_shown(fusion, tmp_path):
    results = tmp_path / "run"
    engine = open_store(store_url(tmp_path / "results"))
    hospitals, result = trained(fusion, tmp_path, [RunFolder(results), StoreObserver(engine, results)])
    everyone = scores(total(merge(result.test.values())))
    assert everyone.dice > constant_dice(hospitals) + 0.1
    assert everyone.dice_1 > 0.6
    lines = [json.loads(line) for line in (results / "groups.jsonl").read_text().splitlines()]
    largest = max(lines, key=lambda line: line["train_n"])["group"]
    risks = [line["risk"] for line in lines if line["group"] == largest]
    assert risks[3] < risks[0]
    assert risks[-1] < risks[3]
    head = next(csv.reader((results / "final.csv").open()))
    assert {"dice", "dice_1", "hd95", "hd95_3", "dice_pooled"} <= set(head)
    page = TestClient(dashboard_app(engine, Access(token=TOKEN)), headers={"authorization": f"Bearer {TOKEN}"})
    shown = page.get("/runs/1").text
    assert 'id="by-dice"' in shown
    assert 'id="by-macro_f1"' not in shown
    assert "hd95" in page.get("/runs/1/groups.csv").text.splitlines()[0]
    assert page.get("/api/runs/1/verdict").json()["score"] == "dice"
