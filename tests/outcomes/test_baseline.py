"""Survival stratified by hospital: each has its own baseline hazards, which stay there and which the others share."""

from dataclasses import replace

import pytest
import torch

from remind.config import Config, Scalar
from remind.data.sites.hospitals import virtual_hospitals
from remind.errors import UserError
from remind.federation.rules.base import registry as rules
from remind.methods import methods_of
from remind.metrics.scores import scores
from remind.metrics.statistics import total
from remind.outcomes.survival import Survival
from remind_server.rounds.strategy import FedRemind
from tests.builders.configs import settings
from tests.builders.fusions import context, model, patients
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

OFFSET = "fusion.baseline.offset_C"
TIMES = (0.6, 1.8)  # of an event at each hospital, in those of the synthetic cohort
OWN: dict[str, Scalar] = {"model.baseline": "hospital"}
SETTINGS: dict[str, Scalar] = {
    "synthetic.patients": 400,
    "synthetic.interaction": 0.0,
    "model.width": 16,
    "model.experts": 4,
    "model.heads": 2,
    "model.tokens": 2,
    "model.dropout": 0.0,
    "train.warmup-rounds": 12,
    "train.routing-rounds": 2,
    "train.local-steps": 10,
    "train.batch": 32,
    "train.lr": 5e-3,
    "train.routing-lr": 2e-3,
}


def test_the_number_of_a_hospital_is_added_to_each_logit():
    of, own = context(), context(baseline="hospital")
    fusion, stratified = model("attention", of, groups=(7,)), model("attention", own, groups=(7,))
    batch = patients(of, (7, 5, 2))
    offset = 3.0 * torch.tensor([0.5, -1.0, 2.0])
    assert torch.equal(batch.given_to(fusion).logits_BC, batch.given_to(stratified).logits_BC), "0 at first"
    with torch.no_grad():
        stratified.baseline.offset_C.copy_(offset / 3)
    expected = batch.given_to(fusion).logits_BC + offset
    torch.testing.assert_close(batch.given_to(stratified).logits_BC, expected)


@pytest.mark.parametrize("rule", [one.name for one in rules.methods()])
def test_it_is_sent_under_no_rule(rule):
    config = settings({"method.rule": rule, "method.objective": "erm"} | OWN)
    fusion = model("attention", context(baseline="hospital"))
    rule_of_run = rules.choose(rule)[0].build(rules.choose(rule)[1], config)
    assert not rule_of_run.sent(torch.nn.ModuleDict({"fusion": fusion}))(OFFSET)


def hospitals():
    """Two hospitals whose patients differ in nothing but the time that passes until the event."""
    config = Config.from_flat(SETTINGS | {"synthetic.outcome": "survival"})
    for one, times in zip(virtual_hospitals(config.data, config.synthetic, 0, 2), TIMES, strict=True):
        outcome = one.cohort.schema.predicts
        assert isinstance(outcome, Survival)
        time_N, event_N = one.cohort.target_NT.T
        found = outcome.encode([times * time_N, event_N])
        yield one.name, replace(one.cohort, label_N=found.label_R, target_NT=found.target_RT)


def run(folder, **changes):
    """Encoders are shared: one that stays tells at which hospital a patient is, and so has a baseline of its own."""
    shared = {"federation.encoders": "shared", "method.rule": "fedavg", "method.objective": "erm"}
    config = Config.from_flat(SETTINGS | {"synthetic.outcome": "survival"} | shared | changes)
    sites = [site(name, cohort, config, folder) for name, cohort in hospitals()]
    recorder = Recorder()
    return FedRemind(config, observers=[recorder]).run(SiteGrid(sites)), sites, recorder


def test_hospitals_that_differ_in_baseline_hazards_alone_predict_better_with_their_own(tmp_path):
    common, _, _ = run(tmp_path / "common")
    found, sites, recorder = run(tmp_path / "own", **OWN)
    for name in common.test:
        one, other = (scores(total(result.test[name])) for result in (common, found))
        assert other.integrated_brier < one.integrated_brier - 0.003
        assert other.log_loss < one.log_loss - 0.02
        assert other.c_index > 0.6
    offsets = [one.store.kept()[OFFSET] for one in sites]
    assert (offsets[0] - offsets[1]).mean() > 0.1, "where events come sooner, hazards are higher"
    assert not any(OFFSET in whole for whole in recorder.models), "the coordinator has none of them"
    for one, offset in zip(sites, offsets, strict=True):
        assert torch.equal(one.store.model().tensors[OFFSET], offset)


def test_what_it_does_not_go_with_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"(?s)model\.baseline: simmlm has losses of its own"):
        methods_of(settings({"method.fusion": "simmlm", "method.objective": "erm", "method.rule": "lg"} | OWN))
    config = Config.from_flat(SETTINGS | OWN)
    one = virtual_hospitals(config.data, config.synthetic, 0, 2)[0]
    with pytest.raises(UserError, match=r"(?s)model\.baseline = 'hospital': baseline hazards are of survival.*common"):
        site(one.name, one.cohort, config, tmp_path)
