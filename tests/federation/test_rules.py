"""Federated rules: each one's step against its paper, at known numbers or a slow reference."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from flwr.serverapp.strategy.qfedavg import compute_delta_and_h
from hypothesis import given
from hypothesis import strategies as st

from remind.config import Config
from remind.errors import UserError
from remind.federation.aggregation import BlockAverage
from remind.federation.rules.qffl import QFedAvg
from remind.federation.rules.simplex import ascend, project
from remind.federation.site_weights import Spanning, Within, total
from remind.methods import methods_of
from remind.metrics.statistics import GroupLoss
from remind.objectives.weighting import Proportional, WeightState
from remind.training.work import RoundSettings

SITES = {"a": {1: 30, 3: 10}, "b": {3: 40}, "c": {1: 10, 2: 10}}


def rule(text, **changes):
    return methods_of(Config.from_flat({"method.rule": text, "method.objective": "erm"} | changes)).rule


def masses(weighing, state):
    return {s: weighing.for_site(state, SITES, s).masses(SITES[s]) for s in SITES}


def losses(**of_site):
    return {s: {k: GroupLoss(SITES[s][k], SITES[s][k] * r) for k, r in risks.items()} for s, risks in of_site.items()}


# What patients weigh


@pytest.mark.parametrize("objective", ["erm", "groupdro", "cvar(alpha = 0.5)", "balanced"])
@pytest.mark.parametrize("kind", [Spanning, lambda o: Within(Proportional(), o)])
def test_masses_are_a_distribution_before_and_after_a_round(kind, objective):
    weighing = kind(methods_of(Config.from_flat({"method.objective": objective})).objective)
    state = weighing.initial(SITES)
    for measured in (losses(a={1: 0.5, 3: 0.1}, b={3: 0.9}), losses(c={1: 2.0, 2: 0.3}), {}):
        state = weighing.update(state, SITES, measured, 0.0, 5)
        found = masses(weighing, state)
        assert sum(m for own in found.values() for m in own.values()) == pytest.approx(1)
        shown = weighing.shown(state, SITES)
        assert shown == pytest.approx({k: sum(own.get(k, 0) for own in found.values()) for k in total(SITES)})


def test_a_rule_that_knows_no_groups_weighs_sites_by_patients_whatever_their_groups_weigh():
    for objective in ("erm", "groupdro", "balanced"):
        weighing = Within(Proportional(), methods_of(Config.from_flat({"method.objective": objective})).objective)
        found = masses(weighing, weighing.initial(SITES))
        assert {s: sum(m.values()) for s, m in found.items()} == pytest.approx({"a": 0.4, "b": 0.4, "c": 0.2})
    assert found["a"] == pytest.approx({1: 0.2, 3: 0.2}), "balanced within the site"


def test_groups_within_a_site_move_by_its_own_losses_alone():
    weighing = Within(
        Proportional(), methods_of(Config.from_flat({"dro.gamma": 1.0, "dro.initial": "uniform"})).objective
    )
    state = weighing.update(weighing.initial(SITES), SITES, losses(a={1: 1.0, 3: 0.0}), 0.0, 1)
    assert state.groups["a"].weights[1] / state.groups["a"].weights[3] == pytest.approx(np.e)
    assert state.groups["c"].weights == weighing.initial(SITES).groups["c"].weights


def test_erm_with_groups_that_span_sites_and_within_sites_weighs_every_patient_alike():
    erm = methods_of(Config.from_flat({"method.objective": "erm"})).objective
    for weighing in (Spanning(erm), Within(Proportional(), erm)):
        found = masses(weighing, weighing.initial(SITES))
        assert all(m == pytest.approx(SITES[s][k] / 100) for s, own in found.items() for k, m in own.items())


# Rules that weigh


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6), st.integers(0, 10**6))
def test_projection_is_the_nearest_point_of_the_simplex(values, seed):
    found = np.array(list(project(dict(enumerate(values))).values()))
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    others = np.random.default_rng(seed).dirichlet(np.ones(len(values)), 50)
    nearest = ((found - values) ** 2).sum()
    assert all(nearest <= ((other - values) ** 2).sum() + 1e-9 for other in others)


def test_ascent_leaves_the_silent_alone():
    found = ascend({"a": 0.5, "b": 0.3, "c": 0.2}, {"a": 1.0, "b": 0.0}, 0.1)
    assert found["c"] == 0.2
    assert found == pytest.approx({"a": 0.55, "b": 0.25, "c": 0.2})


def test_afl_climbs_from_the_sites_shares():
    one = rule("afl(step = 0.1)")
    weighing = one.weighing(methods_of(Config.from_flat({"method.objective": "erm"})).objective)
    state = weighing.initial(SITES)
    assert state.sites.weights == {"a": 0.4, "b": 0.4, "c": 0.2}
    moved = weighing.update(state, SITES, losses(a={1: 0.0, 3: 0.0}, b={3: 1.0}, c={1: 0.0, 2: 0.0}), 0.0, 20)
    assert moved.sites.weights == pytest.approx({"a": 0.4 - 1 / 30, "b": 0.4 + 2 / 30, "c": 0.2 - 1 / 30})


def test_drfa_climbs_by_all_local_steps():
    state, counts = WeightState({"a": 0.5, "b": 0.5}), {"a": 1, "b": 1}
    one = rule("drfa(step = 0.01)").update(state, {"a": 1.0, "b": 0.0}, counts, 10)
    assert one.weights == pytest.approx({"a": 0.55, "b": 0.45})


@pytest.mark.parametrize("local_steps", [1, 2, 4])
def test_drfa_measures_after_one_step_to_all_of_them(local_steps):
    """t' is drawn from 1 … τ: never the model as received, which afl measures, and every moment comes up."""
    moments, one = set(), rule("drfa")
    for seed in range(60):
        done: list[int] = []
        work = SimpleNamespace(
            settings=RoundSettings(round_seed=seed),
            plan=[None] * local_steps,
            steps=lambda first, last, done=done: done.append((last or local_steps) - first),
            measure=lambda done=done: sum(done),
        )
        moments.add(one.work(work))
        assert sum(done) == local_steps
    assert moments == set(range(1, local_steps + 1))


