"""FedDG-GA: the weights are those of a loop over rounds and sites; gaps of equal size change nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.rules.feddg_ga import adjusted
from remind.methods import methods_of
from remind.metrics.statistics import GroupLoss
from remind.secure_settings import require_summable
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid, WireGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

SITES = {"a": {1: 30, 3: 10}, "b": {3: 40}, "c": {1: 10, 2: 10}}


def weighing(step=0.2):
    settings: dict[str, Scalar] = {"method.rule": f"feddg_ga(step = {step})", "method.objective": "erm"}
    return methods_of(Config.from_flat(settings)).weighing


def losses(means):
    """Each site's mean loss, with another loss in each group."""
    found = {}
    for name, mean in means.items():
        own = SITES[name]
        whole, number = mean * sum(own.values()), len(own)
        found[name] = {k: GroupLoss(n, whole / number) for k, n in own.items()}
    return found


def test_weights_are_the_papers():
    """The loop of algorithm 1: gaps against the models of the round before, normalised, clipped, normalised."""
    rng, rounds, step = np.random.default_rng(0), 8, 0.4
    one, before = weighing(step), None
    state = one.initial(SITES)
    expected = np.array([0.4, 0.4, 0.2])
    for r in range(rounds):
        received, local = rng.uniform(0.3, 2.0, 3), rng.uniform(0.1, 1.0, 3)
        state = one.compare(state, *(losses(dict(zip("abc", x, strict=True))) for x in (received, local)), r / rounds)
        if before is not None:
            gap = received - before
            centred = gap - gap.mean()
            expected = expected + step * (1 - r / rounds) * centred / np.abs(centred).max()
            expected = np.clip(expected, 0, 1)
            expected = expected / expected.sum()
        before = local
        assert [state.sites.weights[s] for s in "abc"] == pytest.approx(expected, abs=1e-12)
    assert not np.allclose(expected, [0.4, 0.4, 0.2])


def test_masses_follow_and_stay_a_distribution():
    one = weighing()
    state = one.compare(one.initial(SITES), losses({"a": 1, "b": 1, "c": 1}), losses({"a": 0.2, "b": 0.9, "c": 0.9}), 0)
    state = one.compare(state, losses({"a": 1, "b": 1, "c": 1}), {}, 0.0)
    masses = {s: sum(one.for_site(state, SITES, s).masses(SITES[s]).values()) for s in SITES}
    assert sum(masses.values()) == pytest.approx(1)
    assert masses["a"] == pytest.approx(0.4 + 0.2)


UNIT = st.floats(0, 1)


@given(
    raw=st.lists(UNIT, min_size=3, max_size=3).filter(lambda found: sum(found) > 0.1),
    gaps=st.lists(st.floats(-7, 7), min_size=3, max_size=3),
    step=st.floats(0.01, 0.9),
)
def test_no_site_gains_more_in_a_round_than_the_step_whatever_it_reports(raw, gaps, step):
    before = {s: w / sum(raw) for s, w in zip("abc", raw, strict=True)}
    after = adjusted(before, dict(zip("abc", gaps, strict=True)), step)
    assert sum(after.values()) == pytest.approx(1)
    assert all(0 <= after[s] <= before[s] + step + 1e-9 for s in before)


def test_a_site_that_lies_in_every_round_takes_all_weight_after_some_rounds():
    """docs/threat-model.md says so: a round is bounded, a run is not."""
    weights, rounds = {"a": 0.25, "b": 0.25, "c": 0.25, "liar": 0.25}, 0
    while weights["liar"] < 1:
        after = adjusted(weights, {"a": 0.1, "b": 0.1, "c": 0.1, "liar": 6.9}, 0.2)
        assert after["liar"] <= weights["liar"] + 0.2 + 1e-12
        weights, rounds = after, rounds + 1
    assert rounds == 4


def test_equal_gaps_change_nothing():
    one = weighing()
    state = one.compare(one.initial(SITES), {}, losses({"a": 0.1, "b": 0.2, "c": 0.7}), 0.0)
    after = one.compare(state, losses({"a": 0.4, "b": 0.5, "c": 1.0}), {}, 0.1)
    assert after.sites.weights == pytest.approx(one.initial(SITES).sites.weights)


def test_a_silent_site_keeps_its_weight_and_its_memory():
    one = weighing()
    state = one.compare(one.initial(SITES), {}, losses({"a": 0.5, "b": 0.5, "c": 0.5}), 0.0)
    after = one.compare(state, losses({"a": 0.9, "c": 0.6}), losses({"a": 0.4, "c": 0.4}), 0.0)
    assert after.sites.weights["b"] == 0.4
    assert after.sites.memory == pytest.approx({"a": 0.4, "b": 0.5, "c": 0.4})
    assert after.sites.weights["a"] == pytest.approx(0.6 * 0.6 / (0.6 + 0.0))


def test_newcomers_have_an_equal_share():
    one = weighing()
    more = SITES | {"d": {1: 1000}}
    state = one.admit(one.initial(SITES), more)
    assert state.sites.weights["d"] == pytest.approx(0.25)
    assert state.sites.weights["a"] / state.sites.weights["c"] == pytest.approx(2)


# In a run

MIXES = {"s1": [1, 3, 7] * 5, "s2": [3, 5, 7, 7] * 4}


def settings(rule: str) -> Config:
    changes: dict[str, Scalar] = {"method.rule": rule, "method.objective": "erm", "federation.encoders": "shared"}
    return Config.from_flat(BASE | {"method.fusion": "attention", "train.warmup-rounds": 3} | changes)


def test_sites_report_the_losses_of_their_own_models(tmp_path):
    """After the steps they lose less than before; under another rule nothing of it is in a message."""
    for rule, asked in (("feddg_ga", True), ("fedavg", False)):
        config = settings(rule)
        grid = WireGrid([site(n, cohort(m, i), config, tmp_path / rule) for i, (n, m) in enumerate(MIXES.items())])
        recorder = Recorder()
        FedRemind(config, [recorder]).run(grid)
        reports = [answer for kind, answer, _ in grid.answers if kind == "train"]
        assert reports
        assert all((report.local.keys() == report.train.keys()) == asked for report in reports)
        if asked:
            before, after = (sum(v.loss_sum for v in getattr(reports[0], k).values()) for k in ("train", "local"))
            assert after < before
            weights = [r.weights_after for r in recorder.rounds]
            assert weights[0] == pytest.approx(recorder.rounds[0].weights_used)  # nothing to compare with yet
            assert weights[1] != pytest.approx(weights[0])


def test_one_site_has_nobody_to_compare_with(tmp_path):
    found = []
    for rule in ("feddg_ga", "fedavg"):
        config, recorder = settings(rule), Recorder()
        FedRemind(config, [recorder]).run(SiteGrid([site("s1", cohort(MIXES["s1"]), config, tmp_path / rule)]))
        found.append(recorder.models[-1])
    assert all(np.allclose(t, found[1][n]) for n, t in found[0].items())


def test_masked_rounds_refuse_it():
    changes: dict[str, Scalar] = {"method.rule": "feddg_ga", "method.objective": "erm", "train.select": "last"}
    with pytest.raises(UserError, match="each site's own losses"):
        require_summable(Config.from_flat(changes | {"federation.secure-aggregation": True}))
