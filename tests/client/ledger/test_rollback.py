"""A privacy ledger that is older than the audit log spends nothing, until what it lacks is entered."""

import json
import shutil

import pytest
from typer.testing import CliRunner

from remind.data.synthetic.write import write_cohort
from remind.errors import UserError
from remind.federation.messages import Refusal, Report
from remind.privacy.accounting import Mechanism
from remind_client import app as app_module
from remind_client.audit.events import Spent
from remind_client.audit.log import AuditLog, segments
from remind_client.checks.local import check_ledger
from remind_client.command import app as command
from remind_client.ledger.budget import TRAINING, Release
from remind_client.ledger.rollback import enter_lost, lost_spends, require_newest
from remind_client.ledger.spender import Spender
from remind_client.ledger.spends import PrivacyLedger
from tests.builders.cohorts import cohort
from tests.builders.ledgers import shown
from tests.builders.private_doors import ENROL, POLICY, ask, first_task
from tests.builders.private_sites import given_scale
from tests.builders.site_files import write_site

STEP = Mechanism("gradient", 2.0, 0.25, 10)


def pay(ledger, log, run, rounds, own=None):
    for round_ in rounds:
        Spender(ledger, run, (), log).pay(round_, f"{run} {round_}", [Release(TRAINING, STEP, own=own)])


@pytest.fixture
def older(tmp_path):
    """A ledger of yesterday, and an audit log of today with three spends more."""
    ledger, log = PrivacyLedger(tmp_path / "ledger"), AuditLog(tmp_path / "audit")
    pay(ledger, log, "7", [0, 1])
    shutil.copytree(ledger.folder, tmp_path / "backup")
    pay(ledger, log, "7", [2, 3])
    pay(ledger, log, "8", [0], own=1.5)
    whole = ledger.lifetime_total()
    shutil.rmtree(ledger.folder)
    shutil.copytree(tmp_path / "backup", ledger.folder)
    return ledger, log, whole


def test_a_restored_backup_is_refused_until_what_it_lacks_is_entered(older):
    ledger, log, whole = older
    assert [(one.run, one.round) for one in lost_spends(ledger, log)] == [("7", 2), ("7", 3), ("8", 0)]
    with pytest.raises(UserError, match=r"3 spend\(s\) of the audit log are not in it.*--from-audit-log"):
        require_newest(ledger, log)
    assert enter_lost(ledger, log) == 3
    require_newest(ledger, log)
    assert ledger.lifetime_total().epsilon(1e-5) == pytest.approx(whole.epsilon(1e-5))
    assert [s.release.own for s in ledger.spends()] == [None] * 4 + [1.5]
    assert enter_lost(ledger, log) == 0


def test_spends_after_the_rollback_that_took_the_numbers_of_lost_ones_hide_nothing(older):
    ledger, log, _ = older
    pay(ledger, log, "9", range(5))  # as by a version that did not look
    assert len(lost_spends(ledger, log)) == 3
    enter_lost(ledger, log)
    pay(ledger, log, "9", [5])  # writes the entered ones to the log too, under their new numbers
    assert lost_spends(ledger, log) == []
    assert len(ledger.spends()) == 2 + 5 + 3 + 1


def test_a_spend_that_a_killed_process_logged_twice_is_one(older):
    ledger, log, _ = older
    enter_lost(ledger, log)
    (last,) = [e for e in log.entries() if e["event"] == "spent"][-1:]
    again = {name: value for name, value in last.items() if name in ("run", "round", "numbers", "releases")}
    log.append(Spent.model_validate(again))
    assert lost_spends(ledger, log) == []


def test_a_hospital_with_an_old_ledger_or_none_takes_no_part_and_its_command_repairs_it(tmp_path, monkeypatch):
    site = write_site(tmp_path / "site", POLICY)
    write_cohort(cohort([1] * 40 + [3] * 30, of=given_scale()), site.path(site.cohort))
    monkeypatch.setenv("REMIND_SITE", str(tmp_path / "site"))
    monkeypatch.setattr(app_module, "_sites", {})
    enrolment = ask(site, ENROL, "query")
    assert isinstance(ask(site, first_task(enrolment), "train"), Report)
    shutil.rmtree(site.privacy_ledger.folder)  # the file, and the hospital's secret with it
    monkeypatch.setattr(app_module, "_sites", {})  # a process that was started again
    refusal = ask(site, ENROL, "query")
    assert isinstance(refusal, Refusal)
    assert "spend" not in refusal.reason, "the hospital's own log says it, not the answer"
    (finding,) = check_ledger(site)
    assert (finding.level, "--from-audit-log" in finding.remedy) == ("failed", True)
    assert "entered from the audit log: 2 spend(s)" in shown(site, "--from-audit-log")
    (finding,) = check_ledger(site)
    assert finding.level == "ok"
    assert not isinstance(ask(site, ENROL, "query"), Refusal)


@pytest.fixture
def restored(tmp_path):
    """A hospital that restored a backup: its audit log has two spends that its ledger lacks."""
    site = write_site(tmp_path / "restored")
    pay(site.privacy_ledger, site.audit_log, "7", [0, 1])
    shutil.rmtree(site.privacy_ledger.folder)
    return write_site(tmp_path / "restored")


def ledger_command(site, *words):
    return CliRunner().invoke(command, ["ledger", "7", "--from-audit-log", "--config", str(site.base), *words])


@pytest.mark.parametrize(("words", "read"), [("--json", json.loads), ("--csv", lambda text: text.index("number,at,"))])
def test_what_was_entered_is_said_beside_the_json_or_csv(restored, words, read):
    done = ledger_command(restored, words)
    assert done.exit_code == 0, done.output
    read(done.stdout)
    assert done.stdout[0] in "{n", "nothing stands before it"
    assert "entered from the audit log: 2 spend(s)" in done.stderr


def test_what_a_damaged_log_still_knows_is_entered_with_a_warning(restored):
    (file,) = segments(restored.audit_log.folder)
    file.write_bytes(file.read_bytes().replace(b'"round": 0', b'"round": 5').replace(b'"round":0', b'"round":5'))
    done = ledger_command(restored)
    assert "warning: the audit log is damaged" in done.stderr
    assert "1 spend(s)" in done.stderr, "the changed entry is not believed"


def test_without_an_audit_log_nothing_is_said_to_be_entered(tmp_path):
    done = ledger_command(write_site(tmp_path / "new"))
    assert isinstance(done.exception, UserError)
    assert "no audit log is there" in str(done.exception)


def test_a_form_without_its_run_enters_nothing(restored):
    done = CliRunner().invoke(command, ["ledger", "--form", "--from-audit-log", "--config", str(restored.base)])
    assert "--form: name the run" in str(done.exception)
    assert restored.privacy_ledger.spends() == []
