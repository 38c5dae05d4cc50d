"""The roster from the coordinator's ledger to a hospital's telephone call: names, keys and their fingerprints."""

import pytest
from typer.testing import CliRunner

from remind.consortium.roster import read_roster
from remind.errors import UserError
from remind_client.command import app
from remind_server.consortium.command import consortium_command
from remind_server.consortium.enrol import enrol, revoke
from tests.builders.site_files import TOML


def printed(folder):
    done = CliRunner().invoke(consortium_command, ["roster", str(folder.root)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_roster_names_enrolled_hospitals_and_a_site_prints_their_fingerprints(folder, registry, hospital, tmp_path):
    bern, basel = hospital("bern"), hospital("basel.2")
    entries = [enrol(folder, registry, one.request(), lambda request: None) for one in (bern, basel)]
    where = tmp_path / "site"
    where.mkdir()
    (where / "roster.toml").write_text(printed(folder))
    assert read_roster(where / "roster.toml") == {"bern": bern.public_key, "basel.2": basel.public_key}
    toml = TOML.format(more="").replace('"north"', '"bern"')
    (where / "site.toml").write_text('roster = "roster.toml"\n' + toml)
    done = CliRunner().invoke(app, ["roster", "--config", str(where)])
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [f"{one.name}  {one.fingerprint}" for one in reversed(entries)]
    revoke(folder, registry, "bern")
    (where / "roster.toml").write_text(printed(folder))
    assert read_roster(where / "roster.toml").keys() == {"basel.2"}


def test_a_site_without_a_roster_says_so(tmp_path):
    (tmp_path / "site.toml").write_text(TOML.format(more=""))
    done = CliRunner().invoke(app, ["roster", "--config", str(tmp_path)])
    assert isinstance(done.exception, UserError)
    assert "roster is missing" in str(done.exception)


def test_a_consortium_of_nobody_has_no_roster(folder):
    done = CliRunner().invoke(consortium_command, ["roster", str(folder.root)])
    assert isinstance(done.exception, UserError)
    assert "no hospital is enrolled yet" in str(done.exception)


def test_a_roster_that_no_run_could_use_is_refused(hospital, tmp_path):
    bern, basel = hospital("bern"), hospital("basel.2")
    path = tmp_path / "roster.toml"
    for text, message in (
        ("", "the roster is empty"),
        (f'"bern" = "{bern.public_key}"\n"geneva" = "{bern.public_key}"\n', "geneva: has the key of bern"),
        (f'"bern" = "{bern.public_key}"\n"bern" = "{basel.public_key}"\n', "no TOML: .*write one line for each"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_roster(path)
    path.write_text(f'"basel.2" = "{basel.public_key}"\n')
    (tmp_path / "site.toml").write_text('roster = "roster.toml"\n' + TOML.format(more=""))
    done = CliRunner().invoke(app, ["roster", "--config", str(tmp_path)])
    assert isinstance(done.exception, UserError)
    assert "is not in the roster" in str(done.exception)
