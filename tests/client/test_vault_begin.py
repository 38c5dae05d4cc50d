"""The vault is on unless it is switched off: where its key comes from, and what happens to unencrypted files."""

import pytest

from remind.errors import UserError
from remind_client.checks import local
from remind_client.initialise import initialise
from remind_client.supervisor import run as supervisor
from remind_client.vault.stream import MAGIC
from remind_client.vault.vault import PlainVault, SealedVault
from remind_client.vault_begin import make_key, seal_what_is_clear
from tests.builders.kits import kit
from tests.builders.site_files import write_site


@pytest.fixture
def site(tmp_path):
    """A site of before: its site.toml says nothing of a vault, and state of a run lies unencrypted."""
    site = write_site(tmp_path / "site")
    site.runs_folder.mkdir(parents=True)
    PlainVault().write(site.runs_folder / "state.pt", lambda out: out.write(b"weights"))
    return site


def levels(site):
    return {finding.check: (finding.level, finding.seen) for finding in local.check_vault(site)}


def test_a_site_that_says_nothing_has_a_vault(site):
    assert levels(site)["vault"] == ("warning", f"{site.vault_key_path}: no key yet")
    key = make_key(site)
    assert site.vault_key_path.stat().st_mode & 0o777 == 0o600
    assert seal_what_is_clear(site).written == 1
    assert (site.runs_folder / "state.pt").read_bytes().startswith(MAGIC)
    vault = site.open_vault()
    assert isinstance(vault, SealedVault)
    assert vault.keys == [key]
    assert vault.read(site.runs_folder / "state.pt") == b"weights"
    assert levels(site)["vault"] == ("ok", f"key {key.id.hex()}")
    assert make_key(site) is None, "it has one"
    assert seal_what_is_clear(site).written == 0


def test_a_key_that_was_lost_is_not_replaced(site):
    make_key(site)
    seal_what_is_clear(site)
    site.vault_key_path.unlink()
    assert levels(site)["vault"][0] == "failed"
    with pytest.raises(UserError, match=r"restore it from your copy, or remove that folder"):
        make_key(site)
    assert not site.vault_key_path.exists()


@pytest.mark.parametrize("section", ["enabled = false", 'key_file = "named.key"', 'key_env = "REMIND_TEST_KEY"'])
def test_no_key_is_made_where_one_is_named_or_none_wanted(tmp_path, section):
    site = write_site(tmp_path / "site", f"[vault]\n{section}")
    assert make_key(site) is None
    assert not list((tmp_path / "site").glob("*.key"))
    made = initialise(kit(tmp_path / "kit"), tmp_path / "site", "", "")
    assert made.vault_key is None
    assert [path.name for path in (tmp_path / "site").glob("*.key")] == ["site.key"]


def test_switched_off_it_is_said(tmp_path):
    site = write_site(tmp_path / "site", "[vault]\nenabled = false")
    assert levels(site)["vault"][0] == "warning"
    assert "switched off" in levels(site)["vault"][1]
    assert seal_what_is_clear(site).written == 0


def test_a_start_makes_the_key_and_encrypts(site, capsys):
    supervisor._open_vault(site)
    assert (site.runs_folder / "state.pt").read_bytes().startswith(MAGIC)
    said = capsys.readouterr().err
    assert "keep a copy" in said
    assert "encrypted 1 file(s)" in said
    supervisor._open_vault(site)
    assert capsys.readouterr().err == ""


def test_a_named_key_that_is_not_there_stops_a_start(tmp_path):
    site = write_site(tmp_path / "site", '[vault]\nkey_file = "named.key"')
    site.runs_folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"named.key: cannot read the vault key"):
        supervisor._open_vault(site)
