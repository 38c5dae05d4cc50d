"""What a site keeps: whole, of one round, and of one stage."""

import os

import pytest
import torch

from remind_client.store import STATE, SiteStore


def state(value: float):
    encoders = {"a.w": torch.full((3,), value), "a.mean": torch.tensor(value, dtype=torch.float64)}
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter], lr=value)
    parameter.sum().backward()
    optimizer.step()
    return encoders, optimizer.state_dict()


def held(store: SiteStore, stage: int = 1):
    encoders, optimizer = store.encoders(), store.optimizer(stage)
    return encoders["a.w"][0].item(), optimizer["param_groups"][0]["lr"] if optimizer else None


def test_what_is_kept_comes_back(tmp_path):
    store = SiteStore(tmp_path / "new" / "folder")
    assert store.encoders() is None
    assert store.optimizer(1) is None
    encoders, optimizer = state(0.5)
    store.save(encoders, optimizer, 1)
    kept = SiteStore(store.folder)
    assert {n: t.tolist() for n, t in kept.encoders().items()} == {n: t.tolist() for n, t in encoders.items()}
    assert kept.encoders()["a.mean"].dtype == torch.float64
    again = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(2))])
    again.load_state_dict(kept.optimizer(1))
    assert torch.equal(again.state_dict()["state"][0]["exp_avg"], optimizer["state"][0]["exp_avg"])


def test_the_optimiser_of_another_stage_is_not_used(tmp_path):
    store = SiteStore(tmp_path)
    store.save(*state(0.5), 1)
    assert store.optimizer(2) is None
    assert store.encoders() is not None
    store.save(*state(0.25), 2)
    assert store.optimizer(1) is None
    assert held(store, 2) == (0.25, 0.25)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("where", ["save", "replace"])
def test_killed_at_any_point_encoders_and_optimiser_are_of_one_round(where, tmp_path, monkeypatch):
    store = SiteStore(tmp_path)
    store.save(*state(0.5), 1)
    write = torch.save

    def half(content, path):
        write(content, path)
        path.write_bytes(path.read_bytes()[:100])
        raise Killed

    def never(*_):
        raise Killed

    monkeypatch.setattr(*((torch, "save", half) if where == "save" else (os, "replace", never)))
    with pytest.raises(Killed):
        store.save(*state(0.25), 1)
    monkeypatch.undo()
    assert held(store) == (0.5, 0.5)
    assert os.listdir(tmp_path) == [STATE]
    store.save(*state(0.25), 1)
    assert held(store) == (0.25, 0.25)


def test_what_was_loaded_does_not_change_with_the_next_save(tmp_path):
    store = SiteStore(tmp_path)
    store.save(*state(0.5), 1)
    before = store.encoders()
    store.save(*state(0.25), 1)
    assert before["a.w"].tolist() == [0.5] * 3


def test_a_site_without_encoders(tmp_path):
    store = SiteStore(tmp_path)
    store.save({}, state(0.5)[1], 2)
    assert store.encoders() == {}
    assert store.optimizer(2) is not None
