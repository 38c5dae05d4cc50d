"""A run that begins with the model of another run."""

import pytest
import torch

from remind.config import Config
from remind.errors import UserError
from remind.global_model import GlobalModel
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"s1": [1, 3, 7] * 5, "s2": [3, 5, 7, 7] * 4}


def config(**changes):
    return Config.from_flat(BASE | {"train.warmup-rounds": 1, "train.routing-rounds": 1} | changes)


def tensors(groups, of=None):
    """A model with values that no fresh one has."""
    built = GlobalModel.build(of or config(), schema(), groups).tensors
    return {n: torch.full_like(t, 0.25) for n, t in built.items()}


def run(folder, start, mixes=None, **changes):
    settings = config(**changes)
    sites = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate((mixes or MIXES).items())]
    recorder = Recorder()
    FedRemind(settings, [recorder], start).run(SiteGrid(sites))
    return recorder


def test_the_first_model_is_the_one_given_with_fresh_blocks_for_new_groups():
    start = tensors([1, 3])
    model = GlobalModel.begun_with(start, config(), schema(), [3, 5]).tensors
    fresh = GlobalModel.build(config(), schema(), [5]).tensors
    assert all(torch.equal(model[n], t) for n, t in start.items())
    assert {n for n in model if n not in start} == {n for n in fresh if n.startswith("fusion.groups.5.")}
    assert all(torch.equal(model[n], fresh[n]) for n in model if n not in start)


def test_a_run_without_steps_that_move_anything_ends_where_it_began(tmp_path):
    start = GlobalModel.build(config(seed=7), schema(), [1, 3, 5, 7]).tensors
    still = {"train.optimizer": "sgd", "train.lr": 1e-30, "train.routing-lr": 1e-30, "train.weight-decay": 0.0}
    recorder = run(tmp_path, start, **still)
    torch.testing.assert_close(dict(recorder.result.tensors), dict(start), rtol=0, atol=1e-9)


def test_going_on_where_another_run_ended_is_what_the_sites_measure_first(tmp_path):
    first = run(tmp_path / "one", None)
    on = run(tmp_path / "two", first.result.tensors, **{"federation.encoders": "frozen"})
    again = run(tmp_path / "three", first.result.tensors, **{"federation.encoders": "frozen"})
    fresh = run(tmp_path / "four", None, **{"federation.encoders": "frozen"})
    assert on.rounds[0].risks == again.rounds[0].risks != fresh.rounds[0].risks


def test_groups_that_nobody_trains_on_keep_what_they_came_with(tmp_path):
    start = tensors([1, 2, 3, 5, 7])
    recorder = run(tmp_path, start)
    kept = [n for n in recorder.result.tensors if n.startswith("fusion.groups.2.")]
    assert kept
    assert all(torch.equal(recorder.result.tensors[n], start[n]) for n in kept)


def test_starting_over_begins_with_the_given_model_too(tmp_path):
    start = GlobalModel.build(config(seed=7), schema(), [1, 3, 5, 7]).tensors
    still = {"train.optimizer": "sgd", "train.lr": 1e-30, "train.routing-lr": 1e-30, "train.weight-decay": 0.0}
    changes = {"method.objective": "jtt", "train.warmup-rounds": 4, "train.routing-rounds": 4}
    recorder = run(tmp_path, start, **changes, **still)
    torch.testing.assert_close(dict(recorder.result.tensors), dict(start), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda t: t | {"fusion.blocks.9.x": torch.zeros(1)}, r"fusion\.blocks\.9\.x is no tensor of this model"),
        (lambda t: t | {"nonsense": torch.zeros(1)}, "'nonsense' is not the name of a tensor"),
        (lambda t: {n: v for n, v in t.items() if n != "fusion.head.bias"}, r"fusion\.head\.bias is lacking"),
        (lambda t: {n: v for n, v in t.items() if "groups.3.miss" not in n}, r"groups\.3\.missing_D is lacking"),
        (lambda t: t | {"fusion.head.bias": torch.zeros(9)}, r"fusion\.head\.bias has shape \(9,\), here \(2,\)"),
        (lambda t: t | {"fusion.groups.64.missing_D": torch.zeros(8)}, "group 64 has modalities that the cohort lacks"),
        (lambda t: {}, "and 1[0-9] more"),
    ],
)
def test_another_model_is_refused_by_name(spoil, words, tmp_path):
    with pytest.raises(UserError, match=words):
        run(tmp_path, spoil(tensors([1, 3])))
