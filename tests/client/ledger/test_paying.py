"""A site pays for what leaves before it is computed; without budget it leaves the run, and the run continues."""

import json

import numpy as np
import pytest

from remind.errors import UserError
from remind.federation.messages import Refusal
from remind.metrics.statistics import GroupLoss
from remind.privacy.accounting import Mechanism, compose, epsilon
from remind_client.audit.log import AuditLog
from remind_client.engine.model_state import ModelState
from remind_client.engine.private_steps import PrivateSteps
from remind_client.ledger.budget import BudgetError
from remind_client.ledger.spender import Spender
from remind_client.policy.suppress import suppress_report
from remind_client.refusal import words_for, words_within
from remind_server.outputs.progress import Progress
from remind_server.outputs.run_folder import RunFolder
from remind_server.rounds.collect import LEFT
from remind_server.rounds.strategy import FedRemind
from tests.builders.grids import SiteGrid
from tests.builders.observers import Recorder
from tests.builders.private_sites import SECRET, examination, only, private_site, question, rows

DELTA = 1e-5


def test_rounds_and_counts_are_paid_with_what_the_noise_is(tmp_path):
    site = private_site(tmp_path)
    site.enrol()
    for round_ in range(3):
        site.train(*question(site, round_))
    private = site.engine.patients.private
    assert private.schedule.round == Mechanism("gradient", 1.0, private.schedule.rate, 2)
    spent = site.spender.ledger.run_total("1").epsilon(DELTA)
    assert spent == pytest.approx(epsilon(compose([private.schedule.counted, *[private.schedule.round] * 3]), DELTA))


def test_the_same_question_is_paid_once_and_another_global_model_again(tmp_path):
    site = private_site(tmp_path)
    for asked in (question(site, 0), question(site, 0), question(site, 0, seed=1)):
        site.train(*asked)
    assert rows(site, "gradient") == [0, 0]
    assert rows(site, "counts") == [None]


def test_enrolling_again_costs_nothing_unless_there_are_other_patients(tmp_path):
    site = private_site(tmp_path)
    assert site.enrol().counts == private_site(tmp_path).enrol().counts
    assert rows(site, "counts") == [None]
    private_site(tmp_path, mix=[1, 1, 3] * 9).enrol()
    assert rows(site, "counts") == [None, None]


def test_the_same_question_about_another_state_of_the_cohort_gets_other_noise_and_is_paid(tmp_path):
    """With the same noise the difference of the two answers would be exact."""
    one, other = private_site(tmp_path / "1", version="a"), private_site(tmp_path / "1", version="b")
    keys = [site._releases().pay_for_round(question(site, 0)[0], "the question", {}) for site in (one, other)]
    assert keys[0] != keys[1]
    assert rows(one, "gradient") == [0, 0]


def test_without_budget_nothing_is_computed_and_the_words_that_leave_hold_no_number(tmp_path, monkeypatch):
    site = private_site(tmp_path, limits=only(0.01))
    monkeypatch.setattr(ModelState, "receive", lambda *_: pytest.fail("it computed"))
    with pytest.raises(BudgetError) as caught:
        site.train(*question(site, 0))
    assert words_for(caught.value) == "the privacy budget of this site is used up; it takes no further part in this run"
    assert "epsilon of 0.01" in words_within(caught.value)
    assert rows(site, "gradient") == []


