"""Shared encoders that a round does not train: they do not come back, and are sent once to each site."""

import shutil
from typing import Any

import pytest
import torch

from remind.federation import held
from remind.federation.blocks import ENCODERS
from remind_server.rounds import course, tasks
from remind_server.rounds.strategy import FedRemind
from tests.builders.cohorts import cohort
from tests.builders.configs import settings
from tests.builders.grids import SiteGrid, WireGrid
from tests.builders.observers import Recorder
from tests.builders.sites import site

MIXES = {"one": [1, 2, 3] * 8, "two": [3, 5] * 8, "three": [1, 7] * 8}
SHARED: dict[str, Any] = {"federation.encoders": "shared", "train.warmup-rounds": 2, "train.routing-rounds": 3}


def run(folder, grid=SiteGrid, before=None, **changes):
    config = settings(SHARED | changes)
    sites = [site(name, cohort(mix, seed), config, folder) for seed, (name, mix) in enumerate(MIXES.items())]
    recorder = Recorder()
    made = grid(sites)
    made.before = before or (lambda *given: None)
    made.again = lambda: sites.__setitem__(1, site("two", cohort(MIXES["two"], 1), config, folder))
    FedRemind(config, [recorder]).run(made)
    return recorder, made


def never(*given):
    return False


@pytest.mark.parametrize("rule", ["fedremind", "fedadam"])
def test_the_run_is_the_same_and_sends_less(rule, tmp_path, monkeypatch):
    changes = {"method.rule": rule, "method.objective": "groupdro" if rule == "fedremind" else "erm"}
    less, grid = run(tmp_path / "less", WireGrid, **changes)
    reports = [answer for kind, answer, _ in grid.answers if kind == "train"]
    named = [any(entry.name.startswith(ENCODERS) for entry in report.index) for report in reports]
    assert named == [True] * 6 + [False] * 9, "what comes back names no encoder"
    for module in (course, tasks):
        monkeypatch.setattr(module, "encoders_rest", never)
    monkeypatch.setattr("remind_client.rounds.training.encoders_rest", never)
    whole, _ = run(tmp_path / "whole", **changes)
    for a, b in zip(less.models, whole.models, strict=True):
        assert all(torch.allclose(a[name], b[name], rtol=1e-6, atol=1e-8) for name in a)
    encoders = {name for name in less.models[0] if name.startswith(ENCODERS)}
    assert encoders
    down = [(a.bytes_down, b.bytes_down) for a, b in zip(less.rounds, whole.rounds, strict=True)]
    up = [(a.bytes_up, b.bytes_up) for a, b in zip(less.rounds, whole.rounds, strict=True)]
    assert [a == b for a, b in down] == [True, True, True, False, False], "once in the stage that does not train them"
    assert [a == b for a, b in up] == [True, True, False, False, False]
    assert down[3][0] == up[3][0] == up[2][0]
    last = less.models
    assert all(torch.equal(last[1][name], last[-1][name]) for name in encoders)


class Wiping(SiteGrid):
    """A grid that calls `before` with each message, and with what starts the second site again."""

    before: Any
    again: Any

    def _work(self, message):
        self.before(message, self.again)
        return super()._work(message)


def test_a_site_that_lost_its_state_says_so_and_gets_everything_again(tmp_path):
    seen = []

    def lose(message, start_again):
        if message.metadata.message_type == "train" and message.metadata.dst_node_id == 3:
            seen.append(message)
            if len(seen) == 4:  # the second round of stage 2, which would leave the encoders out
                shutil.rmtree(tmp_path / "two")
                start_again()

    found, _ = run(tmp_path, Wiping, lose, **{"federation.dtype": "bfloat16"})
    assert [sorted(one.absent) for one in found.rounds] == [[], [], [], ["two"], []]
    assert "no longer has" in found.rounds[3].absent["two"]
    sizes = [one.bytes_down for one in found.rounds]
    assert sizes[2] > sizes[4] > sizes[3], "one of three gets them again"


def test_a_digest_is_of_names_shapes_and_bytes():
    tensors = {"encoders.a.w": torch.ones(2, 3), "encoders.a.b": torch.zeros(3), "encoders.c.w": torch.ones(1)}
    whole = held.digests(tensors, "float32")
    assert whole.keys() == {"encoder:a", "encoder:c"}
    for other in (
        tensors | {"encoders.a.w": torch.ones(3, 2)},
        tensors | {"encoders.a.b": torch.full((3,), 1e-30)},
        {"encoders.a.w": tensors["encoders.a.w"], "encoders.a.v": tensors["encoders.a.b"]},
    ):
        assert held.digests(other, "float32")["encoder:a"] != whole["encoder:a"]
    assert held.digests(tensors | {"encoders.a.b": torch.full((3,), 1e-50)}, "float32") == whole, "as it is sent"