def test_drfa_without_steps_leaves_the_losses_as_measured():
    assert rule("drfa").work(SimpleNamespace(plan=[])) is None


@pytest.mark.parametrize("units", ["sites", "groups"])
def test_fgdro_kl_is_the_prior_tilted_by_the_averaged_risks(units):
    one = rule(f"fgdro_kl(mu = 0.5, beta = 0.25, units = '{units}')")
    counts = {1: 75, 2: 25}
    state = one.update(one.initial(counts), {1: 1.0, 2: 2.0}, counts, 1)
    state = one.update(state, {1: 3.0}, counts, 1)
    u = {1: 0.75 * 1.0 + 0.25 * 3.0, 2: 2.0}
    raised = {k: counts[k] * np.exp(u[k] / 0.5) for k in counts}
    assert state.weights == pytest.approx({k: v / sum(raised.values()) for k, v in raised.items()})


def test_fgdro_cvar_is_the_worst_share_of_the_averaged_risks():
    one = rule("fgdro_cvar(alpha = 0.5, beta = 1.0)")
    counts = dict.fromkeys("abcd", 1)
    state = one.update(one.initial(counts), {"a": 1.0, "b": 4.0, "c": 3.0, "d": 2.0}, counts, 1)
    assert state.weights == pytest.approx({"a": 0.0, "b": 0.5, "c": 0.5, "d": 0.0})


# q-FedAvg


@pytest.mark.parametrize("q", [0.0, 0.5, 1.0, 3.0])
def test_q_fedavg_equals_flowers(q):
    """Flower's own arithmetic, where all sites have as many patients, is the reference."""
    generator, lr = np.random.default_rng(0), 0.05
    sent = [generator.normal(size=shape) for shape in ((3, 2), (4,))]
    replies = [[w + 0.1 * generator.normal(size=w.shape) for w in sent] for _ in range(3)]
    risks = [0.3, 0.9, 0.5]
    mine, global_ = QFedAvg(q, 1 / lr), {f"fusion.x.{i}": torch.tensor(w) for i, w in enumerate(sent)}
    deltas, hs = [], []
    for reply, risk in zip(replies, risks, strict=True):
        tensors = {f"fusion.x.{i}": torch.tensor(w) for i, w in enumerate(reply)}
        mine.add(tensors, {"shared": 1 / 3}, global_, {1: GroupLoss(4, 4 * risk)})
        delta, h = compute_delta_and_h([w.copy() for w in sent], [w.copy() for w in reply], q, 1 / lr, risk)
        deltas.append(delta)
        hs.append(h)
    for i, (name, tensor) in enumerate(mine.apply(global_).items()):
        expected = sent[i] - sum(delta[i] for delta in deltas) / sum(hs)
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-8, err_msg=name)


def test_q_of_zero_is_the_average():
    generator = torch.Generator().manual_seed(0)
    sent = {"fusion.x.w": torch.randn(5, generator=generator)}
    step, average = QFedAvg(0.0, 7.0), BlockAverage()
    for share in (0.5, 0.3, 0.2):
        reply = {"fusion.x.w": torch.randn(5, generator=generator)}
        step.add(reply, {"shared": share}, sent, {1: GroupLoss(1, 0.4)})
        average.add(reply, {"shared": share})
    torch.testing.assert_close(step.apply(sent), average.apply(sent))


# What does not go together


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method.rule": "fedavg"}, ["fedavg", "federation.encoders", "'shared'"]),
        ({"method.rule": "lg", "federation.encoders": "shared"}, ["lg", "'local' or 'frozen'"]),
        ({"method.rule": "afl"}, ["afl", "groupdro", "erm"]),
        ({"method.rule": "nosuch"}, ["method.rule", "'nosuch'", "fedremind", "ditto"]),
        ({"method.objective": "cvar(alpa = 0.1)"}, ["cvar(alpha = 0.1)", "alpa"]),
        ({"method.objective": "cvar(alpha = 2)"}, ["alpha", "less than or equal to 1"]),
        ({"method.objective": "cvar(alpha 2)"}, ["name = value"]),
        ({"method.fusion": "simmlm", "train.ranking": 0.1}, ["train.ranking", "simmlm(", "ranking = 0.1"]),
        ({"method.fusion": "flexmo"}, ["method.fusion", "flexmoe"]),
    ],
)
def test_the_senseless_is_refused_with_the_reason(changes, words):
    with pytest.raises(UserError) as error:
        methods_of(Config.from_flat(changes))
    assert all(word in str(error.value) for word in words)
