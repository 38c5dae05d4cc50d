"""The first rounds on patients with many modalities: exactly the training of these patients, then of everyone."""

import numpy as np
import pytest
import torch

from remind import groups
from remind.config import Config, Scalar
from remind.errors import UserError
from remind.federation.richer import of_richer, rich
from remind.federation.site_weights import SiteWeights
from remind.methods import methods_of
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.private_sites import given_scale
from tests.builders.sites import site

MIXES = {"s1": [1, 3, 7] * 6, "s2": [3, 5, 7, 7] * 4, "s3": [1, 2] * 8}  # nobody at s3 is rich
EXACT: dict[str, Scalar] = {
    "precision": "float64",
    "federation.dtype": "float64",
    "federation.encoders": "shared",
    "method.objective": "erm",
    "train.optimizer": "sgd",
    "train.lr": 0.1,
    "train.weight-decay": 0,
    "train.schedule": "constant",
    "train.batch": 0,
    "train.warmup-rounds": 3,
    "train.routing-rounds": 0,
}


def settings(**changes: Scalar) -> Config:
    return Config.from_flat(BASE | EXACT | changes)


def run(folder, config, keep=lambda mask: True):
    members = []
    for seed, (name, mix) in enumerate(MIXES.items()):
        whole = cohort(mix, seed, of=given_scale())
        chosen = whole.take(
            np.array([keep(int(mask)) or part != 0 for mask, part in zip(whole.groups_N, whole.split_N, strict=True)])
        )
        if (chosen.split_N == 0).any():
            members.append(site(name, chosen, config, folder))
    recorder = Recorder()
    FedRemind(config, [recorder]).run(SiteGrid(members))
    return recorder


def test_who_is_rich():
    every = (1, 3, 5, 7, 8)
    assert rich(settings().train, every) == {7}
    assert rich(settings(**{"train.rich-modalities": 2}).train, every) == {3, 5, 7}
    assert rich(settings(**{"train.rich-modalities": 4}).train, every) == frozenset()


def test_weights_of_the_rich_keep_their_odds_and_sum_to_one():
    sites = {"a": {1: 10, 3: 5}, "b": {3: 5, 7: 20}}
    counts, weights = {1: 10, 3: 10, 7: 20}, {1: 0.7, 3: 0.1, 7: 0.2}
    given = {s: SiteWeights({k: weights[k] for k in own}, {k: counts[k] for k in own}) for s, own in sites.items()}
    found = of_richer(given, sites, {3, 7})
    masses = {s: one.masses(sites[s]) for s, one in found.items()}
    assert masses == {"a": pytest.approx({1: 0, 3: 1 / 6}), "b": pytest.approx({3: 1 / 6, 7: 2 / 3})}
    nothing = {s: SiteWeights({k: float(k == 1) for k in own}, {k: counts[k] for k in own}) for s, own in sites.items()}
    masses = {s: one.masses(sites[s]) for s, one in of_richer(nothing, sites, {3, 7}).items()}
    assert masses == {"a": pytest.approx({1: 0, 3: 5 / 30}), "b": pytest.approx({3: 5 / 30, 7: 20 / 30})}


@pytest.mark.parametrize("rule", ["fedremind", "fedavg", "fedprox"])
def test_the_first_rounds_are_the_training_of_the_rich_alone(rule, tmp_path):
    """Equal to a federation of hospitals that have no other training patients, tensor by tensor."""
    first: dict[str, Scalar] = {"train.rich-rounds": 2, "train.rich-modalities": 2}
    config = settings(**{"method.rule": rule, "method.fusion": "attention"} | first)
    found = run(tmp_path / "a", config)
    alone = run(
        tmp_path / "b",
        settings(**{"method.rule": rule, "method.fusion": "attention"}),
        keep=lambda mask: len(groups.members(mask)) >= 2,
    )
    for round_ in (0, 1):
        for name, tensor in alone.models[round_].items():
            torch.testing.assert_close(found.models[round_][name], tensor, rtol=0, atol=1e-10)
    assert any(not torch.allclose(found.models[2][n], t) for n, t in alone.models[2].items()), "then everyone trains"


def test_then_everyone_trains_as_ever(tmp_path):
    """The round after them is FedRemind's round from the same model: λ is where all groups' losses have moved it."""
    changes: dict[str, Scalar] = {"train.rich-rounds": 1, "method.objective": "groupdro", "dro.gamma": 0.5}
    found = run(tmp_path, settings(**changes))
    first, second = found.rounds[:2]
    assert set(first.weights_after) == {1, 2, 3, 5, 7}
    assert first.weights_after != first.weights_used
    assert second.weights_used == first.weights_after
    moved = [n for n in found.models[0] if n.startswith("fusion.groups.2.")]
    assert moved
    start = found.models[0]
    assert any(not torch.equal(found.models[1][n], start[n]) for n in moved), "groups that were not rich train now"


def test_mistakes_are_named(tmp_path):
    with pytest.raises(UserError, match="rich-rounds 4 are more than the 3 rounds"):
        settings(**{"train.rich-rounds": 4})
    with pytest.raises(UserError, match=r"train\.rich-modalities: no patient of the hospitals has 4"):
        run(tmp_path, settings(**{"train.rich-rounds": 1, "train.rich-modalities": 4}))
    assert methods_of(settings(**{"train.rich-rounds": 3}))
