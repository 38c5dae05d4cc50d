"""Equal seeds give equal models; the order of nodes does not matter; absent and new sites."""

import math

import pytest
import torch
from flwr.app import RecordDict

from remind.config import Scalar
from remind_server.rounds.strategy import FedRemind
from remind_server.simulation.simulate import simulate
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import KnownAnswers, SiteGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"s1": [1, 1, 3] * 5, "s2": [3, 5, 7] * 5, "s3": [2, 6] * 6}
KNOWN: dict[str, RecordDict] = {}  # where the order of sites and answers is all that differs between runs


def sites(folder, **changes):
    config = settings(changes)
    return [site(name, cohort(mix, seed), config, folder) for seed, (name, mix) in enumerate(MIXES.items())]


def virtual(folder, **changes):
    own: dict[str, Scalar] = {
        "synthetic.patients": 150,
        "results": str(folder),
        "model.dropout": 0.2,
        "model.hide": 0.2,
    }
    return simulate(settings(own | changes), 3)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return virtual(tmp_path_factory.mktemp("first"))


def same(a, b) -> bool:
    return a.weights == b.weights and all(torch.equal(a.tensors[n], b.tensors[n]) for n in a.tensors)


def test_the_same_seed_gives_the_same_model(first, tmp_path):
    second = virtual(tmp_path / "2")
    assert same(first, second)
    assert first.test.keys() == second.test.keys() == {"site-1", "site-2", "site-3"}
    for name in first.test:
        for k, statistics in first.test[name].items():
            assert statistics.loss_sum == second.test[name][k].loss_sum
    assert not same(first, virtual(tmp_path / "3", seed=1))


def test_what_a_model_compares_patients_with_does_not_depend_on_the_process(tmp_path):
    """In stage 1 a retrieving model encodes its support again: without dropout, from nobody's random numbers."""
    found = []
    for before in (1, 2):
        torch.manual_seed(before)
        changes: dict[str, Scalar] = {
            "method.fusion": "moe_retriever",
            "train.warmup-rounds": 2,
            "train.routing-rounds": 0,
            "synthetic.patients": 90,
        }
        found.append(virtual(tmp_path / str(before), **changes))
    assert same(*found)


def test_results_say_lambda_and_counts(first):
    assert first.config.seed == 0
    assert set(first.weights) == set(first.counts)
    assert math.fsum(first.weights.values()) == pytest.approx(1, abs=1e-12)
    assert any(w != pytest.approx(1 / len(first.weights)) for w in first.weights.values())


def test_the_order_of_nodes_does_not_matter(tmp_path):
    results = []
    for number, order in enumerate(([0, 1, 2], [2, 0, 1], [1, 2, 0])):
        three = sites(tmp_path / str(number))
        results.append(FedRemind(three[0].config).run(KnownAnswers([three[i] for i in order], KNOWN)))
    assert same(results[0], results[1])
    assert same(results[0], results[2])


@pytest.mark.parametrize("silent", [None, 2, 3, 4])
def test_who_answers_first_does_not_matter_and_one_silent_hospital_costs_the_others_nothing(tmp_path, silent):
    """Answers come in reversed order, in seconds of a round of 60; training messages of `silent` never."""

    def run(folder, seconds):
        def of(message):
            kind, node = message.metadata.message_type, message.metadata.dst_node_id
            return math.inf if node == silent and kind == "train" else seconds[node]

        recorder, config, three = Recorder(), settings({"federation.deadline": 60.0}), sites(folder)
        result = FedRemind(config, [recorder]).run(KnownAnswers(three, KNOWN, of))
        return result, recorder.rounds

    first, rounds = run(tmp_path / "1", {2: 1.0, 3: 2.0, 4: 3.0})
    second, _ = run(tmp_path / "2", {2: 3.0, 3: 2.0, 4: 1.0})
    names = {2: "s1", 3: "s2", 4: "s3"}
    for record in rounds:
        assert record.answered == tuple(name for node, name in names.items() if node != silent)
        assert record.absent.keys() == ({names[silent]} if silent else set())
        assert all(why.startswith("no answer within") for why in record.absent.values())
    assert same(first, second)


