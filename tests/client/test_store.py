"""A site's store: complete files, all of one round and one stage."""

import os

import pytest
import torch
from torch import nn

from remind.site_files import STATE
from remind_client.store import site_store
from remind_client.store.files import TensorFiles
from remind_client.store.site_store import SiteStore, digest
from remind_client.vault.key import VaultKey
from remind_client.vault.vault import PlainVault, SealedVault
from tests.builders.site_stores import Encoder, held, saved, state, weights


def files(folder):
    return sorted(name.partition("-")[0] for name in os.listdir(folder))


def test_what_is_kept_comes_back(tmp_path):
    store = SiteStore(tmp_path / "new" / "folder")
    assert store.digests() == {}
    assert store.optimizer(1) is None
    encoders, optimizer = state(0.5)
    assert store.save(encoders, optimizer, 1) == {"a": digest(encoders["a"])}
    kept = SiteStore(store.folder)
    assert {n: t.tolist() for n, t in weights(kept).items()} == {
        n: t.tolist() for n, t in encoders["a"].state_dict().items()
    }
    assert weights(kept)["mean"].dtype == torch.float64
    again = torch.optim.AdamW([nn.Parameter(torch.zeros(2))])
    again.load_state_dict(kept.optimizer(1))
    assert torch.equal(again.state_dict()["state"][0]["exp_avg"], optimizer["state"][0]["exp_avg"])


def test_the_optimiser_of_another_stage_is_not_used(tmp_path):
    store = SiteStore(tmp_path)
    saved(store, 0.5, 1)
    assert store.optimizer(2) is None
    assert store.digests()
    saved(store, 0.25, 2)
    assert store.optimizer(1) is None
    assert held(store, 2) == (0.25, 0.25)


def test_encoders_that_rest_are_written_once(tmp_path):
    store = SiteStore(tmp_path)
    found = saved(store, 0.5, 1)
    written = {p: p.stat().st_mtime_ns for p in tmp_path.glob("encoder-*")}
    store.save_optimizer(found, state(0.25)[1], 2)
    assert held(store, 2) == (0.5, 0.25)
    assert {p: p.stat().st_mtime_ns for p in tmp_path.glob("encoder-*")} == written
    saved(store, 0.125, 1)
    assert files(tmp_path) == ["encoder", STATE], "and those of before are removed"


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", [1, 2])
@pytest.mark.parametrize("where", ["save", "replace"])
def test_killed_at_any_point_encoders_and_optimiser_are_of_one_round(where, at, tmp_path, monkeypatch):
    store = SiteStore(tmp_path)
    saved(store, 0.5, 1)
    write, replace, calls = torch.save, os.replace, []

    def half(content, out):
        calls.append(out)
        if len(calls) == at:
            out.write(b"half of it")
            raise Killed
        write(content, out)

    def never(source, target):
        calls.append(target)
        if len(calls) == at:
            raise Killed
        replace(source, target)

    monkeypatch.setattr(*((torch, "save", half) if where == "save" else (os, "replace", never)))
    with pytest.raises(Killed):
        saved(store, 0.25, 1)
    monkeypatch.undo()
    assert held(store) == (0.5, 0.5)
    saved(store, 0.25, 1)
    assert held(store) == (0.25, 0.25)
    assert files(tmp_path) == ["encoder", STATE]


def test_what_was_loaded_does_not_change_with_the_next_save(tmp_path):
    store = SiteStore(tmp_path)
    saved(store, 0.5, 1)
    before = weights(store)
    saved(store, 0.25, 1)
    assert before["w"].tolist() == [0.5] * 3


def test_a_site_without_encoders(tmp_path):
    store = SiteStore(tmp_path)
    store.save({}, state(0.5)[1], 2)
    assert store.digests() == {}
    assert store.optimizer(2) is not None


def test_encoders_that_were_given_before_the_first_round_stay(tmp_path):
    store = SiteStore(tmp_path)
    saved(store, 3.0, stage=0)
    assert weights(store)["w"][0] == 3.0
    saved(store, 4.0, stage=1)
    assert weights(store)["w"][0] == 4.0


def test_the_digest_is_that_of_weights_and_buffers():
    one, other = Encoder(0.5), Encoder(0.5)
    assert digest(one) == digest(other)
    dict(other.named_buffers())["mean"].add_(1e-12)
    assert digest(one) != digest(other)
    assert digest(one.half()) != digest(Encoder(0.5))


def train(store, rounds, best_of):
    """Save a model per round, as a run that chooses does; `best_of` says which round is best before each."""
    for round_ in rounds:
        store.activate()
        best = best_of(round_)
        wanted = sorted({round_, *(() if best is None else (best,))})
        store.save(*state(value_of(round_ + 1)), 1, {"own": torch.tensor(float(round_ + 1))}, round_ + 1, wanted)


def value_of(round_):
    return 0.5 / 2**round_


@pytest.mark.parametrize("sealed", [False, True])
def test_what_belongs_to_the_best_round_stays_and_nothing_older(sealed, tmp_path):
    def opened():
        return SiteStore(tmp_path / "run", SealedVault(tmp_path, [VaultKey(bytes(32))]) if sealed else PlainVault())

    train(opened(), range(6), lambda round_: 2 if round_ > 2 else max(round_ - 1, 0) or None)
    store = opened()
    assert len(list((tmp_path / "run").glob("encoder-*"))) == 3, "of 6, of 5 and of 2"
    assert held(store) == (value_of(6), value_of(6)), "the newest is active"
    store.activate(2)
    assert weights(opened())["w"][0].item() == value_of(2)
    assert opened().kept()["own"].item() == 2
    opened().activate()
    assert held(opened()) == (value_of(6), value_of(6)), "training continues from the newest, with its optimiser"
    opened().activate(5)
    assert weights(opened())["w"][0].item() == value_of(5)


