"""Every method runs completely, local tensors stay local, and the promise of each rule holds."""

import pytest
import torch

from remind.errors import UserError
from remind.federation.rules.base import registry as rules
from remind.fusion.base import registry as fusions
from remind.methods import methods_of
from remind.objectives.base import registry as objectives
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.grids import SiteGrid
from tests.builders.method_runs import MIXES, completes, config, run, together
from tests.builders.observers import Recorder
from tests.builders.sites import site


def test_every_method_is_in_a_run():
    registered = [{m.name for m in found} for found in (fusions.methods(), objectives.methods(), rules.methods())]
    for known, names in zip(registered, zip(*together(), strict=True), strict=True):
        assert set(names) == known - {"pooled"}


@pytest.mark.parametrize(("fusion", "objective", "rule"), together())
def test_every_method(fusion, objective, rule, tmp_path):
    recorder = completes(tmp_path, config(fusion, objective, rule))
    first, last = recorder.models[0], recorder.models[-1]
    moved = {n for n, t in last.items() if not torch.equal(t, first[n])}
    assert moved or rule == "local"
    heads = {n for n in last if n.startswith("fusion.head.")}
    assert heads & moved or not heads or fusion in ("late", "simmlm")


@pytest.mark.parametrize("rule", ["afl", "drfa", "fgdro_kl", "fgdro_cvar"])
def test_rules_that_weigh_sites_weigh_groups_too(rule, tmp_path):
    completes(tmp_path, config(rule=f"{rule}(units = 'groups')"))


def test_local_sends_nothing_and_equals_each_site_by_itself(tmp_path):
    settings = config(rule="local", objective="erm", **{"train.optimizer": "sgd", "train.lr": 0.05})
    together, _ = run(tmp_path / "both", settings)
    assert all((r.bytes_down, r.bytes_up) == (0, 0) for r in together.rounds)
    for seed, name in enumerate(MIXES):
        alone = site(name, cohort(MIXES[name], seed), settings, tmp_path / "alone")
        recorder = Recorder()
        FedRemind(settings, [recorder]).run(SiteGrid([alone]))
        for k, statistics in recorder.result.test[name].items():
            assert together.result.test[name][k].loss_sum == pytest.approx(statistics.loss_sum, rel=1e-3)


def test_one_site_alone_is_the_same_whatever_the_rule(tmp_path):
    """With one site there is nothing to average: local, lg and fedremind differ in name only."""
    mixes = {"s1": MIXES["s1"]}
    settings = {"train.optimizer": "sgd"}
    found = [
        run(tmp_path / rule, config(rule=rule, objective="erm", **settings), mixes)[0].result.test["s1"]
        for rule in ("local", "lg", "fedremind", "fedprox(mu = 0.0)")
    ]
    for other in found[1:]:
        for k, statistics in found[0].items():
            assert other[k].loss_sum == pytest.approx(statistics.loss_sum, rel=1e-5)


def test_fedrep_keeps_each_sites_head(tmp_path):
    recorder, (one, other) = run(tmp_path, config(rule="fedrep", objective="erm"))
    assert not any("head" in name for name in recorder.models[-1])
    heads = [s.store.kept()["fusion.head.weight"] for s in (one, other)]
    assert not torch.equal(*heads)


def test_ditto_uses_a_model_of_its_own_near_the_global_one(tmp_path):
    distance = []
    for mu in (50.0, 0.0):
        recorder, sites = run(tmp_path / str(mu), config(rule=f"ditto(mu = {mu})", objective="erm"))
        kept = sites[0].store.kept()
        shared = [(kept[f"ditto/{n}"], t) for n, t in recorder.models[-1].items() if f"ditto/{n}" in kept]
        distance.append(sum(float((own - t).square().sum()) for own, t in shared))
    assert 0 < distance[0] < distance[1]


def test_fedprox_holds_the_sites_near_what_they_received(tmp_path):
    moved = []
    for mu in (0.0, 100.0):
        settings = config(rule=f"fedprox(mu = {mu})", objective="erm", **{"train.optimizer": "sgd", "train.lr": 0.005})
        recorder, _ = run(tmp_path / str(mu), settings)
        first, last = recorder.models[0], recorder.models[-1]
        moved.append(sum(float((last[n] - t).square().sum()) for n, t in first.items()))
    assert moved[1] < moved[0]


def test_jtt_starts_over_and_remembers_its_mistakes(tmp_path):
    settings = config(objective="jtt")
    assert [p.restart for p in methods_of(settings).objective.phases(4)] == [False, False, True]
    recorder, (one, _) = run(tmp_path, settings)
    looked = recorder.models[1]
    assert all(torch.equal(t, recorder.models[0][n]) for n, t in looked.items()), "a look moves nothing"
    kept = one.store.kept()["objective/wrong"]
    assert len(kept) == sum(one.engine.patients.counts.values())


def test_dfr_moves_the_head_alone_at_the_end(tmp_path):
    recorder, _ = run(tmp_path, config(objective="dfr"))
    last = {n for n, t in recorder.models[-1].items() if not torch.equal(t, recorder.models[-2][n])}
    assert last == {"fusion.head.weight", "fusion.head.bias"}


def test_logit_adjustment_alone_asks_for_labels(tmp_path):
    for objective, asks in (("logit_adjustment", True), ("groupdro", False)):
        one = site("s", cohort(MIXES["s1"]), config(objective=objective), tmp_path / objective)
        enrolment = one.enrol()
        assert bool(enrolment.labels) == asks
        assert all(sum(n) == enrolment.counts[k] for k, n in enrolment.labels.items())


def test_pooled_is_one_site_and_two_are_refused(tmp_path):
    with pytest.raises(UserError, match="pooled needs all patients at one site, and there are 2"):
        run(tmp_path / "two", config(rule="pooled"))
    recorder, _ = run(tmp_path / "one", config(rule="pooled"), {"pooled": MIXES["s1"] + MIXES["s2"]})
    assert set(recorder.result.test) == {"pooled"}
