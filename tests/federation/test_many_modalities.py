"""Invariant 6: with 20 modalities memory and bytes grow with the groups observed, not with the 2^20 there could be."""

import tracemalloc

import pytest

from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort, schema
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

M = 20
WIDE = schema(names=tuple(f"m{i}" for i in range(M)), series=())
POOL = [1, 2**19, 2**20 - 2, 0b1010, 0b11 << 10, 0x5A5A5, 0xF0F0F, 0x12345]


def run(folder, groups_):
    config = settings({"model.tokens": 1, "train.local-steps": 1})
    halves = groups_[: len(groups_) // 2 + 1], groups_[len(groups_) // 2 :]
    sites = [
        site(f"s{i}", cohort(mix * 4, i, WIDE), config, folder / str(len(groups_))) for i, mix in enumerate(halves)
    ]
    recorder = Recorder()
    FedRemind(config, [recorder]).run(SiteGrid(sites))
    return recorder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide")
    found = {number: run(folder, POOL[:number]) for number in (2, 4)}  # they also import what is imported late
    tracemalloc.start()
    found[8] = run(folder, POOL)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found, peak


def test_tensors_are_those_of_observed_groups(runs):
    for number, recorder in runs[0].items():
        model = recorder.models[-1]
        assert {int(n.split(".")[2]) for n in model if ".groups." in n} == set(POOL[:number])
        assert set(recorder.rounds[-1].weights_after) == set(POOL[:number])


def test_bytes_grow_by_one_block_per_group_and_site(runs):
    found, _ = runs
    block = 4 * sum(t.numel() for n, t in found[8].models[0].items() if n.startswith("fusion.groups.1."))
    sent = {number: recorder.rounds[0].bytes_down for number, recorder in found.items()}
    assert sent == {number: recorder.rounds[0].bytes_up for number, recorder in found.items()}
    assert sent[4] - sent[2] == 2 * block
    assert sent[8] - sent[4] == 4 * block


def test_memory_does_not_hold_every_combination(runs):
    assert runs[1] < 2**20 * 8, "one number per combination of 20 modalities would already be more"


def test_everybody_is_evaluated(runs):
    result = runs[0][8].result
    assert set(result.test) == {"s0", "s1"}
    assert {k for of_site in result.test.values() for k in of_site} == set(POOL)