def test_a_spend_is_in_the_audit_log_before_anything_is_computed(tmp_path, monkeypatch):
    site, log = private_site(tmp_path), AuditLog(tmp_path / "audit")
    site.spender = Spender(site.spender.ledger, "1", (), log)
    seen = []
    monkeypatch.setattr(ModelState, "receive", lambda *_: (seen.extend(log.entries()), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        site.train(*question(site, 0))
    kinds = [release["what"] for entry in seen for release in entry["releases"]]
    assert kinds == ["counts", "gradient"]


def test_the_final_examination_is_paid_once_for_test_and_validation_patients(tmp_path):
    site = private_site(tmp_path, {"privacy.scores-least": 1, "privacy.scores-noise": 0.3})
    site.train(*question(site, 0))
    first, again = site.examine(*examination(site, 1)), site.examine(*examination(site, 1))
    assert rows(site, "scores") == [1, 1]
    assert (first.test, first.validation) == (again.test, again.validation)
    assert first.test
    assert first.test.keys() <= site.engine.patients.counts.keys()
    assert all(one.loss_sum == one.log_loss_sum for one in first.test.values())


def test_an_examination_without_budget_sends_no_score_and_the_model_stays(tmp_path):
    site = private_site(tmp_path, {"privacy.scores-least": 1, "privacy.scores-noise": 0.3})
    site.train(*question(site, 0))
    site.spender = Spender(site.spender.ledger, "1", only(site.spender.ledger.run_total("1").epsilon(DELTA)))
    found = site.examine(*examination(site, 1))
    assert (found.test, found.validation) == ({}, {})
    assert site.store.model().round == 1


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """Three hospitals, four rounds of warm-up and one of routing; the budget of one ends in round 3."""
    root = tmp_path_factory.mktemp("left")
    names = {"federation.min-sites": 2}
    sites = [private_site(root / name, names, name=name) for name in ("a", "b", "c")]
    schedule = sites[1].engine.patients.private.schedule
    two = compose([schedule.counted, *[schedule.round] * 2])
    sites[1] = private_site(root / "b", names, limits=only(epsilon(two, DELTA) * 1.001), name="b")
    recorder, folder = Recorder(), RunFolder(root / "results")
    FedRemind(sites[0].config, [recorder, folder]).run(SiteGrid(sites))
    return recorder, sites, root / "results"


def test_a_site_whose_budget_ends_leaves_the_run_in_order_and_the_run_goes_on(left):
    recorder, sites, _ = left
    assert [record.answered for record in recorder.rounds] == [("a", "b", "c")] * 2 + [("a", "c")] * 3
    assert "epsilon_per_run allows" in recorder.rounds[2].absent["b"]
    for record in recorder.rounds[3:]:
        assert record.absent["b"].startswith("left the run in round 3: ")
        assert record.how["b"] == LEFT
        assert record.late == ()
    assert rows(sites[1], "gradient") == [0, 1]
    assert rows(sites[0], "gradient") == [0, 1, 2, 3, 4]


def test_who_left_is_not_asked_again_but_examined(left):
    recorder, sites, _ = left
    assert recorder.result.absent == {}
    assert sites[1].store.model().round == 5


def test_the_attendance_of_the_run_says_who_left(left):
    *_, results = left
    summary = json.loads(next(results.rglob("summary.json")).read_text())
    assert summary["missed_how"]["b"] == {"left": 3}


def test_a_run_with_too_few_left_ends_with_what_each_said(tmp_path):
    sites = [private_site(tmp_path / name, {"federation.min-sites": 2}, name=name) for name in "ab"]
    ledger = sites[1].spender.ledger
    sites[1]._releases().pay_for_counts()
    sites[1].spender = Spender(ledger, "1", only(ledger.run_total("1").epsilon(DELTA)))
    with pytest.raises(UserError, match=r"1 valid replies(.|\n)*- b: refused: policy\.privacy\.epsilon_per_run allows"):
        FedRemind(sites[0].config, [Recorder()]).run(SiteGrid(sites))


def test_a_refusal_says_whether_the_site_leaves():
    assert not Refusal(reason="busy").leaves
    assert np.array_equal([Refusal.model_validate_json('{"reason": "x", "leaves": true}').leaves], [True])


def test_what_was_spent_is_in_the_run_s_summary_and_on_its_last_screen(left, capsys):
    recorder, sites, results = left
    summary = json.loads((results / "summary.json").read_text())["privacy"]
    assert summary.keys() == {"a", "b", "c"}
    for site in sites:
        told, spent = summary[site.name], site.spender.ledger.run_total("1").epsilon(DELTA)
        assert told["epsilon"] == pytest.approx(spent)
        assert told["left"] == pytest.approx(site.spender.limits[0].epsilon - spent)
        assert told["releases"].keys() == {"training counts", "training gradient"}
    Progress(print).finished(recorder.result)
    shown = capsys.readouterr().out
    assert f"privacy of a: epsilon {summary['a']['epsilon']:.2f} at delta 1e-05 spent" in shown


@pytest.mark.parametrize("tell", [True, False])
def test_the_policy_decides_whether_the_coordinator_is_told(tmp_path, tell):
    site = private_site(tmp_path)
    report, _ = site.train(*question(site, 0))
    assert report.privacy.epsilon > 0
    assert (suppress_report(report, site.engine.patients.counts, 1, tell).privacy is not None) == tell
    assert suppress_report(report, site.engine.patients.counts, 1).privacy is None


TELLS = {
    "privacy.loss-every": 2,
    "privacy.loss-noise": 0.01,
    "method.objective": "groupdro",
    "federation.max-loss": 2.0,
}


def test_loss_sums_leave_every_few_rounds_are_paid_and_move_lambda(tmp_path):
    sites = [private_site(tmp_path / name, TELLS, name=name) for name in "ab"]
    recorder = Recorder()
    FedRemind(sites[0].config, [recorder]).run(SiteGrid(sites))
    assert rows(sites[0], "losses") == [1, 3]
    moved = [record.weights_used != record.weights_after for record in recorder.rounds]
    assert moved == [False, True, False, True, False]
    assert [bool(record.risks) for record in recorder.rounds] == moved
    told = sites[0].spender.spent().releases
    assert told["training losses"] == pytest.approx(epsilon(compose([Mechanism("losses", 0.01)] * 2), DELTA), rel=1e-6)


def test_a_released_loss_sum_is_bounded_and_has_the_noise_that_is_paid_for(tmp_path):
    private = private_site(tmp_path, TELLS | {"privacy.loss-noise": 5.0}).engine.patients.private
    most = 2 * np.log(2)
    found = [private.noisy_losses({k: GroupLoss(9, 4.0) for k in private.counts}, most, str(i)) for i in range(300)]
    for k, n in private.counts.items():
        sums = np.array([one[k].loss_sum for one in found])
        assert {one[k].count for one in found} == {n}
        assert 0 <= sums.min() <= sums.max() <= n * most
    wide = PrivateSteps(private.config, SECRET, dict.fromkeys(range(1, 8), 10**6))
    middle = {k: GroupLoss(1, 5e5) for k in wide.counts}
    errors = [one.loss_sum - 5e5 for i in range(100) for one in wide.noisy_losses(middle, most, str(i)).values()]
    assert np.std(errors) == pytest.approx(5.0 * most, rel=0.1)


def test_losses_take_their_part_of_epsilon_from_the_steps(tmp_path):
    given = {"privacy.noise": 0.0, "privacy.epsilon": 8.0, "privacy.counts-noise": 5.0}
    plain = private_site(tmp_path / "1", given).engine.patients.private
    tells = given | {"privacy.loss-every": 1, "privacy.loss-noise": 4.0}
    telling = private_site(tmp_path / "2", tells).engine.patients.private
    assert telling.schedule.noise > plain.schedule.noise
    whole = compose([telling.schedule.counted, *(each for r in range(5) for each in telling.schedule.releases(r))])
    assert 7.9 < epsilon(whole, DELTA) <= 8.0
