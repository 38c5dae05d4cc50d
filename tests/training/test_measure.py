"""R_k estimated from a sample: unbiased, with the right variance, exact where everybody is measured."""

from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import pytest

from remind.config import Config
from remind.errors import UserError
from remind.methods import methods_of
from remind.metrics.statistics import GroupLoss
from remind.outcomes.segmentation import Segmentation
from remind.training.evaluate import evaluate
from remind.training.measure import drawn, estimate_of, losses
from remind.training.site_data import FreshTokens
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE, settings
from tests.builders.grids import SiteGrid
from tests.builders.masks import SETTINGS as MASKS
from tests.builders.masks import small_model
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"one": [1, 2, 3] * 12, "two": [3, 5] * 15}


def test_over_all_samples_the_mean_is_the_sum_and_the_variance_is_the_one_that_is_told():
    loss_n = np.array([0.1, 2.5, 0.7, 0.0, 1.9, 4.2])
    for measured in (2, 3, 5):
        found = [estimate_of(loss_n[list(some)], 6) for some in combinations(range(6), measured)]
        assert len(found) == comb(6, measured)
        sums = np.array([one.loss_sum for one in found])
        assert sums.mean() == pytest.approx(loss_n.sum(), rel=1e-12)
        assert np.mean([one.variance for one in found]) == pytest.approx(sums.var(), rel=1e-12)


def test_losses_of_training_patients_are_those_of_the_statistics_to_the_bit_without_their_scores(monkeypatch):
    model, data = small_model(patients=40)
    objective = methods_of(Config.from_flat(MASKS)).objective
    source, rows = FreshTokens(model, data), np.arange(40)
    exact = evaluate(model, source, rows, objective, routing=False)
    monkeypatch.setattr(Segmentation, "hd95", None)  # would fail if it were asked for
    found = losses(model, source, rows, objective, routing=False)
    assert found == {group: GroupLoss(own.count, own.loss_sum) for group, own in exact.items()}
    assert len(found) > 1


def test_all_patients_are_no_sample():
    assert estimate_of(np.array([1.0, 2.0]), 2) == GroupLoss(2, 3.0)


def test_variances_of_sites_add():
    one, two = GroupLoss(10, 5.0, variance=4.0), GroupLoss(30, 9.0, variance=12.0)
    assert (one + two).variance == 16.0
    assert (one + two).error == pytest.approx(4.0 / 40)


def test_each_group_is_drawn_from_evenly_and_small_ones_are_whole():
    group_n = np.array([1] * 20 + [3] * 4)
    times_n = np.zeros(24)
    for seed in range(2000):
        rows = drawn(np.arange(24), group_n, 5, seed)
        assert list(rows) == sorted(set(rows)), "without replacement"
        assert (group_n[rows] == 1).sum() == 5
        times_n[rows] += 1
    assert (times_n[20:] == 2000).all()
    assert np.abs(times_n[:20] / 2000 - 0.25).max() < 0.05
    assert len(drawn(np.array([], int), np.array([], int), 5, 0)) == 0


def run(folder, **changes: Any):
    base: dict[str, Any] = {"train.warmup-rounds": 2, "federation.dtype": "float64", "precision": "float64"}
    config = settings(base | changes)
    sites = [site(name, cohort(mix, seed), config, folder) for seed, (name, mix) in enumerate(MIXES.items())]
    recorder = Recorder()
    FedRemind(config, [recorder]).run(SiteGrid(sites))
    return recorder.rounds


def test_a_run_tells_the_error_of_what_it_estimates_and_measures_everybody_once_encoders_are_frozen(tmp_path):
    exact, few = run(tmp_path / "all"), run(tmp_path / "few", **{"train.measure-patients": 4})
    again, many = (run(tmp_path / str(m), **{"train.measure-patients": m}) for m in (4, 1000))
    first, *_ = zip(exact, few, strict=True)
    assert first[0].risk_errors == {}
    assert first[1].risk_errors.keys() == first[0].risks.keys()
    for k, risk in first[0].risks.items():  # the same model, so that both are of the same patients' losses
        assert first[1].risks[k] != risk
        assert abs(first[1].risks[k] - risk) < 6 * first[1].risk_errors[k]
    assert few[0].counts == exact[0].counts
    assert all(s.count <= 4 for sites in few[0].validation_by_site.values() for s in sites.values())
    assert few[2].stage == 2
    assert few[2].risk_errors == {}
    assert {k: s.count for k, s in few[2].validation.items()} == {k: s.count for k, s in exact[2].validation.items()}
    assert [one.risks for one in again] == [one.risks for one in few], "the draw is seeded"
    for one, other in zip(many, exact, strict=True):
        assert one.risk_errors == {}
        assert one.risks == pytest.approx(other.risks, rel=1e-12)


def test_validation_patients_are_all_measured_where_something_depends_on_them(tmp_path):
    rounds = run(tmp_path, **{"train.measure-patients": 2, "train.select": "overall"})
    whole = run(tmp_path / "whole")
    assert rounds[0].validation.keys() == whole[0].validation.keys()
    assert all(rounds[0].validation[k].count == one.count for k, one in whole[0].validation.items())
    assert rounds[0].risk_errors


def test_what_does_not_go_with_it_is_refused():
    with pytest.raises(UserError, match="one patient shows no spread"):
        Config.from_flat(BASE | {"train.measure-patients": 1})
    private: dict[str, Any] = {"privacy.mode": "site", "evaluation.calibration": "none", "train.measure-patients": 8}
    with pytest.raises(UserError, match="noise is for sums over all patients"):
        Config.from_flat(private)
