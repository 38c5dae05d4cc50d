"""A disk that is full, over quota or read-only is named as such, and so is a file that was changed."""

import errno
import os
import shutil

import pytest
import torch

from remind.data.synthetic.write import write_cohort
from remind.disk import disk_error, in_words
from remind.errors import UserError
from remind.federation.flower import from_record
from remind.federation.messages import Refusal
from remind.training.token_cache import TokenCache
from remind_client import command
from remind_client.checks import local
from remind_client.exit_codes import Exit
from remind_client.launcher.door import Door
from remind_client.refusal import words_for, words_within
from remind_client.store.site_store import SiteStore
from remind_client.vault.errors import VaultError
from remind_client.vault.key import VaultKey
from remind_client.vault.vault import PlainVault, SealedVault
from tests.builders import cohorts
from tests.builders.bundles import fab
from tests.builders.doors import ENROL, Recorder
from tests.builders.site_files import asked, context, write_site
from tests.builders.site_stores import held, saved

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/ward-7/state.pt")


def fill(monkeypatch):
    """Let the next write of a private file end on a device that is always full."""
    monkeypatch.setattr("remind.files.make_private", lambda partial: os.symlink("/dev/full", partial))


@pytest.fixture(params=["clear", "sealed"])
def store(request, tmp_path):
    vault = SealedVault(tmp_path, [VaultKey(bytes(32))]) if request.param == "sealed" else PlainVault()
    kept = SiteStore(tmp_path / "run-1", vault)
    saved(kept, 0.5, 1)
    return kept


@pytest.mark.parametrize("size", [2, 1_000_000])
def test_a_full_disk_is_an_os_error_with_the_files_name(store, size, monkeypatch):
    """Torch tells of it as a RuntimeError, once what it writes is larger than a buffer."""
    fill(monkeypatch)
    with pytest.raises(OSError, match="No space left") as caught:
        store.save_optimizer({}, {"state": torch.zeros(size)}, 1)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(store.folder / "state.pt")
    assert store.optimizer(1)["param_groups"][0]["lr"] == 0.5, "what was kept is as it was"


def test_tokens_find_their_place_before_they_are_mapped(tmp_path, monkeypatch):
    def none_left(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", none_left)
    cache = TokenCache(tmp_path)
    with pytest.raises(OSError, match="No space left") as caught, cache.writing({"a": ("k", (4, 1, 2))}, torch.float32):
        pass
    assert str(tmp_path) in caught.value.filename
    assert not list(tmp_path.iterdir())


def test_a_reserved_token_file_has_its_size_on_the_disk(tmp_path):
    with TokenCache(tmp_path).writing({"a": ("k", (1000, 2, 64))}, torch.float32) as tokens:
        (partial,) = tmp_path.glob("*.partial")
        assert partial.stat().st_blocks * 512 >= 1000 * 2 * 64 * 4
        tokens["a"].fill_(1)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full;"),
        (errno.EDQUOT, "for this user (quota)"),
        (errno.EROFS, "the disk is read-only"),
    ],
)
def test_the_reason_that_leaves_says_what_is_wrong_and_nothing_else(number, said):
    error = OSError(number, os.strerror(number), "/data/ward-7/state.pt")
    assert said in words_for(error)
    assert "ward" not in words_for(error)
    assert "/data/ward-7/state.pt" in words_within(error)


def wrapped():
    try:
        raise FULL
    except OSError:
        raise UserError("key: cannot be written") from None


def test_a_full_disk_behind_another_error_is_found():
    with pytest.raises(UserError) as caught:
        wrapped()
    assert disk_error(caught.value) is FULL
    assert "the disk is full" in words_for(caught.value)
    assert disk_error(OSError(errno.ENOENT, "no such file")) is None
    assert "free disk space" in in_words(FULL)


def test_other_reasons_that_leave():
    assert "was changed, cut or moved" in words_for(VaultError("/data/ward-7/state.pt: changed"))
    assert words_for(UserError("ward 7")) == "the site's cohort or settings are not valid; its own log says why"
    assert "memory does not suffice" in words_for(MemoryError())
    assert words_for(ValueError("ward 7")) == "internal error (ValueError); the site's own log says more"
    assert words_within(ValueError("ward 7")) == "", "a traceback is due"


