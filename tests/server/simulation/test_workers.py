"""Hospitals in worker processes: the same bits as in one process, patients loaded once, a killed worker replaced."""

from functools import partial

import pytest
import torch
from flwr.app import ConfigRecord, Message, RecordDict

from remind.config import Config
from remind_server.rounds.checkpoints import Checkpoints
from remind_server.simulation import workers
from remind_server.simulation.simulate import simulate
from remind_server.simulation.worker_grid import DIED, WorkerGrid, side_by_side
from tests.builders import worker_apps
from tests.builders.configs import BASE
from tests.builders.observers import Recorder
from tests.builders.study_processes import STARTED

SMALL = BASE | {"synthetic.patients": 240, "synthetic.size": 8, "model.dropout": 0.2, "model.hide": 0.2}
APPS = "tests.builders.worker_apps"


def run(folder, jobs, client="remind_client.app:app", clients=4, **changes):
    folder.mkdir()
    config = Config.from_flat(SMALL | {"results": str(folder), "train.warmup-rounds": 2} | changes)
    recorder = Recorder()
    simulate(config, clients, [recorder], client, Checkpoints(folder), jobs)
    return recorder


@pytest.fixture
def quick_start(monkeypatch):
    """The process that forks the workers begins with its libraries loaded; without this it loads them for seconds."""
    monkeypatch.setattr(workers, "get_context", lambda way: STARTED)


def assert_same(one, other):
    assert len(one.models) == len(other.models) > 0
    for a, b in zip(one.models, other.models, strict=True):
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
    assert [r.weights_after for r in one.rounds] == [r.weights_after for r in other.rounds]
    assert [r.risks for r in one.rounds] == [r.risks for r in other.rounds]
    assert [r.update_sizes for r in one.rounds] == [r.update_sizes for r in other.rounds]
    assert one.result.test.keys() == other.result.test.keys()
    for site, found in one.result.test.items():
        assert {k: s.log_loss_sum for k, s in found.items()} == {
            k: s.log_loss_sum for k, s in other.result.test[site].items()
        }


@pytest.mark.parametrize(
    "changes", [{}, {"federation.encoders": "shared", "method.rule": "fedadam"}], ids=["", "fedadam"]
)
def test_the_bits_are_those_of_one_process(changes, tmp_path, quick_start):
    assert_same(run(tmp_path / "one", 1, **changes), run(tmp_path / "three", 3, **changes))


def test_a_worker_that_is_killed_costs_one_answer_and_is_replaced(tmp_path):
    found = run(tmp_path / "run", 2, f"{APPS}:dies")
    first, *later = found.rounds
    (absent,) = first.absent
    assert DIED in first.absent[absent]
    assert len(first.answered) == 3
    assert all(len(one.answered) == 4 and not one.absent for one in later)
    assert absent in found.result.test, "it comes back with its patients"


def test_patients_are_loaded_once_and_each_node_keeps_its_worker(tmp_path, quick_start):
    with WorkerGrid(f"{APPS}:says", 5, {}, 1, 2, partial(worker_apps.load, tmp_path / "loaded")) as grid:
        seen = []
        for _ in range(2):
            messages = [
                Message(RecordDict({"c": ConfigRecord({"n": node})}), node, "train", group_id="0", ttl=600.0)
                for node in grid.get_node_ids()
            ]
            ids = list(grid.push_messages(messages))
            replies = [reply for i in reversed(ids) for reply in grid.pull_messages([i])]
            seen.append([tuple(map(int, reply.error.reason.split())) for reply in reversed(replies)])
    (loader,) = map(int, (tmp_path / "loaded").read_text().split())
    assert all(loaded == parent == loader for round_ in seen for loaded, parent, _, _ in round_)
    assert [node for *_, node in seen[0]] == list(grid.get_node_ids())
    assert seen[0] == seen[1]
    assert len({pid for *_, pid, _ in seen[0]}) == 2


def test_zero_jobs_are_one_per_core():
    assert side_by_side(0) >= 1
    assert side_by_side(3) == 3
