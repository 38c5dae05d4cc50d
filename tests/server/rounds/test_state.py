"""The coordinator's state, saved and loaded: a run then ends with the same bits."""

from functools import cache

import pytest
import torch
from flwr.app import RecordDict
from safetensors.torch import save_file

from remind.errors import UserError
from remind.federation.site_weights import Spanning, Within
from remind.objectives.weighting import Proportional
from remind_server.rounds.course import Course
from remind_server.rounds.state import State
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.grids import KnownAnswers
from tests.builders.method_runs import MIXES, config
from tests.builders.observers import Recorder
from tests.builders.sites import site


class Forgetful(FedRemind):
    """A coordinator that between two rounds is nothing but a file."""

    def __init__(self, settings, observers, path):
        super().__init__(settings, observers)
        self.path = path

    def _round(self, grid, state):
        super()._round(grid, state).save(self.path, self.methods.weighing)
        return State.load(self.path, self.methods.weighing)


KNOWN: dict[str, RecordDict] = {}  # the coordinators are what differs between runs


def finished(folder, settings, make):
    recorder = Recorder()
    sites = [site(n, cohort(mix, seed), settings, folder) for seed, (n, mix) in enumerate(MIXES.items())]
    make(settings, [recorder]).run(KnownAnswers(sites, KNOWN))
    return recorder


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """What was seen of an uninterrupted run of this rule and objective."""
    return cache(lambda rule, objective: finished(tmp_path_factory.mktemp("plain"), chosen(rule, objective), FedRemind))


def chosen(rule, objective):
    return config(rule=rule, objective=objective, **{"dro.regret": True})


@pytest.mark.parametrize(
    ("rule", "objective"),
    [
        *((name, "groupdro") for name in ("fedremind", "lg", "fedavgm", "fedadam", "fedyogi")),
        ("fgdro_kl", "erm"),
        ("fedadam", "jtt"),
        ("fedavgm", "dfr"),
    ],
)
def test_a_run_from_file_to_file_is_the_run(rule, objective, plain, tmp_path):
    run, settings = plain(rule, objective), chosen(rule, objective)
    other = finished(tmp_path / "other", settings, lambda s, o: Forgetful(s, o, tmp_path / "state.safetensors"))
    for models in zip(run.models, other.models, strict=True):
        assert models[0].keys() == models[1].keys()
        assert all(torch.equal(models[0][n], models[1][n]) for n in models[0])
    assert [r.weights_after for r in run.rounds] == [r.weights_after for r in other.rounds]


@pytest.mark.parametrize("rule", ["fedavgm", "fedadam", "fedyogi"])
def test_a_look_moves_nothing_and_a_last_layer_alone_moves_alone_whatever_is_remembered(rule, plain):
    looked = plain(rule, "jtt").models
    assert all(torch.equal(t, looked[0][n]) for n, t in looked[1].items())
    ends = plain(rule, "dfr").models
    assert {n for n, t in ends[-1].items() if not torch.equal(t, ends[-2][n])} <= {
        "fusion.head.weight",
        "fusion.head.bias",
    }


def test_the_memory_begins_anew_in_stage_two(tmp_path, monkeypatch):
    memories, stepped = [], Course.stepped

    def watched(course, state, replies, weights, answered):
        memories.append(dict(state.memory))
        return stepped(course, state, replies, weights, answered)

    monkeypatch.setattr(Course, "stepped", watched)
    finished(tmp_path, config(rule="fedadam"), FedRemind)
    assert [bool(memory) for memory in memories] == [False, True, False, True]


def test_what_is_no_state_of_this_run_is_refused(tmp_path):
    spanning, within = Spanning(Proportional()), Within(Proportional(), Proportional())
    path = tmp_path / "state.safetensors"
    finished(tmp_path / "run", config(), lambda s, o: Forgetful(s, o, path))
    with pytest.raises(UserError, match="weights belong to another method"):
        State.load(path, within)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="was changed since it was written"):
        State.load(path, spanning)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(UserError, match="it is not a state"):
        State.load(path, spanning)
    with pytest.raises(UserError, match="cannot be read"):
        State.load(tmp_path / "none", spanning)
