"""What noise leaves to learn is known before a run: a bound by hand, and a warning where it is too little."""

import math

import pytest

from remind.config import Config
from remind.data.synthetic.generate import generate
from remind.privacy_reach import LEAST, numbers_of, reach, warnings
from remind.training.site_model import fusion_of

SITE = {"privacy.mode": "site", "evaluation.calibration": "none", "synthetic.standardise": "given"}
JOINT = {
    **SITE,
    "privacy.mode": "joint",
    "federation.secure-aggregation": True,
    "federation.encoders": "shared",
    "train.local-steps": 1,
}
SMALL = {"model.width": 16, "model.experts": 4, "train.lr": 0.01, "train.routing-lr": 0.01}


def config_of(*changes):
    return Config.from_flat({key: value for change in changes for key, value in change.items()})


def test_of_one_hospital_by_hand():
    config = config_of(
        SITE, {"privacy.noise": 2.0, "privacy.rate": 0.1, "train.schedule": "constant", "train.lr": 0.01},
        {"train.warmup-rounds": 3, "train.routing-rounds": 0, "train.local-steps": 5},
    )  # fmt: skip
    assert reach(config, 400, [200]) == pytest.approx(15 * 0.01 * 20 / (2 * 20))
    assert reach(config, 1, [200]) == pytest.approx(15 * 0.01)  # not further than the steps
    assert reach(config, 400, [200, 600]) == pytest.approx(15 * 0.01 * (0.25 * 20 + 0.75 * 60) / (2 * 20), rel=0.3)


def test_hospitals_that_share_the_noise_learn_from_all_patients():
    config = config_of(JOINT, {"privacy.noise": 5.0, "train.schedule": "constant", "train.lr": 0.01})
    rounds = config.train.warmup_rounds * 0.01 + config.train.routing_rounds * config.train.routing_lr
    assert reach(config, 10_000, [100] * 8) == pytest.approx(rounds * 800 / (5 * math.sqrt(8 / 4) * 100), rel=0.2)


def test_parts_that_do_not_train_need_no_noise():
    schema = generate(config_of(SITE).synthetic, 0).schema
    whole, parts = config_of(SITE), config_of(SITE, {"method.rule": 'adapt(parts = "head+groups")'})
    assert numbers_of(whole, schema) == sum(p.numel() for p in fusion_of(schema, whole).parameters())
    assert numbers_of(parts, schema) < 0.01 * numbers_of(whole, schema)


def test_a_run_that_cannot_learn_is_told_which_setting_to_change():
    schema = generate(config_of(SITE).synthetic, 0).schema
    (text,) = warnings(config_of(SITE), schema, [200] * 4)
    assert "noise leaves almost nothing to learn" in text
    assert all(setting in text for setting in ("train.lr", "train.batch", "model.width", "preset private", "epsilon"))
    (of_joint,) = warnings(config_of(JOINT), schema, [200] * 4)
    assert "settings of the preset private;" in text
    assert "settings of the preset private-joint;" in of_joint
    assert warnings(config_of(SITE, SMALL), schema, [200] * 4) == []
    assert reach(config_of(SITE, SMALL), numbers_of(config_of(SITE, SMALL), schema), [200] * 4) > LEAST
    assert warnings(Config(), schema, [200] * 4) == []


def test_what_is_proposed_is_enough():
    schema = generate(config_of(SITE).synthetic, 0).schema
    config = config_of(SITE)
    found = reach(config, numbers_of(config, schema), [200] * 4)
    factor = 2 * LEAST / found
    faster = {"train.lr": factor * config.train.lr, "train.routing-lr": factor * config.train.routing_lr}
    assert warnings(config_of(SITE, faster), schema, [200] * 4) == []
