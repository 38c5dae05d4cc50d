"""Encoders that learn without labels before the first round, in a run: they stay, and survive a restart."""

import pytest
import torch

from remind.config import Config
from remind.errors import UserError
from remind.training.pretraining import pretrain
from remind_client.engine import model_state
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE, settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

ROUNDS = "model.encoders.pretraining-rounds"
MIXES = {"s1": [1, 3, 7] * 20, "s2": [3, 5, 7] * 20}


def sites(folder, **changes):
    given = settings({ROUNDS: 2, "model.dropout": 0.2, "model.hide": 0.2} | changes)
    return [site(name, cohort(mix, seed), given, folder) for seed, (name, mix) in enumerate(MIXES.items())]


def run(grid, config):
    recorder = Recorder()
    FedRemind(config, [recorder]).run(grid)
    return recorder


def assert_same(one, other):
    for a, b in zip(one.models, other.models, strict=True):
        assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("encoders", ["local", "frozen"])
def test_a_process_for_every_message_gives_the_same_model_and_learns_once(encoders, tmp_path, monkeypatch):
    """As in a deployment. Frozen encoders are stored too, and not learned again in every process."""
    learned = []

    def counted(*given, learn=pretrain):
        learned.append(1)
        learn(*given)

    monkeypatch.setattr(model_state, "pretrain", counted)
    one = sites(tmp_path / "one", **{"federation.encoders": encoders})

    class Fresh(SiteGrid):
        def _work(self, message):
            return SiteGrid(sites(tmp_path / "fresh", **{"federation.encoders": encoders}))._work(message)

    kept = run(SiteGrid(one), one[0].config)
    assert len(learned) == len(MIXES)
    assert_same(kept, run(Fresh(one), one[0].config))
    assert len(learned) == 2 * len(MIXES)
    assert not any(name.startswith("encoders.") for name in kept.models[-1])
    plain = sites(tmp_path / "plain", **{"federation.encoders": encoders, ROUNDS: 0})
    without = run(SiteGrid(plain), plain[0].config)
    name = "fusion.head.weight"
    assert not torch.equal(kept.models[-1][name], without.models[-1][name]), "it does something"


def test_a_training_that_begins_again_begins_with_what_was_learned(tmp_path):
    """Just train twice: its second training has the initial encoders, which learn without labels again."""
    given = sites(
        tmp_path,
        **{
            "method.objective": "jtt",
            "train.warmup-rounds": 2,
            "train.routing-rounds": 2,
            "federation.encoders": "local",
        },
    )
    state = given[0].engine.state
    state._pretrain()
    learned = {name: tensor.clone() for name, tensor in state.model.encoders.state_dict().items()}
    run(SiteGrid(given), given[0].config)
    state.reset()
    state._pretrain()
    again = state.model.encoders.state_dict()
    assert all(torch.equal(again[name], learned[name]) for name in learned)


def test_a_training_that_begins_again_keeps_a_hospitals_own_models(tmp_path):
    given = sites(tmp_path, **{ROUNDS: 0, "model.encoders.alone": "linear", "method.objective": "jtt"})[0]
    run(SiteGrid([given]), given.config)
    before = given.engine.model.encoders["@alone"].state_dict()["content_T"].clone()
    given.engine.state.reset()
    assert torch.equal(given.engine.model.encoders["@alone"].state_dict()["content_T"], before)
    assert len(before) > 100


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"federation.encoders": "shared"}, "the first message replaces what a hospital's encoders have learned"),
        ({"privacy.mode": "site"}, "pretraining-rounds fits on patients without noise; leave it out"),
        (
            {
                "privacy.mode": "joint",
                "federation.secure-aggregation": True,
                "federation.encoders": "frozen",
                "train.local-steps": 1,
            },
            "pretraining-rounds fits on patients without noise; leave it out",
        ),
    ],
)
def test_what_does_not_go_with_it_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        Config.from_flat(BASE | {ROUNDS: 2} | changes)