class Coming(SiteGrid):
    """Nodes that are there in some rounds only: the listing changes with the number of rounds done."""

    def __init__(self, members, there):
        super().__init__(members)
        self.there, self.recorder = there, Recorder()

    def get_node_ids(self):
        done = len(self.recorder.rounds)
        return [n for n in super().get_node_ids() if done in self.there.get(n, range(99))]

    def get_nodes(self):
        ids = set(self.get_node_ids())
        return [node for node in super().get_nodes() if node.node_id in ids]


def follow(folder, there, rounds=2, **changes):
    """A run of `rounds` rounds of each stage."""
    three = sites(folder, **({"train.warmup-rounds": rounds, "train.routing-rounds": rounds} | changes))
    grid = Coming(three, there)
    FedRemind(three[0].config, [grid.recorder]).run(grid)
    return grid.recorder


def test_a_site_that_leaves_is_named_and_what_it_alone_carries_stays(tmp_path):
    recorder = follow(tmp_path, {4: [0, 3, 4]})
    assert [dict(r.absent) for r in recorder.rounds] == [{}, {"s3": "not connected"}, {"s3": "not connected"}, {}]
    lone = [n for n in recorder.models[0] if n.startswith(("fusion.groups.2.", "fusion.groups.6."))]
    for name in lone:
        assert torch.equal(recorder.models[0][name], recorder.models[1][name])
        assert torch.equal(recorder.models[0][name], recorder.models[2][name])
        assert not torch.equal(recorder.models[2][name], recorder.models[3][name])
    for k in (2, 6):
        assert recorder.rounds[0].weights_after[k] == recorder.rounds[2].weights_after[k]
        assert k not in recorder.rounds[1].risks
    assert recorder.rounds[1].counts == recorder.rounds[0].counts, "it is still of the federation: n_k stays"


def test_a_newcomer_brings_its_groups(tmp_path):
    recorder = follow(tmp_path, {4: range(1, 99)})
    assert set(recorder.rounds[0].weights_used) == {1, 3, 5, 7}
    assert set(recorder.rounds[1].weights_used) == {1, 2, 3, 5, 6, 7}
    before, after = recorder.rounds[0].weights_after, recorder.rounds[1].weights_used
    assert after[2] == after[6] == pytest.approx(1 / 6)
    assert after[1] / after[7] == pytest.approx(before[1] / before[7])
    assert recorder.rounds[1].answered == ("s1", "s2", "s3")
    assert {n.split(".")[2] for n in recorder.models[-1] if ".groups." in n} == {"1", "2", "3", "5", "6", "7"}


def test_lambda_that_has_left_a_whole_site_does_not_stop_the_run(tmp_path):
    """γ so large that λ of all but one group is nearly 0: its sites have nearly no share, and the run continues."""
    recorder = follow(tmp_path, {}, **{"dro.gamma": 1e6, "dro.max-log-odds-step": 1e6})
    *_, second, first = sorted(recorder.rounds[-1].weights_after.values())
    assert first == 1.0
    assert 0 < second < 1e-200
    assert [r.absent for r in recorder.rounds] == [{}] * 4


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_every_type_travels(dtype, precision, tmp_path):
    changes: dict[str, Scalar] = {"federation.dtype": dtype, "precision": precision, "train.routing-rounds": 0}
    recorder = follow(tmp_path, {}, rounds=1, **changes)
    assert {t.dtype for t in recorder.models[-1].values()} == {getattr(torch, precision)}
    size = {"bfloat16": 2, "float32": 4, "float64": 8}[dtype]
    own = [sum(t.numel() for n, t in recorder.models[0].items() if carried(n, set(mix))) for mix in MIXES.values()]
    assert recorder.rounds[0].bytes_up == recorder.rounds[0].bytes_down == size * sum(own)


def carried(name, groups):
    return not name.startswith("fusion.groups.") or int(name.split(".")[2]) in groups
