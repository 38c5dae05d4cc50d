"""Predictions from pictures equal the test table; a damaged picture affects only its own patient."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import remind
from remind.data.cohort.cohort import TEST
from remind.data.sites.hospitals import virtual_hospitals
from remind.data.synthetic.write import write_cohort
from remind.metrics.statistics import collect
from remind_server.rounds import waiting

SETTINGS: dict[str, Any] = {
    "synthetic.patients": 60,
    "synthetic.law": "independent",
    "synthetic.missing": "0.3, 0.3",
    "synthetic.kinds": "image, table",
    "synthetic.size": 16,
    "model.encoders.image-weights": "random",
    "model.width": 8,
    "model.heads": 2,
    "model.experts": 4,
    "model.tokens": 4,
    "train.warmup-rounds": 1,
    "train.routing-rounds": 1,
    "train.local-steps": 1,
    "train.batch": 4,
}


@pytest.mark.slow
def test_a_damaged_picture_costs_its_patient_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(waiting, "SETTLE", 0.01)
    run = remind.simulate(SETTINGS | {"results": str(tmp_path / "run")}, clients=2)
    site = virtual_hospitals(run.config.data, run.config.synthetic, 0, 2)[0]
    test = site.cohort.take(site.cohort.split_N == TEST)
    predictor = remind.load(run.folder, site.name)
    good = predictor.outputs(test)
    final = run.final[run.final["site"] == site.name].set_index("mask")
    nothing = np.zeros(len(test))
    for k, own in collect(good.group_N, test.label_N, nothing, good.log_p_NC, nothing).items():
        assert final.loc[k, "log_loss"] == own.log_loss
    write_cohort(replace(test, split_N=None), tmp_path / "new")
    sorted((tmp_path / "new").rglob("*.png"))[0].write_bytes(b"no picture")
    first = int(np.flatnonzero(test.presence_Nm[:, 0])[0])
    found = predictor.predict(tmp_path / "new")
    assert "is damaged" in found["status"][first]
    assert (found["status"].drop(first) == "ok").all()