@pytest.mark.parametrize("error", [FULL, VaultError("/data/ward-7/state.pt: not what this site wrote")])
def test_the_door_tells_the_coordinator(tmp_path, error, caplog):
    site = write_site(tmp_path / "site", '[policy]\nruns = ["*"]')
    write_cohort(cohorts.cohort([1] * 20), site.path(site.cohort))
    reply = Door(site).answer(fab(), asked(ENROL, "query"), context(site), Recorder(error).load)
    answer, _ = from_record(reply.content)
    assert isinstance(answer, Refusal)
    assert answer.reason == words_for(error)
    assert "ward-7" in caplog.text


def test_a_full_audit_log_is_a_full_disk(tmp_path, monkeypatch):
    site = write_site(tmp_path / "site", '[policy]\nruns = ["*"]')

    def full(*_):
        raise FULL

    monkeypatch.setattr("os.fsync", full)
    reply = Door(site).answer(fab(), asked(ENROL, "query"), context(site), Recorder(ENROL).load)
    refusal, _ = from_record(reply.content)
    assert isinstance(refusal, Refusal)
    assert "the disk is full" in refusal.reason


@pytest.mark.parametrize(
    ("raised", "code", "words"),
    [
        (FULL, Exit.DISK, "/data/ward-7/state.pt: cannot be written: the disk is full"),
        (OSError(errno.EROFS, "Read-only", "/x"), Exit.DISK, "/x: cannot be written: the disk is read-only"),
        (None, Exit.DISK, "key: cannot be written"),
        (VaultError("v"), Exit.VAULT, "v"),
        (UserError("u"), Exit.MISTAKE, "u"),
    ],
)
def test_exit_codes(raised, code, words, monkeypatch, capsys):
    def app():
        if raised is None:
            wrapped()
        raise raised

    monkeypatch.setattr(command, "app", app)
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == code
    assert words in capsys.readouterr().err


@pytest.mark.parametrize(("free", "level"), [(0, "failed"), (1 << 30, "warning"), (1 << 40, "ok")])
def test_check_says_how_much_is_free(tmp_path, monkeypatch, free, level):
    site = write_site(tmp_path / "site")
    usage = os.statvfs(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": free, "total": usage.f_blocks}))
    found = {finding.check: finding.level for finding in local.check_state(site)}
    assert found["disk"] == level


def flipped(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["state.pt", "encoder"])
def test_a_changed_byte_is_noticed_wherever_it_is(store, name):
    """Without encryption as under a vault: torch alone reads a flipped bit of a weight as another weight."""
    (path,) = store.folder.glob(f"{name}*")
    whole = path.read_bytes()
    digest, right = store.digests()["a"], repr(held(store))
    noticed = 0
    for place in range(0, len(whole), 37):
        flipped(path, place)
        try:
            assert (store.digests()["a"], repr(held(store))) == (digest, right), f"byte {place} of {len(whole)}"
        except VaultError:
            noticed += 1
        path.write_bytes(whole)
    assert noticed


def test_a_flipped_bit_of_the_optimiser_is_noticed(tmp_path):
    store = SiteStore(tmp_path)
    store.save_optimizer({}, {"state": torch.full((64,), 0.25)}, 1)
    place = (tmp_path / "state.pt").read_bytes().index(torch.full((64,), 0.25).numpy().tobytes())
    flipped(tmp_path / "state.pt", place + 6)
    with pytest.raises(VaultError, match=r"state.pt: not what this site wrote.* remove the run's folder"):
        store.optimizer(1)


def test_a_file_that_is_gone_or_cut(store):
    digest = store.digests()["a"]
    (path,) = store.folder.glob("encoder*")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(VaultError):
        store.encoder("a", digest)
    path.unlink()
    with pytest.raises(VaultError, match="is missing"):
        store.encoder("a", digest)
