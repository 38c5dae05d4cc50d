"""A share of the sites in each round: the sites that are asked, and no waiting for the others."""

import numpy as np
import pytest
import torch

from remind.config import Config, Scalar
from remind_server.rounds.member import Member
from remind_server.rounds.roster import Roster
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import BASE, settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {f"s{i}": [1, 3, 7, 5] * 4 for i in range(5)} | {"t": [2, 6, 7] * 4}


class Starts(Recorder):
    """Recorder that keeps who was asked, too."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def round_started(self, start):
        self.asked.append(start.asked)


def run(folder, **changes):
    config = Config.from_flat(BASE | {"train.warmup-rounds": 3, "train.routing-rounds": 3} | changes)
    sites = [site(n, cohort(mix, seed), config, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    recorder = Starts()
    FedRemind(config, [recorder]).run(SiteGrid(sites))
    return recorder


@pytest.fixture(scope="module")
def two_fifths(tmp_path_factory):
    """What a run said in which 40 % of the sites are asked in each round."""
    return run(tmp_path_factory.mktemp("two-fifths"), **{"federation.participation": 0.4})


def members(number):
    return [Member(i, f"site {i:03}", {1: 1}, frozenset({1})) for i in range(number)]


def drawn(share, round_, number=20, seed=0, min_sites=1):
    changes = {"federation.participation": share, "federation.min-sites": min_sites, "seed": seed}
    return sorted(Roster(settings(changes)).draw([m.name for m in members(number)], round_, {}).drawn)


@pytest.mark.parametrize(
    ("share", "number", "min_sites", "expected"),
    [
        (1.0, 20, 1, 20),
        (0.5, 20, 1, 10),
        (0.51, 20, 1, 11),
        (0.01, 20, 1, 1),
        (0.1, 20, 7, 7),
        (0.1, 3, 5, 3),
        (0.5, 0, 1, 0),
    ],
)
def test_how_many_are_asked(share, number, min_sites, expected):
    assert len(drawn(share, 0, number, min_sites=min_sites)) == expected


def test_everybody_in_order_where_all_take_part():
    assert drawn(1.0, 3) == [m.name for m in members(20)]


def test_the_draw_is_of_seed_and_round_and_fair():
    assert drawn(0.3, 5) == drawn(0.3, 5) == sorted(drawn(0.3, 5))
    assert drawn(0.3, 5) != drawn(0.3, 6)
    assert drawn(0.3, 5) != drawn(0.3, 5, seed=1)
    often = np.bincount([int(n[-3:]) for r in range(400) for n in drawn(0.3, r)], minlength=20) / 400
    assert often.mean() == pytest.approx(0.3)
    assert abs(often - 0.3).max() < 4 * np.sqrt(0.3 * 0.7 / 400)


def test_who_else_is_there_does_not_change_the_order_among_the_rest():
    roster = Roster(settings({"federation.participation": 0.5}))
    everybody = members(20)
    asked = roster.draw([m.name for m in everybody], 1, {}).drawn
    fewer = [m.name for m in everybody if m.name in asked or m.node_id % 2]
    assert roster.draw(fewer, 1, {}).drawn <= asked


def test_a_round_asks_its_share_and_the_others_are_not_absent(two_fifths):
    found = two_fifths
    assert [len(asked) for asked in found.asked] == [3] * 6
    assert len(set(found.asked)) > 1
    for asked, record in zip(found.asked, found.rounds, strict=True):
        assert record.answered == asked
        assert record.absent == {}
    assert found.result.absent == {}
    assert set(found.result.test) == set(MIXES), "everybody is examined"


def test_groups_whose_sites_were_not_asked_keep_their_blocks_and_weights(two_fifths):
    found = two_fifths
    silent = [i for i, asked in enumerate(found.asked) if "t" not in asked]
    assert silent
    for i in silent:
        record = found.rounds[i]
        assert 2 not in record.risks
        assert record.weights_after[2] == record.weights_used[2]
        if i:
            before, after = found.models[i - 1], found.models[i]
            own = [n for n in after if n.startswith(("fusion.groups.2.", "fusion.groups.6."))]
            assert own
            assert all(torch.equal(before[n], after[n]) for n in own)


def test_the_average_is_that_of_who_was_asked(tmp_path):
    """With those who are asked alone in the federation, and their weights, the shared tensors come out the same."""
    changes: dict[str, Scalar] = {
        "train.warmup-rounds": 1,
        "train.routing-rounds": 0,
        "method.objective": "erm",
        "train.optimizer": "sgd",
    }
    found = run(tmp_path / "all", **changes, **{"federation.participation": 0.4})
    config = Config.from_flat(BASE | changes)
    rows = [(seed, n) for seed, n in enumerate(MIXES) if n in found.asked[0]]
    recorder = Recorder()
    sites = [site(n, cohort(MIXES[n], seed), config, tmp_path / "few") for seed, n in rows]
    FedRemind(config, [recorder]).run(SiteGrid(sites))
    for name, tensor in recorder.models[0].items():
        if not name.startswith("fusion.groups."):
            torch.testing.assert_close(tensor, found.models[0][name], rtol=1e-5, atol=1e-6)


def test_repeatable(two_fifths, tmp_path):
    one, other = two_fifths, run(tmp_path, **{"federation.participation": 0.4})
    assert one.asked == other.asked
    assert all(torch.equal(t, other.models[-1][n]) for n, t in one.models[-1].items())


def test_a_round_that_begins_anew_or_only_looks_asks_everybody(tmp_path):
    found = run(tmp_path, **{"federation.participation": 0.2, "method.objective": "jtt"})
    sizes = [len(asked) for asked in found.asked]
    assert sizes.count(6) == 2, "jtt's look at the mistakes, and the first round after it"
    assert sizes.count(2) == 4


@pytest.mark.parametrize("rule", ["afl", "qffl", "fgdro_kl(units = 'groups')"])
def test_a_rule_that_weighs_sites_takes_it_too(rule, tmp_path):
    changes = {"method.rule": rule, "method.objective": "erm", "federation.participation": 0.5}
    found = run(tmp_path, **changes, **{"train.warmup-rounds": 1, "train.routing-rounds": 1})
    assert all(sum(r.weights_after.values()) == pytest.approx(1) for r in found.rounds)