def test_the_end_of_a_run_leaves_what_belongs_to_each_round_that_may_be_chosen_and_no_optimiser(tmp_path):
    store = SiteStore(tmp_path)
    for round_ in range(6):
        store.history.begin(round_, store.needed, keep=2)
        train(store, [round_], lambda r: 2 if r > 2 else None)
    before = {path.name for path in tmp_path.iterdir()}
    store.activate(2)
    store.end()
    left = {path.name for path in tmp_path.iterdir()}
    assert {name for name in before - left if name.endswith(("~4", "~5"))}, "the states from which a round begins"
    assert {name for name in left if name.startswith("encoder-")} == store.needed()
    for round_ in (2, 5, 6):
        store.activate(round_)
        assert weights(store)["w"][0].item() == value_of(round_)
    assert store.optimizer(1) == {}


def test_a_site_that_missed_rounds_has_for_them_what_it_had_before(tmp_path):
    store = SiteStore(tmp_path)
    train(store, [0, 1], lambda _: None)
    train(store, [7], lambda _: 5)
    store.activate(5)
    assert weights(store)["w"][0].item() == value_of(2)
    store.activate(8)
    assert weights(store)["w"][0].item() == value_of(8)


def test_a_site_that_came_later_than_the_best_round_uses_its_oldest(tmp_path):
    store = SiteStore(tmp_path)
    train(store, [4, 5], lambda _: 2)
    store.activate(2)
    assert weights(store)["w"][0].item() == value_of(5)


def test_encoders_that_rest_are_stored_once_whatever_is_chosen(tmp_path):
    store = SiteStore(tmp_path)
    train(store, [0], lambda _: None)
    for round_ in (1, 2, 3):
        store.save_optimizer(store.digests(), state(0.5)[1], 2, {}, round_ + 1, (1, round_))
    assert len(list(tmp_path.glob("encoder-*"))) == 1
    store.activate(2)
    assert weights(store)["w"][0].item() == value_of(1)


# The state's file is read once, and never taken for another


@pytest.fixture
def reads(monkeypatch):
    """How often each file was read, and nothing else of it."""
    found, read = [], TensorFiles.read

    def counting(files, path, checksums=False):
        found.append(path.name)
        return read(files, path, checksums)

    monkeypatch.setattr(TensorFiles, "read", counting)
    return found


@pytest.mark.parametrize("wanted", [0, 2])
def test_a_round_reads_the_state_once_however_much_it_asks(tmp_path, reads, wanted):
    saved(SiteStore(tmp_path), 0.5, 1)
    store = SiteStore(tmp_path)
    store.activate()
    assert store.stage() == 1
    assert store.digests()
    assert store.kept() == {}
    assert store.optimizer(1) is not None
    encoders, optimizer = state(0.25)
    store.save(encoders, optimizer, 1, {}, 3, range(wanted))
    assert reads == [STATE]


@pytest.mark.parametrize(("most", "read"), [(10**6, 0), (0, 1)])
def test_a_small_state_that_was_written_is_in_memory_as_it_is_in_the_file(most, read, reads, tmp_path, monkeypatch):
    monkeypatch.setattr(site_store, "SMALL", most)
    (encoders, optimizer), store = state(0.5), SiteStore(tmp_path)
    store.save(encoders, optimizer, 1, {"own": torch.ones(2)})
    optimizer["state"][0]["exp_avg"].fill_(9.0)  # the next steps
    found, other = store.optimizer(1), SiteStore(tmp_path).optimizer(1)
    assert found.keys() == other.keys()
    assert found["param_groups"] == other["param_groups"]
    assert torch.equal(found["state"][0]["exp_avg"], other["state"][0]["exp_avg"])
    assert store.fingerprint(training=True) == SiteStore(tmp_path).fingerprint(training=True)
    assert reads == [STATE] * (2 + read), "two new processes"


def test_what_another_process_wrote_is_seen(tmp_path):
    ours, theirs = SiteStore(tmp_path), SiteStore(tmp_path)
    saved(ours, 0.5, 1)
    assert held(ours) == (0.5, 0.5)
    assert ours.digests()
    saved(theirs, 0.25, 1)
    assert held(ours) == (0.25, 0.25)
    (tmp_path / STATE).unlink()
    assert ours.digests() == {}


def test_steps_on_what_was_handed_out_change_nothing_that_is_stored(tmp_path):
    store, (encoders, optimizer) = SiteStore(tmp_path), state(0.5)
    store.save(encoders, optimizer, 1, {"own": torch.ones(2)})
    moments, before = store.optimizer(1)["state"][0]["exp_avg"], optimizer["state"][0]["exp_avg"].clone()
    moments.add_(1)
    store.kept()["own"].add_(1)
    assert torch.equal(store.optimizer(1)["state"][0]["exp_avg"], before)
    assert torch.equal(store.kept()["own"], torch.ones(2))
    store.digests().clear()
    assert store.digests()
