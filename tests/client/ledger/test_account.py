"""`remind-site ledger`: what was spent on what, run by run, and what is left; and what the audit log knows of it."""

import csv
import io
import json
import math

import pytest

from remind.errors import UserError
from remind.privacy.accounting import Mechanism, compose, epsilon
from remind_client.audit.events import Answered, SentTensor
from remind_client.audit.log import AuditLog
from remind_client.checks.local import check_ledger
from remind_client.ledger.account import account_of, by_kind
from remind_client.ledger.budget import TEST, TRAINING, Limit, Release
from remind_client.ledger.spender import Spender
from remind_client.ledger.spends import PrivacyLedger
from remind_client.site_config import load_site_config
from tests.builders.ledgers import shown

DELTA = 1e-5
STEP, COUNTS, SCORES = Mechanism("gradient", 2.0, 0.25, 10), Mechanism("counts", 5.0), Mechanism("scores", 3.0)
SITE = """
site = "s"
cohort = "cohort"
[coordinator]
address = "localhost:1"
consortium = "c"
ca_certificate = "ca.pem"
[vault]
enabled = false
"""
LIMITED = '[policy.privacy]\nrequire = ["site"]\nepsilon_per_run = 6.0\nepsilon_for_life = 9.0\n'


@pytest.fixture
def site(tmp_path):
    (tmp_path / "site.toml").write_text(SITE + LIMITED)
    return load_site_config(tmp_path)


def fill(ledger, log=None, run="7"):
    spender = Spender(ledger, run, (), log)
    spender.pay(None, "e", [Release(TRAINING, COUNTS)])
    for round_ in range(3):
        spender.pay(round_, str(round_), [Release(TRAINING, STEP)])
    spender.pay(3, "t", [Release(TEST, SCORES)])


def test_json_holds_what_was_spent_on_what_and_what_is_left(site):
    fill(site.privacy_ledger)
    account = json.loads(shown(site, "--json"))
    (run,) = account["runs"]
    spent = epsilon(compose([COUNTS, *[STEP] * 3]), DELTA)
    assert run["epsilon"] == pytest.approx(spent)
    assert run["left"] == pytest.approx(6 - spent)
    assert account["left"] == pytest.approx(9 - spent)
    found = {(line["part"], line["what"]): (line["rounds"], line["steps"]) for line in run["lines"]}
    assert found == {("training", "counts"): (1, 1), ("training", "gradient"): (3, 30), ("test", "scores"): (1, 1)}
    by_line = {line["what"]: line["epsilon"] for line in run["lines"]}
    assert by_line["gradient"] == pytest.approx(epsilon(3 * STEP.curve(), DELTA))


def test_csv_is_a_row_per_spend(site):
    fill(site.privacy_ledger)
    rows = list(csv.DictReader(io.StringIO(shown(site, "--csv"))))
    assert [row["release"] for row in rows] == ["counts", "gradient", "gradient", "gradient", "scores"]
    assert [row["round"] for row in rows] == ["", "1", "2", "3", "4"]


def test_the_table_names_runs_and_life(site):
    fill(site.privacy_ledger)
    fill(site.privacy_ledger, run="8")
    text, one = shown(site), shown(site, "8")
    assert "run 7," in text
    assert "run 8," in text
    assert "for life" in text
    assert "run 7," not in one
    assert one.splitlines()[-3] == text.splitlines()[-3], "the line for life is of all runs"


def test_nothing_spent_and_an_unknown_run_are_said(site):
    assert shown(site) == "nothing has been spent\n"
    fill(site.privacy_ledger)
    with pytest.raises(UserError, match=r"'9' has spent nothing here; runs that have: 7"):
        shown(site, "9")
    with pytest.raises(UserError, match="give one of them"):
        shown(site, "--json", "--csv")


def test_without_limits_nothing_is_left_to_tell(tmp_path):
    fill(PrivacyLedger(tmp_path))
    account = account_of(PrivacyLedger(tmp_path), DELTA)
    assert account.left is None
    assert account.runs[0].left is None


def test_by_kind(tmp_path):
    fill(PrivacyLedger(tmp_path))
    found = by_kind(PrivacyLedger(tmp_path).spends(), DELTA)
    assert found == {
        "training counts": pytest.approx(epsilon(COUNTS.curve(), DELTA)),
        "training gradient": pytest.approx(epsilon(3 * STEP.curve(), DELTA)),
        "test scores": pytest.approx(epsilon(SCORES.curve(), DELTA)),
    }


def test_every_spend_is_in_the_audit_log_those_of_a_killed_process_too(site):
    site.privacy_ledger.spend("7", 0, "killed before it was logged", [Release(TRAINING, STEP)], ())
    fill(site.privacy_ledger, site.audit_log)
    fill(site.privacy_ledger, site.audit_log)  # the same questions again
    logged = [n for entry in site.audit_log.entries() if entry["event"] == "spent" for n in entry["numbers"]]
    assert logged == [row.number for row in site.privacy_ledger.spends()]


def test_a_ledger_that_lost_what_the_audit_log_knows_is_found(site):
    fill(site.privacy_ledger, site.audit_log)
    (finding,) = check_ledger(site)
    assert finding.level == "ok"
    for file in site.privacy_ledger.folder.iterdir():
        file.unlink()
    (finding,) = check_ledger(site)
    assert "5 spend(s) of the audit log are not in it" in finding.seen


def test_a_budget_that_is_spent_for_life_is_found(site):
    release = Release(TRAINING, Mechanism("gradient", 0.5))
    Spender(site.privacy_ledger, "7", (Limit("x", 100.0, DELTA),), site.audit_log).pay(0, "a", [release])
    (finding,) = check_ledger(site)
    assert (finding.level, "for life is spent" in finding.seen) == ("warning", True)


def test_the_log_is_not_needed_by_a_virtual_hospital(tmp_path):
    fill(PrivacyLedger(tmp_path / "a"), None)
    log = AuditLog(tmp_path / "audit")
    fill(PrivacyLedger(tmp_path / "b"), log)
    assert len([e for e in log.entries() if e["event"] == "spent"]) == 5


def answered(log, answer, tensors=0):
    sent = tuple(SentTensor(name=f"t{i}", bytes=100) for i in range(tensors))
    log.append(Answered(run="7", request="train", round=0, answer=answer, tensors=sent))


def test_the_form_says_what_left_how_often_to_whom_and_under_which_guarantee(site):
    fill(site.privacy_ledger, site.audit_log)
    answered(site.audit_log, "Enrolment")
    for _ in range(3):
        answered(site.audit_log, "Report", tensors=2)
    text = shown(site, "7", "--form")
    spent = epsilon(compose([COUNTS, *[STEP] * 3]), DELTA)
    assert "localhost:1" in text
    assert f"**epsilon {spent:.3g} at delta 1e-05**; the policy leaves this run {6 - spent:.3g}" in text
    assert "| Report | changes of the model" in text
    assert "| 3 | 2 | 600 |" in text
    assert "| training | gradient | 3 | 30 | 2 | 0.25 |" in text
    assert f"at most {math.exp(spent):.3g}-fold" in text


def test_the_form_of_a_run_without_a_guarantee_says_so(site):
    answered(site.audit_log, "Report", tensors=1)
    text = shown(site, "7", "--form")
    assert "None per patient." in text
    assert "can find which patients were in a small group" in text
    assert "epsilon" not in text


def test_a_form_needs_a_run_that_was_here(site):
    for options, words in ((["--form"], "name the run"), (["9", "--form"], "knows a run '9'")):
        with pytest.raises(UserError, match=words):
            shown(site, *options)
