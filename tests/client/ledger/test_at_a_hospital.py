"""A hospital with a policy of privacy, behind its real door: what is refused, spent, logged and told."""

import pytest

from remind.data.synthetic.write import write_cohort
from remind.federation.messages import Enrolment, Refusal, Report
from remind_client import app as app_module
from tests.builders.cohorts import cohort
from tests.builders.private_doors import ENROL, POLICY, ask, first_task
from tests.builders.private_sites import given_scale
from tests.builders.site_files import write_site


@pytest.fixture
def hospital(tmp_path, monkeypatch):
    def made(more=""):
        site = write_site(tmp_path / "site", POLICY + more)
        write_cohort(cohort([1] * 40 + [3] * 30, of=given_scale()), site.path(site.cohort))
        monkeypatch.setenv("REMIND_SITE", str(tmp_path / "site"))
        monkeypatch.setattr(app_module, "_sites", {})
        return site

    return made


def test_a_round_is_paid_logged_and_not_told(hospital):
    site = hospital()
    enrolment = ask(site, ENROL, "query")
    assert isinstance(enrolment, Enrolment), enrolment
    report = ask(site, first_task(enrolment), "train")
    assert isinstance(report, Report), report
    assert (report.train, report.validation, report.privacy) == ({}, {}, None)
    spent = [row.release.mechanism.what for row in site.privacy_ledger.spends()]
    assert spent == ["counts", "gradient"]
    events = [entry["event"] for entry in site.audit_log.entries()]
    assert events == ["asked", "spent", "answered", "asked", "spent", "answered"]
    again = ask(site, first_task(enrolment), "train")
    assert again == report
    assert len(site.privacy_ledger.spends()) == 2


def test_the_policy_may_tell(hospital):
    site = hospital("tell = true\nepsilon_for_life = 60.0\n")
    report = ask(site, first_task(ask(site, ENROL, "query")), "train")
    told = report.privacy
    assert told.releases.keys() == {"training counts", "training gradient"}
    assert told.left == pytest.approx(50.0 - told.epsilon)


def test_a_hospital_without_budget_leaves_with_one_message_without_numbers(hospital):
    site = hospital("epsilon_for_life = 50.0\n")
    little = {"privacy.noise": 0.01}
    enrolment = ask(site, ENROL, "query", little)
    before = site.privacy_ledger.spends()
    refusal = ask(site, first_task(enrolment), "train", little)
    assert refusal == Refusal(
        reason="the privacy budget of this site is used up; it takes no further part in this run", leaves=True
    )
    assert site.privacy_ledger.spends() == before


def test_a_run_without_a_guarantee_is_refused_before_the_app_is_even_loaded(hospital):
    site = hospital()
    changes = {"privacy.mode": "none", "privacy.noise": 0.0, "privacy.epsilon": 8.0, "privacy.counts-noise": 5.0}
    refusal = ask(site, ENROL, "query", changes, load=lambda bundle: pytest.fail("the app was loaded"))
    assert "requires a guarantee for each patient" in refusal.reason
    assert not refusal.leaves
    assert site.privacy_ledger.spends() == []


def test_a_run_keeps_the_settings_with_which_it_enrolled_the_hospital(hospital):
    """Its groups were released, and its keys dealt, for those; a resumed run has the same."""
    site = hospital()
    task = first_task(ask(site, ENROL, "query"))
    for content, kind in ((task, "train"), (ENROL, "query")):
        refusal = ask(site, content, kind, {"train.lr": 0.02}, load=lambda bundle: pytest.fail("the app was loaded"))
        assert "enrolled the site with other settings" in refusal.reason
    assert isinstance(ask(site, task, "train", {"run.resume": True, "run.id": "7"}), Report)
    assert isinstance(ask(site, ENROL, "query", {"train.lr": 0.02, "run.id": "another"}), Enrolment)
