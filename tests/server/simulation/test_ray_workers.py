"""A killed worker of a simulation: its place in Flower's pool is taken by a new one."""

import sys
from types import ModuleType

import pytest

ray_actor = pytest.importorskip("flwr.simulation.ray_transport.ray_actor")

from ray.exceptions import RayActorError  # noqa: E402

from remind_server.flower_internals import SIMULATION  # noqa: E402
from remind_server.simulation.ray_workers import replace_dead_workers  # noqa: E402


@pytest.fixture
def pool(monkeypatch):
    """A pool of one worker, without Ray; `pool.made` counts workers."""
    monkeypatch.setitem(sys.modules, SIMULATION, ModuleType(SIMULATION))
    flowers = ray_actor.BasicActorPool.fetch_result_and_return_actor_to_pool
    monkeypatch.setattr(ray_actor.BasicActorPool, "fetch_result_and_return_actor_to_pool", flowers)
    assert replace_dead_workers()
    assert replace_dead_workers(), "a second run of the process adds nothing"
    made = []
    one = ray_actor.BasicActorPool.__new__(ray_actor.BasicActorPool)
    one.pool, one._future_to_actor = [], {}
    one.create_actor_fn = lambda: (made.append(len(made)), f"worker {len(made)}")[1]
    one.made = made
    return one


def processed(pool, outcome, monkeypatch):
    """What Flower's `RayBackend.process_message` does around the pool."""
    pool._future_to_actor["future"] = "first"

    def get(future):
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(ray_actor.ray, "get", get)
    try:
        return pool.fetch_result_and_return_actor_to_pool("future")
    except Exception:
        pool.add_actor_back_to_pool("future")
        raise


def test_a_dead_worker_is_replaced(pool, monkeypatch):
    with pytest.raises(RayActorError):
        processed(pool, RayActorError(), monkeypatch)
    assert pool.pool == ["worker 1"]


def test_a_worker_whose_work_failed_stays(pool, monkeypatch):
    with pytest.raises(ValueError, match="of the app"):
        processed(pool, ValueError("of the app"), monkeypatch)
    assert pool.pool == ["first"]
    assert processed(pool, ("1", "message", "context"), monkeypatch) == ("message", "context")
    assert pool.pool == ["first", "first"]
    assert pool.made == []


def test_outside_of_a_simulation_nothing_is_touched(monkeypatch):
    monkeypatch.delitem(sys.modules, SIMULATION, raising=False)
    before = ray_actor.BasicActorPool.fetch_result_and_return_actor_to_pool
    assert not replace_dead_workers()
    assert ray_actor.BasicActorPool.fetch_result_and_return_actor_to_pool is before
