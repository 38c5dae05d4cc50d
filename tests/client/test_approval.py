"""Approving runs from the command line, and a new key."""

import pytest
from typer.testing import CliRunner

from remind.config import Config
from remind.consortium.enrolment import verify_request
from remind.errors import UserError
from remind_client.approval import set_approval, waiting
from remind_client.audit.events import Asked
from remind_client.command import app
from remind_client.initialise import REQUEST, initialise
from remind_client.policy.rules import fingerprint
from tests.builders.site_files import write_site

PRINT = fingerprint(Config())


def asked(site, run, configuration=PRINT):
    bundle = "b" * 64
    site.audit_log.append(Asked(run=run, request="query", app="a/b", bundle=bundle, configuration=configuration))


def test_what_was_asked_waits_until_it_is_approved(tmp_path):
    site = write_site(tmp_path)
    asked(site, "7")
    asked(site, "8", "c" * 64)
    asked(site, "9")
    asked(site, "9", "")
    assert waiting(site) == {"c" * 64: "8", PRINT: "9"}
    set_approval(site, PRINT, True)
    assert waiting(site) == {"c" * 64: "8"}
    set_approval(site, PRINT, False)
    assert waiting(site) == {"c" * 64: "8", PRINT: "9"}
    events = [(e["event"], e["configuration"]) for e in site.audit_log.entries() if e["event"] != "asked"]
    assert events == [("approved", PRINT), ("withdrawn", PRINT)]


@pytest.mark.parametrize("wrong", ["", "5", "z" * 64, PRINT.upper(), PRINT + "0"])
def test_what_is_no_fingerprint_is_not_approved(tmp_path, wrong):
    site = write_site(tmp_path)
    with pytest.raises(UserError, match="not a fingerprint"):
        set_approval(site, wrong, True)
    assert site.ledger.approved() == frozenset()


def test_the_command(tmp_path):
    site = write_site(tmp_path)
    asked(site, "7")
    config = ["-c", str(tmp_path)]
    assert f"{PRINT}  last requested by run 7" in CliRunner().invoke(app, ["approve", *config]).output
    assert CliRunner().invoke(app, ["approve", PRINT, *config]).exit_code == 0
    assert CliRunner().invoke(app, ["approve", *config]).output == ""


def test_a_new_key_puts_the_old_one_aside(tmp_path):
    kit = tmp_path / "kit"
    kit.mkdir()
    (kit / "ca.crt").write_text("certificate")
    (kit / "site.toml").write_text(
        'site = "north"\n[coordinator]\nconsortium = "heart"\naddress = "localhost:1"\nca_certificate = "ca.crt"\n'
    )
    folder = tmp_path / "site"
    first = initialise(kit, folder, str(tmp_path), "")
    key = (folder / "site.key").read_bytes()
    again = initialise(kit, folder, "", "")
    assert again.fingerprint == first.fingerprint
    new = initialise(kit, folder, "", "", new_key=True)
    assert new.fingerprint != first.fingerprint
    assert verify_request((folder / REQUEST).read_text()).fingerprint == new.fingerprint
    (old,) = [path for path in folder.glob("site.key.old-*") if path.suffix != ".pub"]
    assert old.read_bytes() == key
    assert old.stat().st_mode & 0o777 == (folder / "site.key").stat().st_mode & 0o777 == 0o600
    assert old.with_name(f"{old.name}.pub").exists()
