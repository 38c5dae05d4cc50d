"""The mean over rounds: by hand, block by block, and in a run."""

import pytest
import torch

from remind.federation.averaging import mean_of, with_mean
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site


def values(*numbers):
    return [{"a": torch.tensor(float(x)), "b": torch.tensor(2.0)} for x in numbers]


def after(models, decay, changed=("a",)):
    memory = {}
    for model in models:
        memory = with_mean(memory, model, changed, decay)
    return mean_of(memory, models[-1])


def test_by_hand():
    assert after(values(1, 3, 8), 0.999)["a"] == pytest.approx(4.0), "few rounds: the plain mean"
    # decay 0.5: 1; 1 + 1/2·(3 − 1) = 2; 2 + 1/2·(8 − 2) = 5
    assert after(values(1, 3, 8), 0.5)["a"] == pytest.approx(5.0)


def test_what_no_round_changed_stays():
    assert after(values(1, 3), 0.9)["b"] == 2.0
    assert after(values(1, 3), 0.9, changed=())["a"] == 3.0


def test_the_memory_before_is_not_changed():
    before = with_mean({}, values(1)[0], ["a"], 0.9)
    with_mean(before, values(9)[0], ["a"], 0.9)
    assert before["mean/a"] == 1


@pytest.mark.parametrize("rule", ["fedremind", "fedadam", "fedavgm", "fedyogi"])
def test_a_runs_final_model_is_the_mean_over_its_last_stage(rule, tmp_path):
    changes = {"federation.averaging": 0.9, "method.rule": rule, "train.warmup-rounds": 2, "train.routing-rounds": 3}
    if rule != "fedremind":
        changes["method.objective"] = "erm"
    config = settings(changes)
    sites = [
        site(n, cohort(m, seed), config, tmp_path) for seed, (n, m) in enumerate([("x", [1, 3] * 8), ("y", [5] * 8)])
    ]
    recorder = Recorder()
    result = FedRemind(config, [recorder]).run(SiteGrid(sites))
    last = recorder.models[2:]
    for name, tensor in result.tensors.items():
        expected = torch.stack([m[name].double() for m in last]).mean(dim=0)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-6)
    assert any(not torch.equal(t, last[-1][n]) for n, t in result.tensors.items())
